//! A whole run, or one for each of several seeds: read everything, check everything, train, keep the best prompt,
//! evaluate, write.
//!
//! | file | part |
//! |---|---|
//! | `prepare.rs` | before: rows, base, first prompt |
//! | `run/seeds.rs` | the order of it all, for one seed or several over one model |
//! | `run/resume.rs` | what an interrupted run has left, and whether this one may go on from it |
//! | `run/training.rs` | the loop: steps, evaluations on dev, saves |
//! | `run/progress.rs` | what the loop has come to beside its parameters, and `metrics.jsonl` |
//! | `run/finish.rs` | after: the test rows, the summary; and how a prompt becomes the adapter on disk |
//!
//! Nothing is written before all files have been read and found good. The run directory then holds `run.toml` (the run
//! file as resolved), `metrics.jsonl` (a line an evaluation, without times: the same run gives the same bytes),
//! `adapter/`, which is replaced as a whole at every new best, and `state/` (`state.rs`). **The kept prompt is the
//! adapter on disk**: there is no second copy in memory, and an interrupted run leaves its best adapter.
//!
//! The adapter and `metrics.jsonl` may be ahead of the state when a run dies. That does no harm: what is repeated from
//! the state gives the same bytes again.

mod finish;
mod progress;
pub(crate) mod resume;
mod seeds;
mod training;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

pub(crate) use finish::describe;
pub(crate) use progress::Progress;

use crate::adapter::Base;
use crate::method::{Classifier, Injection};
use crate::model::Additions;
use crate::tensor::Device;
use crate::train::config::RunConfig;
use crate::train::evaluate::Scorer;
use crate::train::metrics::Metrics;
use crate::train::prepare::Data;
use crate::train::state::Identity;
use crate::train::{Event, Task, Trainer};
use crate::{Error, Result};
pub use resume::finished;
pub use seeds::{run_seeds, seed_directory};

/// What a run came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Steps made.
    pub steps: usize,
    /// Seconds of training and evaluation, without reading the model; of all its parts when the run was interrupted.
    pub seconds: f64,
    /// Training examples a second, evaluations not counted.
    pub train_examples_per_s: f64,
    /// Numbers trained.
    pub trainable_parameters: usize,
    /// Numbers of the model, which stayed as they were.
    pub frozen_parameters: usize,
    /// Bytes of the adapter's files.
    pub adapter_bytes: u64,
    /// Metrics of the kept prompt on dev.
    pub dev: Option<Metrics>,
    /// Metrics of the kept prompt on test.
    pub test: Option<Metrics>,
}

/// How a run begins, and what may end it early.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Go on with the run in the directory, if there is one.
    pub resume: bool,
    /// When this becomes true, the run saves its state at the next step or the next rows of an evaluation, and ends with
    /// [`Error::Stopped`].
    pub stop: Option<&'a AtomicBool>,
}

/// Trains the task of a run file and writes the run directory `out`, which must not hold a run yet.
///
/// # Errors
/// Anything wrong with the run file's values or the files it names, before anything is written; a failed write; a loss
/// that is not a number.
pub fn run(
    config: &RunConfig,
    file: &Path,
    out: &Path,
    device: &Device,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Summary> {
    run_with(config, file, out, device, Options::default(), observe)
}

/// [`run`] with [`Options`]: to go on with an interrupted run, and to stop one.
///
/// A resumed run gives the same bytes as if it had never stopped, `state/` and times aside. A finished one is not
/// repeated: its summary comes back at once.
///
/// # Errors
/// As [`run`]; [`Error::Stopped`]; a run in `out` that is not this one, a damaged state, another process at work there.
pub fn run_with(
    config: &RunConfig,
    file: &Path,
    out: &Path,
    device: &Device,
    options: Options<'_>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Summary> {
    seeds::run_one(config, file, out, device, options, observe)
}

/// Everything of a run that stays as it is while it trains.
struct Run<'a> {
    config: RunConfig,
    /// The run directory.
    out: PathBuf,
    /// What stands in front of its messages: nothing, or which of several it is.
    name: String,
    device: &'a Device,
    task: &'a Task,
    data: &'a Data,
    base: &'a Base,
    identity: Identity,
    stop: Option<&'a AtomicBool>,
}

impl Run<'_> {
    /// What scores rows with a prompt in place, a classifier behind the model and additions to it.
    fn scorer<'s>(
        &'s self,
        trainer: &'s Trainer<'_>,
        prompt: &'s Injection,
        classifier: Option<&'s Classifier>,
        additions: Option<&'s Additions>,
    ) -> Scorer<'s> {
        let (Trainer { model, columns, .. }, head) = (trainer, &self.task.head);
        let column_ids = head.columns(true);
        let device = self.device;
        Scorer { device, model, columns, column_ids, head, prompt, classifier, additions, weights: &[] }
    }

    /// Ends the work when the run was asked to stop.
    fn check_stop(&self, step: usize) -> Result<()> {
        match self.stop {
            Some(stop) if stop.load(Ordering::Relaxed) => Err(Error::Stopped { step }),
            _ => Ok(()),
        }
    }

    /// Tells something about this run.
    fn note(&self, text: &str, observe: &mut dyn FnMut(Event<'_>)) {
        observe(Event::Note(&format!("{}{text}", self.name)));
    }

    /// Failed work, with the run that it belongs to.
    fn named(&self, error: Error) -> Error {
        match error {
            Error::Failed(message) => Error::Failed(format!("{}{message}", self.name)),
            other => other,
        }
    }

    fn adapter(&self) -> PathBuf {
        self.out.join("adapter")
    }

    fn state(&self) -> PathBuf {
        resume::state_file(&self.out)
    }
}
