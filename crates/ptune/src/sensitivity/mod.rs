//! How much a score depends on the words of a prompt: the paper's motivating experiment as a tool.
//!
//! ```text
//! prompts   given ones, and small edits of each (edits.rs)
//! score     each alone, untrained, on the test rows
//! tune      P-tuning from each: [P*n] its words up to [n of them] [MASK] the rest; a run of its own, in OUT/prompt-1, ...
//! compare   best, worst, mean, deviation, before and after
//! ```
//! Training is that of `ptune train`, with its keys; nothing of it is repeated here. The report (`page.rs`) is one page that needs
//! nothing else.

mod edits;
mod page;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

pub use edits::{Edit, edits};

use crate::adapter::MOST_PROMPTS;
use crate::data::Dataset;
use crate::method::Injection;
use crate::model::{Gradients, Model};
use crate::prompt::{PieceKind, Template};
use crate::search::read_prompts;
use crate::tensor::Device;
use crate::train::config::{HeadKind, RunConfig};
use crate::train::evaluate::Scorer;
use crate::train::metrics::{Metrics, mean_and_deviation};
use crate::train::prepare::Prepared;
use crate::train::{self, Event, Options, Task};
use crate::{Error, Result, files};

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Sensitivity {
    /// The metric by which prompts are compared.
    pub metric: &'static str,
    /// Which rows were scored: `test`, `dev` or `train`.
    pub rows: &'static str,
    /// How many.
    pub examples: usize,
    /// What the most frequent answer would reach.
    pub majority: f64,
    /// The prompts in their order, edits behind the one they were made from.
    pub prompts: Vec<Scored>,
    /// Over all prompts, as they are written.
    pub untrained: Spread,
    /// Over all prompts, after P-tuning from each.
    pub tuned: Option<Spread>,
}

/// A prompt and its score.
#[derive(Clone, Debug, Serialize)]
pub struct Scored {
    /// The prompt.
    pub template: String,
    /// The kind of edit that made it from the given prompt before it; none for a given one.
    pub edit: Option<&'static str>,
    /// What was edited.
    pub what: Option<String>,
    /// The score as it is written.
    pub untrained: f64,
    /// The score after P-tuning from it.
    pub tuned: Option<f64>,
    /// The template of that.
    pub tuned_template: Option<String>,
}

/// Scores of several prompts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The highest.
    pub best: f64,
    /// The lowest.
    pub worst: f64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, with `n - 1`; none of one prompt.
    pub deviation: Option<f64>,
}

/// What the command asks for.
#[derive(Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// A file of prompts, in place of `sensitivity.prompts`.
    pub prompts: Option<&'a Path>,
    /// Whether to P-tune from each prompt.
    pub tune: bool,
    /// When this becomes true, the work ends at the next prompt, or the next step of a training.
    pub stop: Option<&'a AtomicBool>,
}

/// Scores the prompts of a run file and writes `sensitivity.json` and `sensitivity.html` into `out`. Trained runs in `out` are
/// gone on with.
///
/// # Errors
/// Anything wrong with the run file or the files it names; a prompt that cannot be asked; as [`train::run_with`].
pub fn sensitivity(
    config: &RunConfig,
    file: &Path,
    out: &Path,
    device: &Device,
    wanted: Wanted<'_>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Sensitivity> {
    if config.head() == HeadKind::Classifier {
        let message = "an untrained classifier knows nothing that could be compared; give a verbalizer";
        return Err(Error::key(file, "task.head", message));
    }
    if config.is_text() {
        let message = "prompts are compared by labels or by one word; remove the key";
        return Err(Error::key(file, "task.answer", message));
    }
    if wanted.tune {
        config.require_length(file)?;
    }
    let prepared = Prepared::read(config, file, observe)?;
    let listed = listed(&prepared.config, &prepared.task, wanted.prompts, observe)?;
    let (rows, metric) = (scored_rows(&prepared.config), prepared.config.select().name());
    let (metrics, examples) = untrained(&prepared, &listed, rows, device, wanted.stop, observe)?;
    let mut prompts = Vec::with_capacity(listed.len());
    for ((edit, template), metrics) in listed.into_iter().zip(&metrics) {
        let (edit, what) = edit.map(|edit| (edit.kind, edit.what)).unzip();
        let template = template.source().to_owned();
        let untrained = metrics.get(metric).unwrap_or(0.0);
        prompts.push(Scored { template, edit, what, untrained, tuned: None, tuned_template: None });
    }
    if wanted.tune {
        tune(config, file, out, device, wanted.stop, &mut prompts, observe)?;
    }
    let tuned: Vec<f64> = prompts.iter().filter_map(|prompt| prompt.tuned).collect();
    let found = Sensitivity {
        metric,
        rows: rows.0,
        examples,
        majority: metrics[0].get("majority").unwrap_or(0.0),
        untrained: Spread::of(&prompts.iter().map(|prompt| prompt.untrained).collect::<Vec<_>>()),
        tuned: (!tuned.is_empty()).then(|| Spread::of(&tuned)),
        prompts,
    };
    files::create_directory(out)?;
    let json = serde_json::to_string_pretty(&found).map_err(|wrong| Error::Failed(wrong.to_string()))?;
    files::write_atomically(&out.join("sensitivity.json"), json.as_bytes())?;
    files::write_atomically(&out.join("sensitivity.html"), page::render(&found, config)?.as_bytes())?;
    Ok(found)
}

impl Spread {
    fn of(scores: &[f64]) -> Spread {
        let (mean, deviation) = mean_and_deviation(scores);
        let [best, worst] = [f64::max as fn(f64, f64) -> f64, f64::min]
            .map(|better| scores.iter().copied().reduce(better).unwrap_or(0.0));
        Spread { best, worst, mean, deviation }
    }
}

/// The rows that are scored: those that nothing was chosen by, where there are such.
fn scored_rows(config: &RunConfig) -> (&'static str, &Path) {
    match (&config.data.test, &config.data.dev) {
        (Some(test), _) => ("test", test),
        (None, Some(dev)) => ("dev", dev),
        (None, None) => ("train", &config.data.train),
    }
}

/// The prompts with the edits that made them.
fn listed(
    config: &RunConfig,
    task: &Task,
    file: Option<&Path>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<(Option<Edit>, Template)>> {
    let given = match (file, &config.sensitivity.prompts[..]) {
        (Some(file), _) => read_prompts(file, task, observe)?,
        (None, []) => vec![task.prompt(&without_pseudo(&task.template))?],
        (None, prompts) => prompts.iter().map(|prompt| task.prompt(prompt)).collect::<Result<_>>()?,
    };
    let mut listed: Vec<(Option<Edit>, Template)> = Vec::new();
    for template in given {
        let made = if config.sensitivity.edits { edits(&template) } else { Vec::new() };
        listed.push((None, template));
        for edit in made {
            let template = task.prompt(&edit.template);
            listed.extend(template.ok().map(|template| (Some(edit), template))); // what cannot be asked is no edit of it
        }
    }
    if listed.len() > MOST_PROMPTS {
        return Err(Error::request(format!("{} prompts; at most {MOST_PROMPTS} can be compared", listed.len())));
    }
    Ok(listed)
}

/// The words of a template that has pseudo tokens.
fn without_pseudo(template: &Template) -> String {
    let (source, pieces) = (template.source(), template.pieces());
    let ends = pieces.iter().skip(1).map(|piece| piece.at).chain([source.len()]);
    let words = pieces.iter().zip(ends).filter(|(piece, _)| !matches!(piece.kind, PieceKind::Pseudo(_)));
    let mut all = String::new();
    for (piece, end) in words {
        all += if piece.space && !all.is_empty() && !all.ends_with(' ') { " " } else { "" };
        all += &source[piece.at..end];
    }
    all.trim().into()
}

/// The metrics of each prompt as it is written, and how many rows were scored.
fn untrained(
    prepared: &Prepared,
    prompts: &[(Option<Edit>, Template)],
    (_, file): (&str, &Path),
    device: &Device,
    stop: Option<&AtomicBool>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<(Vec<Metrics>, usize)> {
    let Prepared { directory, config, task, .. } = prepared;
    let device = &device.with_precision(config.compute.precision());
    let loading = &mut |done, total| observe(Event::Loading { done, total });
    let model = &Model::load(directory, &[], device, Gradients::None, loading)?;
    let (head, none) = (&task.head, &Injection::default());
    let columns = &model.columns(head.columns(false), false);
    let (mut all, mut examples, mut best) = (Vec::new(), 0, 0.0);
    for (i, (_, template)) in prompts.iter().enumerate() {
        let asked = task.clone().answered_by(vec![template.clone()], std::iter::empty());
        let rows: Dataset = asked.dataset(file)?;
        let scorer = Scorer {
            device,
            model,
            columns,
            column_ids: head.columns(false),
            head,
            prompt: none,
            classifier: None,
            additions: None,
            weights: &[],
        };
        let metrics = scorer.evaluate(&rows, &mut |done, total| {
            observe(Event::Evaluating { done, total });
            match stop {
                Some(stop) if stop.load(Ordering::Relaxed) => Err(Error::Stopped { step: 0 }),
                _ => Ok(()),
            }
        })?;
        let select = config.select().name();
        best = metrics.get(select).map_or(best, |value| value.max(best));
        let (step, steps, dev) = (i + 1, prompts.len(), Some((select, best)));
        observe(Event::Step { seed: config.seed, step, steps, loss: 0.0, examples_per_s: 0.0, dev });
        examples = rows.kept;
        all.push(metrics);
    }
    Ok((all, examples))
}

/// P-tuning from each prompt: its words stay, pseudo tokens stand around them.
fn tune(
    config: &RunConfig,
    file: &Path,
    out: &Path,
    device: &Device,
    stop: Option<&AtomicBool>,
    prompts: &mut [Scored],
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    let count = prompts.len();
    for (i, prompt) in prompts.iter_mut().enumerate() {
        observe(Event::Note(&format!("prompt {} of {count}: {}", i + 1, prompt.template)));
        let template = around(&Template::parse(&prompt.template)?, config.sensitivity.tokens);
        let mut config = config.clone();
        config.task.template.clone_from(&template);
        let options = Options { resume: true, stop };
        let run = out.join(format!("prompt-{}", i + 1));
        let summary = train::run_with(&config, file, &run, device, options, observe)?;
        let metrics = summary.test.or(summary.dev);
        prompt.tuned = metrics.and_then(|metrics| metrics.get(config.select().name()));
        prompt.tuned_template = Some(template);
    }
    Ok(())
}

/// `[P*n]` in front of the words and before `[MASK]`.
fn around(template: &Template, count: usize) -> String {
    let mask = template.pieces().iter().find(|piece| piece.kind == PieceKind::Mask);
    let (at, space) = mask.map_or((0, false), |mask| (mask.at, mask.space));
    let (before, behind) = template.source().split_at(at);
    match before.trim() {
        "" => format!("[P*{}] {behind}", 2 * count),
        before => format!("[P*{count}] {before} [P*{count}]{}{behind}", if space { " " } else { "" }),
    }
}

#[cfg(test)]
mod tests;
