//! Training: the step and the loop. **The file to read first.**
//!
//! One step is six calls, all downwards:
//!
//! ```text
//! prompts.forward   the encoder computes the pseudo tokens' vectors, or a prefix        method/, prompt/encoder.rs
//! model.forward     embeddings with the prompt in place, blocks, head                   model/
//! losses            cross-entropy over labels or words, and its gradient                learner.rs, method/head.rs
//! model.backward    the gradient of the prompt's rows, and of the weights if trained    model/
//! prompts.backward  the gradients of the encoder's parameters                           method/, prompt/encoder.rs
//! optimize          clip, decay, Adam; a trained model then takes its new weights over  learner.rs, optimizer.rs
//! ```
//! Several prompts may take the step together: the model runs once over the rows of all, the rest is done for each.
//! The loop goes through the rows epoch by epoch, evaluates on dev every `eval_every` steps and keeps the best prompt.

mod batches;
mod before_model;
pub mod bench;
pub mod config;
pub mod evaluate;
pub mod events;
mod kept;
mod learner;
pub mod log;
pub mod metrics;
mod optimizer;
mod order;
pub(crate) mod prepare;
pub(crate) mod run;
pub(crate) mod state;
pub(crate) mod task;

pub use before_model::{check_directory, check_files};
pub use config::RunConfig;
pub use learner::{Batch, Learner};
pub use optimizer::{GroupRecipe, Optimizer, Recipe, Schedule};
pub use order::Order;
pub(crate) use prepare::{describe_base, new_prompt};
pub(crate) use run::describe;
pub use run::{Options, Summary, finished, run, run_seeds, run_with, seed_directory};
pub use task::Task;
pub(crate) use task::{open_tokenizer, tokens_around};

use crate::Error;
use crate::method::{Head, StepPrompts, Trained};
use crate::model::{Columns, Model, Past};
use crate::tensor::Device;
use learner::{Joined, columns_for, join, lora_rows, losses, take_gradients};
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
        /// The seed of the run: several may train together.
        seed: u64,
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
    /// A run has made its last step; the test rows come next.
    Trained {
        /// The model as it is now: every weight of one that is not trained itself is what it was.
        model: &'a Model,
        /// What was trained.
        learner: &'a Learner<'a>,
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
        /// The seed of the run.
        seed: u64,
        /// Steps made.
        step: usize,
        /// The metrics.
        metrics: &'a Metrics,
        /// Whether this is the best so far: its prompt is kept.
        best: bool,
    },
}

/// A model that one prompt is trained over, or several at once: a frozen model's rows do not depend on one another, so
/// that each [`Learner`] comes to the same bits in company as alone (in f32), low-rank additions included. A model that is
/// trained along has one.
pub struct Trainer<'a> {
    /// The model, frozen or trained.
    pub model: Model,
    /// The columns of its head that the losses need.
    pub columns: Columns,
    /// Where it is done.
    pub device: &'a Device,
}

impl<'a> Trainer<'a> {
    /// A trainer, and a learner for each prompt: its head and how it is optimised stand beside it.
    ///
    /// # Panics
    /// A trained model under several prompts; a classifier beside another head.
    pub fn new<T: Into<Trained>>(
        model: Model,
        prompts: Vec<(T, &'a Head, Recipe)>,
        device: &'a Device,
    ) -> (Self, Vec<Learner<'a>>) {
        assert!(prompts.len() == 1 || model.parameters().is_empty(), "a trained model belongs to one prompt");
        let prompts: Vec<(Trained, _, _)> =
            prompts.into_iter().map(|(trained, head, recipe)| (trained.into(), head, recipe)).collect();
        let gradient = !model.parameters().is_empty() || prompts.iter().any(|(trained, ..)| trained.is_any());
        let (columns, places) = columns_for(prompts.iter().map(|(_, head, _)| *head), &model, gradient);
        let each = prompts.into_iter().zip(places);
        let learners = each.map(|((trained, head, recipe), columns)| {
            let optimizer = Optimizer::new(device, recipe, trained.parameters().chain(model.parameters()));
            let Trained { prompt, classifier, additions } = trained;
            Learner { prompt, classifier, additions, head, columns, optimizer }
        });
        let learners = learners.collect();
        (Trainer { model, columns, device }, learners)
    }

    /// One training step of learners on a batch each; the mean loss of each before the step. `kept` is what the past rows
    /// of all their layouts are rows of, unless they are those of the learner's own prefix.
    pub fn step(
        &mut self,
        learners: &mut [&mut Learner<'_>],
        mut batches: Vec<Batch>,
        kept: Option<&Past>,
    ) -> Vec<f64> {
        let Trainer { model, columns, device } = self;
        let Joined { layout, rows, parts, groups } = join(learners, &mut batches);
        let prompts = StepPrompts::forward(device, model, learners.iter().map(|learner| &learner.prompt));
        let (logits, saved) = model.forward(&layout, &prompts.inject(kept, lora_rows(learners, &rows)), columns);
        let losses = losses(device, logits, (&parts, groups), learners, &batches);
        let inject = prompts.inject(kept, lora_rows(learners, &rows));
        let mut gradients = model.backward(&losses.d_logits, &saved, &layout, &inject, columns);
        take_gradients(learners, std::mem::take(&mut gradients.lora));
        prompts.backward(device, learners.iter_mut().map(|learner| &mut learner.prompt), gradients);
        for (learner, batch) in learners.iter_mut().zip(&batches) {
            learner.optimize(device, model, batch.share);
        }
        model.repack(columns);
        losses.means
    }
}

/// The training ran away.
fn diverged(step: usize) -> Error {
    let message = "try a smaller train.learning_rate";
    Error::Failed(format!("the training left the finite numbers at step {step}; {message}"))
}
