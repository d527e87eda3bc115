//! From row numbers to what a step computes: packed rows, targets, and what the rows stand behind.

use super::kept::Kept;
use crate::data::{Beginning, Labelled, pack, pack_from};
use crate::model::{Model, Past};
use crate::ops::Layout;
use crate::rng::{Purpose, Rng};
use crate::tensor::Device;
use crate::train::Task;
use crate::train::config::RunConfig;

/// The training rows of one run or several as batches.
pub(super) struct Batches<'a> {
    /// Of any of the runs: they differ in their seeds.
    config: &'a RunConfig,
    examples: &'a [Labelled],
    /// Where the rows begin with what can be kept.
    kept: Option<Kept>,
    /// Rows of the prefix that the rows stand behind.
    prefix: usize,
}

/// The rows that a run takes at a step.
pub(super) struct Rows<'r> {
    /// The seed of the run.
    pub(super) seed: u64,
    pub(super) step: usize,
    pub(super) numbers: &'r [usize],
}

impl Rows<'_> {
    fn targets(&self, examples: &[Labelled]) -> Vec<u32> {
        self.numbers.iter().flat_map(|&row| &examples[row].targets).copied().collect()
    }
}

impl<'a> Batches<'a> {
    /// Batches of these rows, for up to `runs` runs at once.
    pub(super) fn new(
        config: &'a RunConfig,
        task: &Task,
        model: &Model,
        examples: &'a [Labelled],
        runs: usize,
    ) -> Self {
        // Not where the weights move, or what is dropped; pseudo tokens in front are shared by a batch instead.
        // Behind a prefix every row moves with it.
        let prefix = task.prefix_tokens().unwrap_or(0);
        let still = config.backbone.mode.is_frozen() && config.backbone.dropout == 0.0 && prefix == 0;
        let keeps = still && model.spec().causal && task.template.begins_with_frozen_text();
        let most = config.train.batch_size.saturating_mul(runs);
        let kept = keeps.then(|| Kept::new(examples, most, config.train.keep_mb << 20));
        Batches { config, examples, kept, prefix }
    }

    /// The batches of these rows, each with its targets.
    pub(super) fn pack(&mut self, model: &Model, device: &Device, wanted: &[Rows<'_>]) -> Vec<(Layout, Vec<u32>)> {
        let examples = self.examples;
        let layouts: Vec<Layout> = match &mut self.kept {
            Some(kept) => {
                let numbers: Vec<&[usize]> = wanted.iter().map(|rows| rows.numbers).collect();
                kept.pack(model, device, examples, &numbers)
            }
            None => wanted.iter().map(|rows| self.with_dropout(rows).behind(self.prefix)).collect(),
        };
        let targets = wanted.iter().map(|rows| rows.targets(examples));
        layouts.into_iter().zip(targets).collect()
    }

    /// What the rows packed last stand behind.
    pub(super) fn past(&self) -> Option<&Past> {
        self.kept.as_ref().and_then(Kept::past)
    }

    fn with_dropout(&self, rows: &Rows<'_>) -> Layout {
        let encoded = rows.numbers.iter().map(|&row| &self.examples[row].encoded);
        let dropout = self.config.backbone.dropout as f32;
        if dropout == 0.0 {
            return pack(encoded);
        }
        // What is dropped of an example goes with the example, so it has rows of its own.
        let step = u32::try_from(rows.step).unwrap_or(u32::MAX);
        let seed = Rng::new(rows.seed, Purpose::Dropout(step)).next_u64();
        pack_from(encoded.map(|row| (row, Beginning::Own))).with_dropout(dropout, seed, rows.numbers)
    }
}
