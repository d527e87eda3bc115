//! Training: the step and the loop. **The file to read first.**
//!
//! One step is six calls, all downwards:
//!
//! ```text
//! prompt.forward    the encoder computes the pseudo tokens' vectors                     method/, prompt/encoder.rs
//! model.forward     embeddings with the prompt in place, blocks, head                   model/
//! head.loss         cross-entropy over labels or words, and its gradient                method/head.rs
//! model.backward    the gradient of the prompt's rows, and of the weights if trained    model/
//! prompt.backward   the gradients of the encoder's parameters                           method/, prompt/encoder.rs
//! optimizer.step    clip, decay, Adam; a trained model then takes its new weights over  train/optimizer.rs
//! ```
//! The loop goes through the rows epoch by epoch, evaluates on dev every `eval_every` steps and keeps the best prompt.

mod batches;
pub mod bench;
pub mod config;
pub mod evaluate;
pub mod events;
mod kept;
pub mod log;
pub mod metrics;
mod optimizer;
mod prepare;
mod run;
mod state;
mod task;

pub use config::RunConfig;
pub use optimizer::{GroupRecipe, Optimizer, Recipe, Schedule};
pub use run::{Options, Summary, finished, run, run_with};
pub use task::Task;
pub(crate) use task::open_tokenizer;

use crate::method::{Head, Prompt};
use crate::model::{Columns, Inject, Model, Past};
use crate::ops::Layout;
use crate::parameter::Parameter;
use crate::rng::{Purpose, Rng};
use crate::tensor::Device;
use crate::{Error, Result};
use metrics::Metrics;

/// What a run tells while it works; the library itself prints nothing.
pub enum Event<'a> {
    /// Tensors of the model read so far.
    Loading {
        /// Tensors read.
        done: usize,
        /// Tensors in all.
        total: usize,
    },
    /// Something the user should know.
    Note(&'a str),
    /// A training step was made.
    Step {
        /// Steps made.
        step: usize,
        /// Steps of the run.
        steps: usize,
        /// Mean loss of the batch.
        loss: f64,
        /// Training examples a second so far, evaluations not counted.
        examples_per_s: f64,
        /// The best dev metric so far, by name.
        dev: Option<(&'a str, f64)>,
    },
    /// Rows evaluated so far.
    Evaluating {
        /// Rows done.
        done: usize,
        /// Rows in all.
        total: usize,
    },
    /// An evaluation on dev ended.
    Evaluated {
        /// Steps made.
        step: usize,
        /// The metrics.
        metrics: &'a Metrics,
        /// Whether this is the best so far: its prompt is kept.
        best: bool,
    },
}

/// Everything a step needs.
pub struct Trainer<'a> {
    /// The model, frozen or trained.
    pub model: Model,
    /// The columns of its head that the loss needs.
    pub columns: Columns,
    /// The prompt, trained.
    pub prompt: Prompt,
    /// What turns logits into a loss.
    pub head: &'a Head,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Where it is done.
    pub device: &'a Device,
}

impl<'a> Trainer<'a> {
    /// A trainer whose optimiser moves the prompt and what of the model is trained.
    pub fn new(
        model: Model,
        columns: Columns,
        prompt: Prompt,
        head: &'a Head,
        recipe: Recipe,
        device: &'a Device,
    ) -> Self {
        let optimizer = Optimizer::new(device, recipe, prompt.parameters().iter().chain(model.parameters()));
        Trainer { model, columns, prompt, head, optimizer, device }
    }

    /// Everything that is trained, in the optimiser's order.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.prompt.parameters().iter().chain(self.model.parameters())
    }

    /// One training step on a packed batch with its targets (label indices, or token ids when probing); the mean loss before
    /// the step. `past` is what the layout's past rows are rows of; `share` of each group's learning rate is what the
    /// schedule says.
    pub fn step(&mut self, layout: &Layout, past: Option<&Past>, targets: &[u32], share: f64) -> f64 {
        let prompt = self.prompt.forward(self.device);
        let inject = Inject { past, ..prompt.inject() };
        let (logits, saved) = self.model.forward(layout, &inject, &self.columns);
        let loss = self.head.loss(self.device, &logits, targets);
        let gradients = self.model.backward(&loss.d_logits, &saved, layout, &inject, &self.columns);
        self.prompt.backward(self.device, gradients.prompt_embeds.as_ref(), prompt);
        let parameters = self.prompt.parameters_mut().iter_mut().chain(self.model.parameters_mut());
        self.optimizer.step(self.device, parameters, share);
        self.model.repack(&mut self.columns);
        loss.mean
    }
}

/// The order of the training rows, epoch after epoch: batches of row numbers. The last batch of an epoch may be short.
pub struct Order {
    rows: Vec<usize>,
    batch_size: usize,
    /// `None`: file order.
    seed: Option<u64>,
    epoch: u32,
    at: usize,
}

impl Order {
    /// An order over `rows` rows, shuffled anew each epoch when there is a seed.
    pub fn new(rows: usize, batch_size: usize, seed: Option<u64>) -> Self {
        Order { rows: (0..rows).collect(), batch_size, seed, epoch: 0, at: rows }
    }

    /// Batches of an epoch.
    pub fn batches_per_epoch(rows: usize, batch_size: usize) -> usize {
        rows.div_ceil(batch_size)
    }

    /// Goes to where a new order is after `batches` batches.
    pub fn go_to(&mut self, batches: usize) {
        let a_epoch = Self::batches_per_epoch(self.rows.len(), self.batch_size).max(1);
        (self.epoch, self.at) = (u32::try_from(batches / a_epoch).unwrap_or(u32::MAX), self.rows.len());
        if !batches.is_multiple_of(a_epoch) {
            self.begin_epoch();
            self.at = batches % a_epoch * self.batch_size;
        }
    }

    /// The next batch's row numbers.
    pub fn next_batch(&mut self) -> &[usize] {
        if self.at >= self.rows.len() {
            self.begin_epoch();
        }
        let batch = self.at..self.rows.len().min(self.at + self.batch_size);
        self.at = batch.end;
        &self.rows[batch]
    }

    fn begin_epoch(&mut self) {
        if let Some(seed) = self.seed {
            // From file order each time: an epoch's order depends on its number alone.
            self.rows.sort_unstable();
            Rng::new(seed, Purpose::Shuffle(self.epoch)).shuffle(&mut self.rows);
        }
        self.epoch += 1;
        self.at = 0;
    }
}

/// Refuses to go on with a loss that is not a number.
fn check_loss(loss: f64, step: usize) -> Result<()> {
    if loss.is_finite() { Ok(()) } else { Err(diverged(step)) }
}

/// The training ran away.
fn diverged(step: usize) -> Error {
    Error::Failed(format!("the training left the finite numbers at step {step}; try a smaller train.learning_rate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_shows_every_row_once_and_the_next_in_another_order() {
        let mut order = Order::new(10, 4, Some(0));
        let mut epoch = || (0..3).flat_map(|_| order.next_batch().to_vec()).collect::<Vec<_>>();
        let (mut first, second) = (epoch(), epoch());
        assert_ne!(first, second);
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn an_order_goes_on_after_any_number_of_batches() {
        for seed in [None, Some(5)] {
            for batches in 0..10 {
                let (mut order, mut resumed) = (Order::new(10, 4, seed), Order::new(10, 4, seed));
                resumed.go_to(batches);
                (0..batches).for_each(|_| drop(order.next_batch().to_vec()));
                for _ in 0..7 {
                    assert_eq!(order.next_batch(), resumed.next_batch(), "after {batches} batches");
                }
            }
        }
    }

    #[test]
    fn without_a_seed_rows_come_in_file_order() {
        let mut order = Order::new(5, 2, None);
        assert_eq!(order.next_batch(), [0, 1]);
        assert_eq!(order.next_batch(), [2, 3]);
        assert_eq!(order.next_batch(), [4]);
        assert_eq!(order.next_batch(), [0, 1]);
    }
}
