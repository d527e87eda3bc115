//! A whole run: read everything, check everything, train, keep the best prompt, evaluate, write.
//!
//! | file | part |
//! |---|---|
//! | `prepare.rs` | before: rows, base, first prompt |
//! | `run/training.rs` | the loop: steps, evaluations on dev |
//! | `run/progress.rs` | what the loop has come to beside its parameters, and `metrics.jsonl` |
//! | `run/finish.rs` | after: the test rows, the summary; and how a prompt becomes the adapter on disk |
//!
//! Nothing is written before all files have been read and found good. The run directory then holds `run.toml` (the run
//! file as resolved), `metrics.jsonl` (a line an evaluation, without times: the same run gives the same bytes) and
//! `adapter/`, which is replaced as a whole at every new best. **The kept prompt is the adapter on disk**: there is no
//! second copy in memory, and an interrupted run leaves its best adapter.

mod finish;
mod progress;
mod training;

use std::path::Path;

use crate::adapter::Base;
use crate::model::spec::ModelSpec;
use crate::model::{Columns, Model};
use crate::tensor::{Device, Tensor};
use crate::train::config::RunConfig;
use crate::train::evaluate::Scorer;
use crate::train::metrics::Metrics;
use crate::train::prepare::{
    Data, describe_base, new_prompt, open_model, refuse_existing, tell_long_words, tell_vocabulary,
};
use crate::train::{Event, Task};
use crate::{Result, files};

/// What a run came to.
pub struct Summary {
    /// Steps made.
    pub steps: usize,
    /// Seconds of training and evaluation, without reading the model.
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
    refuse_existing(out)?;
    config.to_toml()?; // a path that TOML cannot name is refused before the others are opened
    let (directory, config) = open_model(config, file)?;
    let config = &config;
    let spec = ModelSpec::read(&directory)?;
    let task = Task::from_run(config, file, &directory, &spec)?;
    let resolved = RunConfig { data: config.data.with_max_tokens(task.max_tokens()), ..config.clone() }.to_toml()?;
    tell_vocabulary(config, &task, observe);
    tell_long_words(&task, observe)?;
    let initial_words = task.encoder()?.initial_words()?;
    config.prompt.init.check(&task.template, &initial_words)?;
    let data = Data::read(config, &task, observe)?;
    let base = describe_base(&directory, &spec)?;
    let trains = task.template.has_pseudo_tokens();
    if trains {
        config.require_length(file)?;
    }
    let device = &device.with_precision(config.compute.precision());
    let model = Model::load(&directory, device, trains, &mut |done, total| observe(Event::Loading { done, total }))?;
    let prompt = new_prompt(config, file, device, &model, &initial_words)?;

    files::create_directory(out)?;
    files::write_atomically(&out.join("run.toml"), resolved.as_bytes())?;
    let columns = model.columns(task.head.columns(true), trains);
    let run = Run { config, out, device, task: &task, data: &data, model: &model, columns: &columns, base };
    let mut training = run.begin(prompt);
    run.train(&mut training, observe)?;
    run.finish(training, observe)
}

/// Everything of a run that stays as it is while it trains.
struct Run<'a> {
    config: &'a RunConfig,
    /// The run directory.
    out: &'a Path,
    device: &'a Device,
    task: &'a Task,
    data: &'a Data,
    model: &'a Model,
    columns: &'a Columns,
    base: Base,
}

impl Run<'_> {
    /// What scores rows with a prompt in place.
    fn scorer<'s>(&'s self, prompt: Option<&'s Tensor>) -> Scorer<'s> {
        let (model, columns, head) = (self.model, self.columns, &self.task.head);
        Scorer { device: self.device, model, columns, column_ids: head.columns(true), head, prompt }
    }
}
