//! Given prompts: which is the best, and several that answer together (LPAQA, Jiang et al. 2020).
//!
//! A file has a template a line, or is JSON lines (`.jsonl`) of objects with a `template`; `[X]` stands for the only field of
//! `task.template` and `[Y]` for `[MASK]`, as LPAQA, LAMA and AutoPrompt write them. The prompts are ranked by the selecting
//! metric on the dev rows, without dev rows on the training rows. What answers together is the best `search.top` of them.

use std::path::Path;

use super::{Error, Event, Found, Injection, Result, Search, Tried, weights};
use crate::adapter::{MOST_PROMPTS, WeightedPrompt};
use crate::data::{Dataset, jsonl};
use crate::files;
use crate::method::Head;
use crate::prompt::Template;
use crate::train::Task;
use crate::train::config::Combine;
use crate::train::metrics::Metrics;

const LARGEST_FILE: u64 = 16 << 20;
/// Training rows from which weights are learned, as LPAQA's.
const MOST_ROWS: usize = 1000;
/// A prompt of less weight does not answer: it would cost as much as any other.
const LEAST_WEIGHT: f64 = 1e-3;

/// The prompts of a file that this task can be asked by. Others are told and left out.
///
/// # Errors
/// A file that cannot be read, a line that is no template, no prompt left.
pub(crate) fn read(file: &Path, task: &Task, observe: &mut dyn FnMut(Event<'_>)) -> Result<Vec<Template>> {
    let mut templates: Vec<Template> = Vec::new();
    for (line, source) in lines(file)? {
        let source = with_fields(&source, task).map_err(|message| Error::line(file, line, message))?;
        if templates.iter().any(|known| known.source() == source) {
            continue;
        }
        match task.prompt(&source) {
            Ok(template) => templates.push(template),
            Err(wrong) => observe(Event::Note(&format!("{}:{line}: left out: {wrong}", file.display()))),
        }
    }
    match templates.len() {
        0 => Err(Error::file(file, "holds no prompt that this task can be asked by")),
        1..=MOST_PROMPTS => Ok(templates),
        count => Err(Error::file(file, format!("holds {count} prompts; at most {MOST_PROMPTS} can be compared"))),
    }
}

/// The templates of a file with the numbers of their lines.
fn lines(file: &Path) -> Result<Vec<(usize, String)>> {
    if file.extension().is_some_and(|extension| extension == "jsonl") {
        let rows = jsonl::read(file)?;
        let template = |row: &jsonl::Example| Ok((row.line().unwrap_or(0), row.text("template")?.into_owned()));
        return rows.iter().map(template).collect();
    }
    let text = files::read_text(file, LARGEST_FILE)?;
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    Ok(lines.map(|(i, line)| (i + 1, line.trim().to_owned())).filter(|(_, line)| !line.is_empty()).collect())
}

/// `[X]` and `[Y]` as this task has them.
fn with_fields(source: &str, task: &Task) -> std::result::Result<String, String> {
    let source = source.replace("[Y]", "[MASK]");
    match task.template.fields()[..] {
        _ if !source.contains("[X]") => Ok(source),
        [field] => Ok(source.replace("[X]", &format!("{{{field}}}"))),
        ref several => Err(format!(
            "[X] stands for the only field of task.template, which has {}; write the fields as {{name}}",
            several.len()
        )),
    }
}

pub(super) fn search(
    mut search: Search<'_>,
    templates: Vec<Template>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Found> {
    let ranked = search.ranked(templates, observe)?;
    let settings = &search.config.search;
    let top = if settings.combine == Combine::Best { 1 } else { settings.top.unwrap_or(ranked.len()) };
    let chosen: Vec<Template> = ranked.iter().take(top).map(|(template, _)| template.clone()).collect();
    let weights = match settings.combine {
        Combine::Weighted => search.learned(&chosen, observe)?,
        Combine::Best | Combine::Mean => vec![1.0 / chosen.len() as f64; chosen.len()],
    };
    let trained = if settings.combine == Combine::Weighted { weights.len() } else { 0 };
    let prompts = heaviest_first(chosen, &weights);
    let task = search.asked_by(&prompts);
    let none = Injection::default();
    let mut found = Vec::new();
    for file in [&search.config.data.dev, &search.config.data.test] {
        let evaluate = |file| search.evaluate(&task, &none, &task.dataset(file)?, observe);
        found.push(file.as_deref().map(evaluate).transpose()?);
    }
    let test = found.pop().flatten();
    search.progress.kept = found.pop().flatten();
    search.config.task.template = prompts[0].0.source().into();
    let shown: Vec<WeightedPrompt> = prompts.iter().map(|(template, weight)| weighted(template, *weight)).collect();
    let mut description = search.describe(search.progress.kept.as_ref());
    if shown.len() > 1 {
        description.discrete.prompts.clone_from(&shown);
    }
    search.keep(description)?;
    let tried = ranked.into_iter().map(|(template, metrics)| Tried { template: template.source().into(), metrics });
    let (words, tried) = (shown[0].template.clone(), tried.collect());
    let labels = search.labels();
    Ok(Found { summary: search.finish(test, trained)?, words, labels, tokens: Vec::new(), prompts: shown, tried })
}

fn weighted(template: &Template, weight: f64) -> WeightedPrompt {
    WeightedPrompt { template: template.source().into(), weight }
}

/// The prompts with their weights, those that hardly count left out; weights add up to 1.
fn heaviest_first(templates: Vec<Template>, weights: &[f64]) -> Vec<(Template, f64)> {
    let mut prompts: Vec<(Template, f64)> = templates.into_iter().zip(weights.iter().copied()).collect();
    prompts.sort_by(|a, b| b.1.total_cmp(&a.1)); // stable: of equal ones the better stays first
    let least = LEAST_WEIGHT.min(prompts[0].1);
    prompts.retain(|(_, weight)| *weight >= least);
    let sum: f64 = prompts.iter().map(|(_, weight)| weight).sum();
    prompts.into_iter().map(|(template, weight)| (template, weight / sum)).collect()
}

impl Search<'_> {
    /// The task asked by these prompts.
    pub(super) fn asked_by(&self, prompts: &[(Template, f64)]) -> Task {
        let templates = prompts.iter().map(|(template, _)| template.clone()).collect();
        let weights = prompts.iter().map(|(_, weight)| *weight);
        self.task.clone().answered_by(templates, weights.filter(|_| prompts.len() > 1))
    }

    /// Each prompt alone, with its metrics; the best first, of equal ones the first of the file.
    fn ranked(
        &mut self,
        templates: Vec<Template>,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Vec<(Template, Metrics)>> {
        let file = self.config.data.dev.clone().unwrap_or_else(|| self.config.data.train.clone());
        let (seed, all, select) = (self.config.seed, templates.len(), self.config.select().name());
        let mut ranked = Vec::with_capacity(all);
        for (i, template) in templates.into_iter().enumerate() {
            self.check_stop()?;
            let task = self.asked_by(&[(template.clone(), 1.0)]);
            let metrics = self.evaluate(&task, &Injection::default(), &task.dataset(&file)?, observe)?;
            let others = ranked.iter().filter_map(|(_, known): &(Template, Metrics)| known.get(select));
            let best = others.chain(metrics.get(select)).fold(0.0, f64::max);
            observe(Event::Step {
                seed,
                step: i + 1,
                steps: all,
                loss: 0.0,
                examples_per_s: 0.0,
                dev: Some((select, best)),
            });
            ranked.push((template, metrics));
        }
        let metric = |metrics: &Metrics| metrics.get(select).unwrap_or(0.0);
        ranked.sort_by(|(_, a), (_, b)| metric(b).total_cmp(&metric(a)));
        Ok(ranked)
    }

    /// Weights of these prompts from the training rows.
    fn learned(&self, templates: &[Template], observe: &mut dyn FnMut(Event<'_>)) -> Result<Vec<f64>> {
        let file = &self.config.data.train;
        let (mut all, mut gold, mut answers) = (Vec::new(), Vec::new(), 0);
        for template in templates {
            let task = self.asked_by(&[(template.clone(), 1.0)]);
            let rows = task.dataset(file)?;
            let places = Places::of(&task.head, &rows);
            (gold, answers) = (places.gold.clone(), places.columns.len());
            all.push(self.scores(&task, &rows, &places, observe)?);
        }
        Ok(weights::learn(&all, &gold, answers))
    }

    /// What a prompt gives the answers that occur among the rows, `[rows, answers]`.
    fn scores(
        &self,
        task: &Task,
        rows: &Dataset,
        places: &Places,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Vec<f32>> {
        let encoded: Vec<_> = rows.examples.iter().take(MOST_ROWS).map(|row| &row.encoded).collect();
        let mut scores = Vec::with_capacity(encoded.len() * places.columns.len());
        let none = Injection::default();
        let mut progress = |done, total| {
            observe(Event::Evaluating { done, total });
            self.check_stop()
        };
        self.scorer(task, &none).score(&encoded, &mut progress, |_, row| {
            scores.extend(places.columns.iter().map(|column| row[*column]));
        })?;
        Ok(scores)
    }
}

/// Where the answers that occur among the rows stand among the scores.
struct Places {
    /// The columns of the answers, ascending.
    columns: Vec<usize>,
    /// For each row the place of its answer in `columns`.
    gold: Vec<usize>,
}

impl Places {
    fn of(head: &Head, rows: &Dataset) -> Places {
        let column = |target: u32| match head {
            Head::Vocabulary { candidates: Some(words), .. } => words.column(target).unwrap_or(0),
            _ => target as usize,
        };
        let gold: Vec<usize> = rows.examples.iter().take(MOST_ROWS).map(|row| column(row.targets[0])).collect();
        let mut columns = gold.clone();
        columns.sort_unstable();
        columns.dedup();
        let place = |column: &usize| columns.binary_search(column).unwrap_or(0);
        Places { gold: gold.iter().map(place).collect(), columns }
    }
}
