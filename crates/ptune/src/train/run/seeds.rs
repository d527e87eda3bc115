//! One task with one seed or with several: a run directory each, the files read once, the model loaded once.
//!
//! Runs over a frozen model take their steps together, which changes no bit of theirs (in f32): each directory is that
//! of a run alone, may be resumed alone, and need not be where the others are. With `backbone.mode = "full"` each seed has
//! its own weights, so they train one after another.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::resume::{self, Former, Lock};
use super::training::{self, Training};
use super::{Options, Run, Summary};
use crate::checkpoint::ModelDirectory;
use crate::method::Head;
use crate::model::{Gradients, Model};
use crate::tensor::Device;
use crate::train::batches::Batches;
use crate::train::config::RunConfig;
use crate::train::prepare::{Prepared, Start, describe_base, load_model, new_trained};
use crate::train::state::Identity;
use crate::train::{Event, Recipe, Trainer};
use crate::{Error, Result, files};

/// A seed and its run directory.
struct Place {
    seed: u64,
    out: PathBuf,
    /// What stands in front of its messages.
    name: String,
}

/// Trains the task of a run file with each of `seeds` in place of its own, in the run directories `out/seed-SEED`. The
/// summaries come in the order of the seeds.
///
/// # Errors
/// As [`run_with`](super::run_with); no seed, or one twice; a single run in `out`.
pub fn run_seeds(
    config: &RunConfig,
    file: &Path,
    out: &Path,
    seeds: &[u64],
    device: &Device,
    options: Options<'_>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<Summary>> {
    let mut given = BTreeSet::new();
    if let Some(twice) = seeds.iter().find(|seed| !given.insert(**seed)) {
        return Err(Error::request(format!("the seed {twice} is given twice")));
    }
    if seeds.is_empty() {
        return Err(Error::request("no seed is given"));
    }
    if out.join("run.toml").exists() || out.join("adapter").exists() {
        let message = "holds a single run, and several seeds need a directory of their own; give another with --out";
        return Err(Error::file(out, message));
    }
    let place = |seed: &u64| Place { seed: *seed, out: seed_directory(out, *seed), name: format!("seed {seed}: ") };
    let places: Vec<Place> = seeds.iter().map(place).collect();
    run_all(config, file, &places, device, options, observe)
}

/// The run directory of one of several seeds.
pub fn seed_directory(out: &Path, seed: u64) -> PathBuf {
    out.join(format!("seed-{seed}"))
}

/// [`super::run_with`].
pub(super) fn run_one(
    config: &RunConfig,
    file: &Path,
    out: &Path,
    device: &Device,
    options: Options<'_>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Summary> {
    let entries = std::fs::read_dir(out).into_iter().flatten().flatten();
    let is_seed = |name: &str| name.strip_prefix("seed-").is_some_and(|seed| seed.parse::<u64>().is_ok());
    if let Some(seed) = entries.map(|entry| entry.file_name()).find(|name| name.to_str().is_some_and(is_seed)) {
        let message = format!(
            "holds runs of several seeds ({}), and a single run needs a directory of its own; give another with --out, \
             or go on with those by --seeds and --resume",
            seed.display()
        );
        return Err(Error::file(out, message));
    }
    let places = [Place { seed: config.seed, out: out.into(), name: String::new() }];
    let mut summaries = run_all(config, file, &places, device, options, observe)?;
    Ok(summaries.remove(0))
}

fn run_all(
    config: &RunConfig,
    file: &Path,
    places: &[Place],
    device: &Device,
    options: Options<'_>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<Summary>> {
    let former: Vec<_> = places.iter().map(|place| Former::find(&place.out, options.resume)).collect::<Result<_>>()?;
    config.to_toml()?; // a path that TOML cannot name is refused before the others are opened
    let prepared = Prepared::read(config, file, observe)?;
    let Prepared { directory, config, spec, task, start, data, gradients } = prepared;
    let base = describe_base(&directory, &spec)?;
    if gradients != Gradients::None || matches!(task.head, Head::Classifier(_)) {
        config.require_length(file)?;
    }
    let resolved = RunConfig { data: config.data.with_max_tokens(task.max_tokens()), ..config };
    let device = &device.with_precision(resolved.compute.precision());
    let identity = Identity::new(&resolved, device, &base.fingerprint, &data, &task)?;
    let run = |place: &Place| -> Result<Run<'_>> {
        let config = RunConfig { seed: place.seed, ..resolved.clone() };
        let identity = identity.with_config(&config)?;
        let (out, name) = (place.out.clone(), place.name.clone());
        Ok(Run { config, out, name, device, task: &task, data: &data, base: &base, identity, stop: options.stop })
    };
    let runs: Vec<Run<'_>> = places.iter().map(run).collect::<Result<_>>()?;
    for (run, (former, _)) in runs.iter().zip(&former) {
        former.check(&run.out, &run.identity)?;
    }
    let mut summaries: Vec<Option<Summary>> = former.iter().map(|(former, _)| former.finished().cloned()).collect();
    for (run, _) in runs.iter().zip(&summaries).filter(|(_, summary)| summary.is_some()) {
        resume::clear(&run.out)?; // it may have been killed while its report was written
        observe(Event::Note(&format!("{}: this run is finished; nothing is left to do", run.out.display())));
    }
    let mut open: Vec<_> =
        runs.iter().zip(former).zip(&mut summaries).filter(|(_, summary)| summary.is_none()).collect();
    // A trained model belongs to one prompt; over a frozen one all go together.
    let together = if resolved.backbone.mode.is_full() { 1 } else { open.len() };
    while !open.is_empty() {
        let (group, places): (Vec<_>, Vec<_>) = open.drain(..together).unzip();
        let loading = &mut |done, total| observe(Event::Loading { done, total });
        let model = load_model(&directory, &task, device, gradients, loading)?;
        let come_to = train_over(model, &directory, group, file, &start, observe)?;
        places.into_iter().zip(come_to).for_each(|(place, summary)| *place = Some(summary));
    }
    Ok(summaries.into_iter().flatten().collect())
}

/// Trains runs over one model, from where they stand to their ends.
fn train_over(
    model: Model,
    directory: &ModelDirectory,
    runs: Vec<(&Run<'_>, (Former, Option<Lock>))>,
    file: &Path,
    start: &Start,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<Summary>> {
    let Run { device, config, task, data, .. } = runs[0].0;
    let mut batches = Batches::new(config, task, &model, &data.train.examples, runs.len());
    let mut prompts = Vec::new();
    for (run, _) in &runs {
        let trained = new_trained(&run.config, file, device, &model, directory, task, start)?;
        prompts.push((trained, &run.task.head, Recipe::of(&run.config.train)));
    }
    let (mut locks, mut trainings) = (Vec::new(), Vec::new());
    let (mut trainer, learners) = Trainer::new(model, prompts, device);
    for ((run, (former, lock)), learner) in runs.into_iter().zip(learners) {
        locks.push(lock.map_or_else(|| Lock::take(&run.out), Ok)?);
        resume::clear(&run.out)?;
        files::write_atomically(&run.out.join("run.toml"), run.identity.config().as_bytes())?;
        let mut training = Training::new(run, learner);
        training.go_on(&mut trainer, former, observe)?;
        trainings.push(training);
    }
    training::train(&mut trainer, &mut batches, &mut trainings, observe)?;
    for Training { learner, .. } in &trainings {
        observe(Event::Trained { model: &trainer.model, learner });
    }
    let mut summaries = Vec::new();
    for training in trainings {
        let run = training.run;
        let (summary, back) = training.finish(trainer, observe).map_err(|error| run.named(error))?;
        trainer = back;
        summaries.push(summary);
    }
    Ok(summaries)
}
