//! From row numbers to what a step computes: packed rows, targets, and what the rows stand behind.

use super::kept::Kept;
use crate::data::{Beginning, Labelled, pack, pack_from};
use crate::model::{Model, Past};
use crate::ops::Layout;
use crate::rng::{Purpose, Rng};
use crate::tensor::Device;
use crate::train::Task;
use crate::train::config::RunConfig;

/// The training rows of a run as batches.
pub(super) struct Batches<'a> {
    config: &'a RunConfig,
    examples: &'a [Labelled],
    /// Where the rows begin with what can be kept.
    kept: Option<Kept>,
}

impl<'a> Batches<'a> {
    /// Batches of these rows.
    pub(super) fn new(config: &'a RunConfig, task: &Task, model: &Model, examples: &'a [Labelled]) -> Self {
        // Not where the weights move, or what is dropped; pseudo tokens in front are shared by a batch instead.
        let still = !config.backbone.mode.is_full() && config.backbone.dropout == 0.0;
        let keeps = still && model.spec().causal && task.template.begins_with_frozen_text();
        let kept = keeps.then(|| Kept::new(examples, config.train.batch_size, config.train.keep_mb << 20));
        Batches { config, examples, kept }
    }

    /// The batch of these rows at a step, and its targets.
    pub(super) fn pack(&mut self, model: &Model, device: &Device, step: usize, batch: &[usize]) -> (Layout, Vec<u32>) {
        let encoded = || batch.iter().map(|&row| &self.examples[row].encoded);
        let dropout = self.config.backbone.dropout as f32;
        let layout = match &mut self.kept {
            Some(kept) => kept.pack(model, device, self.examples, batch),
            None if dropout == 0.0 => pack(encoded()),
            // What is dropped of an example goes with the example, so it has rows of its own.
            None => {
                let step = u32::try_from(step).unwrap_or(u32::MAX);
                let seed = Rng::new(self.config.seed, Purpose::Dropout(step)).next_u64();
                pack_from(encoded().map(|row| (row, Beginning::Own))).with_dropout(dropout, seed, batch)
            }
        };
        (layout, batch.iter().map(|&row| self.examples[row].target).collect())
    }

    /// What the rows of the batch packed last stand behind.
    pub(super) fn past(&self) -> Option<&Past> {
        self.kept.as_ref().and_then(Kept::past)
    }
}
