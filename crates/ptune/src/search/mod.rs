//! Discrete prompts, the baselines of the paper: tokens found by gradient (AutoPrompt), and prompts chosen from a file, alone
//! or together (LPAQA). Nothing is trained but, there, the weights of the prompts.
//!
//! | file | part |
//! |---|---|
//! | `triggers.rs` | the search for tokens: gradient, candidates, comparison |
//! | `candidates.rs` | which tokens may stand in a prompt, and which of them promise most |
//! | `compared.rs` | a batch with several of them, what comes before the place computed once |
//! | `label_words.rs` | before it, where they are asked for: words for the labels |
//! | `prompts.rs` | a file of prompts: the best, or several that answer together |
//! | `weights.rs` | their weights, learned |
//!
//! The run directory is that of a training run without its saved state: `run.toml`, `metrics.jsonl`, and `adapter/`, written at
//! every new best, so that an interrupted search keeps what it has found. It is not resumed: it is repeated.

mod candidates;
mod compared;
mod label_words;
mod prompts;
mod triggers;
mod weights;

pub(crate) use prompts::read as read_prompts;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::adapter::{Adapter, Base, Description, Matrix, Tuned, WeightedPrompt};
use crate::data::Dataset;
use crate::method::Injection;
use crate::model::{Columns, Gradients, Inject, Model};
use crate::prompt::Template;
use crate::tensor::Device;
use crate::train::config::{BackboneConfig, BackboneMode, HeadKind, RunConfig, TrainConfig};
use crate::train::evaluate::Scorer;
use crate::train::metrics::Metrics;
use crate::train::prepare::{Data, Prepared};
use crate::train::run::{Progress, resume};
use crate::train::state::{Identity, State};
use crate::train::{Event, Summary, Task, describe, describe_base};
use crate::{Error, Result, files};

/// What a search came to.
pub struct Found {
    /// Steps, times and metrics.
    pub summary: Summary,
    /// The prompt in words: a text of its tokens, or the template.
    pub words: String,
    /// The label words that were found; none where none were looked for.
    pub labels: Vec<(String, Vec<String>)>,
    /// The tokens that were found, one by one; none of prompts from a file.
    pub tokens: Vec<String>,
    /// The prompts that answer, with their weights, the heaviest first; of found tokens none.
    pub prompts: Vec<WeightedPrompt>,
    /// Each prompt of the file alone, the best first.
    pub tried: Vec<Tried>,
}

/// A prompt of a file.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Its template.
    pub template: String,
    /// Its metrics on the dev rows, or where there are none on the training rows.
    pub metrics: Metrics,
}

/// Looks for a discrete prompt for the task of a run file and writes the run directory `out`, which must not hold a run yet:
/// for the tokens of the template's `[P*n]`, or among the prompts of `search.prompts`; with `search.label_words` first for
/// the words of its labels, and perhaps for nothing else. When `stop` becomes true, the
/// search ends at its next step.
///
/// # Errors
/// Anything wrong with the run file or the files it names, before anything is written; a failed write; [`Error::Stopped`],
/// with the best so far in `out/adapter`.
pub fn search(
    config: &RunConfig,
    file: &Path,
    out: &Path,
    device: &Device,
    stop: Option<&AtomicBool>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Found> {
    match begin(config, file, out, device, stop, observe)? {
        (search, Some(listed), _lock) => prompts::search(search, listed, observe),
        (search, None, _lock) => triggers::search(search, observe),
    }
}

/// Reads and checks everything and begins the run directory; the prompts of the file, where there is one.
fn begin<'a>(
    config: &RunConfig,
    file: &Path,
    out: &Path,
    device: &Device,
    stop: Option<&'a AtomicBool>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<(Search<'a>, Option<Vec<Template>>, resume::Lock)> {
    refuse_other_tasks(config, file)?;
    if out.join("run.toml").exists() || out.join("adapter").exists() {
        let message = "holds a run already; give another directory with --out, or remove this one";
        return Err(Error::file(out, message));
    }
    let config = of_the_model_as_it_is(config, observe);
    let Prepared { directory, config, spec, task, data, .. } = Prepared::read(&config, file, observe)?;
    let searches = config.search.prompts.is_some() || config.search.label_words.is_some();
    if !searches && !task.template.has_pseudo_tokens() {
        let message = "has no [P*n], the places whose tokens a search finds; write '{text} [P*5] [MASK] .', choose \
                       among prompts with search.prompts, or look for label words with search.label_words";
        return Err(Error::key(file, "task.template", message));
    }
    let base = describe_base(&directory, &spec)?;
    let config = RunConfig { data: config.data.with_max_tokens(task.max_tokens()), ..config };
    let device = device.with_precision(config.compute.precision());
    let identity = Identity::new(&config, &device, &base.fingerprint, &data, &task)?;
    let listed = match &config.search.prompts {
        Some(prompts) => Some(prompts::read(prompts, &task, observe)?),
        None if !task.template.has_pseudo_tokens() => Some(vec![task.template.clone()]),
        None => None,
    };
    let gradients = if listed.is_some() { Gradients::None } else { Gradients::Inputs };
    let loading = &mut |done, total| observe(Event::Loading { done, total });
    let model = Model::load(&directory, &[], &device, gradients, loading)?;
    let columns = model.columns(task.head.columns(true), gradients == Gradients::Inputs);

    let lock = resume::Lock::take(out)?;
    let label_words = config.search.label_words;
    let mut search = Search {
        progress: Progress::default(),
        since: Instant::now(),
        out: out.into(),
        config,
        device,
        task,
        data,
        base,
        identity,
        model,
        columns,
        stop,
    };
    if let Some(count) = label_words {
        search.find_label_words(count, file, &directory, gradients == Gradients::Inputs, observe)?;
    }
    files::write_atomically(&out.join("run.toml"), search.identity.config().as_bytes())?;
    Ok((search, listed, lock))
}

/// A search needs a gradient down to its tokens and changes no weight, as it takes no step of an optimiser. So where the run
/// file trains the model, or low-rank additions, which start from nothing, that is told and left out, as `[train]` is.
fn of_the_model_as_it_is(config: &RunConfig, observe: &mut dyn FnMut(Event<'_>)) -> RunConfig {
    let mode = config.backbone.mode;
    if mode == BackboneMode::Frozen {
        return config.clone();
    }
    let mode = if mode.is_full() { "full" } else { "lora" };
    observe(Event::Note(&format!(
        "backbone.mode = \"{mode}\" is for 'ptune train': a search changes no weights, and asks the model as it is"
    )));
    let (backbone_learning_rate, backbone_weight_decay, head_learning_rate) = (None, None, None);
    let train = config.train.clone();
    RunConfig {
        backbone: BackboneConfig::default(),
        train: TrainConfig { backbone_learning_rate, backbone_weight_decay, head_learning_rate, ..train },
        ..config.clone()
    }
}

/// Refuses a run file whose answers no discrete prompt gives.
fn refuse_other_tasks(config: &RunConfig, file: &Path) -> Result<()> {
    if config.head() == HeadKind::Classifier {
        let message = "a classifier is trained, and a search trains nothing; give a verbalizer, or use 'ptune train'";
        return Err(Error::key(file, "task.head", message));
    }
    if config.search.label_words.is_some() && config.head() != HeadKind::Verbalizer {
        let message =
            "are words of labels, and this task names none; give them in [task.verbalizer], each with any word";
        return Err(Error::key(file, "search.label_words", message));
    }
    if config.is_text() {
        let message = "a search asks for labels or for one word; remove the key, or use 'ptune train'";
        return Err(Error::key(file, "task.answer", message));
    }
    if config.prompt.prefix_tokens.is_some() {
        let message = "a prefix has no tokens that a search could find; remove the key, or use 'ptune train'";
        return Err(Error::key(file, "prompt.prefix_tokens", message));
    }
    Ok(())
}

/// Everything that a search works with.
struct Search<'a> {
    config: RunConfig,
    out: PathBuf,
    device: Device,
    task: Task,
    data: Data,
    base: Base,
    identity: Identity,
    model: Model,
    columns: Columns,
    progress: Progress,
    since: Instant,
    stop: Option<&'a AtomicBool>,
}

impl Search<'_> {
    fn check_stop(&self) -> Result<()> {
        match self.stop {
            Some(stop) if stop.load(Ordering::Relaxed) => Err(Error::Stopped { step: self.progress.step }),
            _ => Ok(()),
        }
    }

    /// What scores rows of `task`, with its prompt in place.
    fn scorer<'s>(&'s self, task: &'s Task, prompt: &'s Injection) -> Scorer<'s> {
        let Search { device, model, columns, .. } = self;
        let (head, weights) = (&task.head, task.weights());
        let (column_ids, classifier, additions) = (head.columns(true), None, None);
        Scorer { device, model, columns, column_ids, head, prompt, classifier, additions, weights }
    }

    fn evaluate(
        &self,
        task: &Task,
        prompt: &Injection,
        rows: &Dataset,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Metrics> {
        self.scorer(task, prompt).evaluate(rows, &mut |done, total| {
            observe(Event::Evaluating { done, total });
            self.check_stop()
        })
    }

    /// The label words that were looked for.
    fn labels(&self) -> Vec<(String, Vec<String>)> {
        let asked = self.config.search.label_words.is_some();
        if asked { self.config.task.verbalizer.clone() } else { Vec::new() }
    }

    /// The words of an adapter for `task`, which has a prompt without vectors.
    fn describe(&self, dev: Option<&Metrics>) -> Description {
        let mut description = describe(&self.config, &self.task, &self.base, false);
        description.metrics.dev = dev.map(Metrics::to_map).unwrap_or_default();
        description
    }

    /// Writes the adapter, replacing an older one.
    fn keep(&self, description: Description) -> Result<()> {
        let (rows, width) = (0, self.base.width);
        let (prompt, prefix, tuned) = (Vec::new(), Matrix::default(), Tuned::default());
        Adapter { description, prompt, rows, width, prefix, tuned }.save(&self.out.join("adapter"))
    }

    /// The end of a search whose adapter is on disk: the metrics on test go into it, and the run is finished.
    fn finish(mut self, test: Option<Metrics>, trained: usize) -> Result<Summary> {
        let directory = self.out.join("adapter");
        if let Some(test) = &test {
            let mut kept = Adapter::load(&directory)?;
            kept.description.metrics.test = test.to_map();
            kept.save(&directory)?;
            self.progress.write_line(&serde_json::json!({"test": test}), &self.out)?;
        }
        self.progress.earlier = self.since.elapsed();
        let summary = Summary {
            steps: self.progress.step,
            seconds: self.progress.earlier.as_secs_f64(),
            train_examples_per_s: self.progress.examples_per_s(),
            trainable_parameters: trained,
            frozen_parameters: self.model.count(),
            adapter_bytes: files::directory_bytes(&directory)?,
            dev: self.progress.kept.clone(),
            test,
        };
        let state = State::new(self.identity, self.progress, 0).finished(summary.clone());
        state.write(&resume::state_file(&self.out), &[])?;
        Ok(summary)
    }
}

#[cfg(test)]
mod tests;
