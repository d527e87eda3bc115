//! `ptune train --seeds`: several runs on one screen, and what they came to: a table with mean and deviation.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use ptune::report;
use ptune::train::metrics::{Metrics, mean_and_deviation};
use ptune::train::{Event, Summary, seed_directory};
use serde_json::{Map, Value, json};

use crate::progress::Progress;
use crate::report::metrics_line;

/// Metrics that say something about the rows rather than about the prompt.
const OF_THE_ROWS: [&str; 3] = ["majority", "kept", "dropped"];

/// The runs of one command: one, or one for each of several seeds.
pub(crate) struct Runs<'a> {
    seeds: Option<&'a [u64]>,
    /// Where those that take steps together are; those that are over are not among them any more.
    round: Vec<Step>,
    last_round: Vec<Step>,
}

struct Step {
    seed: u64,
    step: usize,
    loss: f64,
    examples_per_s: f64,
    /// The best dev metric so far.
    dev: Option<(String, f64)>,
}

impl<'a> Runs<'a> {
    pub(crate) fn new(seeds: Option<&'a [u64]>) -> Self {
        Runs { seeds, round: Vec::new(), last_round: Vec::new() }
    }

    /// The run directories, in the order of the seeds.
    pub(crate) fn directories(&self, out: &Path) -> Vec<PathBuf> {
        match self.seeds {
            None => vec![out.into()],
            Some(seeds) => seeds.iter().map(|seed| seed_directory(out, *seed)).collect(),
        }
    }

    /// Shows what a run tells.
    pub(crate) fn show(&mut self, progress: &mut Progress, event: Event<'_>) {
        match event {
            Event::Loading { done, total } => progress.update("loading", done, total, ""),
            Event::Note(text) => progress.line(text),
            Event::Step { seed, step, steps, loss, examples_per_s, dev } => {
                let dev = dev.map(|(name, value)| (name.to_owned(), value));
                let (done, beside) = self.step(Step { seed, step, loss, examples_per_s, dev });
                progress.update("training", done, steps, &beside);
            }
            Event::Trained { .. } => {}
            Event::Evaluating { done, total } => progress.update("evaluating", done, total, ""),
            Event::Evaluated { seed, step, metrics, best } => {
                let seed = self.seeds.map_or(String::new(), |_| format!("seed {seed:<3}  "));
                let mark = if best { "  *" } else { "" };
                progress.line(&format!("{seed}step {step:>5}  dev  {}{mark}", metrics_line(metrics)));
            }
        }
    }

    /// The steps that all have made, and a few words: a loss and a dev metric for each, examples a second of all.
    fn step(&mut self, now: Step) -> (usize, String) {
        if self.round.iter().any(|step| step.seed == now.seed) {
            self.last_round = std::mem::take(&mut self.round);
        }
        self.round.push(now);
        let shown = if self.last_round.is_empty() { &self.round } else { &self.last_round };
        let numbers = |values: &mut dyn Iterator<Item = f64>| values.map(|x| format!(" {x:.4}")).collect::<String>();
        let losses = numbers(&mut shown.iter().map(|step| step.loss));
        let examples_per_s: f64 = shown.iter().map(|step| step.examples_per_s).sum();
        let mut text = format!("loss{losses}  {examples_per_s:.1} examples/s");
        if let Some((name, _)) = shown.iter().find_map(|step| step.dev.as_ref()) {
            let dev = numbers(&mut shown.iter().filter_map(|step| Some(step.dev.as_ref()?.1)));
            let _ = write!(text, "  dev {name}{dev}");
        }
        (shown.iter().map(|step| step.step).min().unwrap_or(0), text)
    }
}

/// Which rows a metric is of, its name, and its value for each seed.
struct Column<'s> {
    rows: &'static str,
    name: &'s str,
    values: Vec<f64>,
}

fn columns(summaries: &[Summary]) -> Vec<Column<'_>> {
    let mut columns = Vec::new();
    for (rows, of) in [("dev", (|s| s.dev.as_ref()) as fn(&Summary) -> Option<&Metrics>), ("test", |s| s.test.as_ref())]
    {
        let names = summaries.first().and_then(of).into_iter().flat_map(Metrics::iter).map(|(name, _)| name);
        columns.extend(names.map(|name| {
            let values = summaries.iter().filter_map(|summary| of(summary)?.get(name)).collect();
            Column { rows, name, values }
        }));
    }
    columns
}

/// One object: that of each run, and for each metric the mean over the seeds and its deviation.
pub(crate) fn to_json(runs: Vec<Value>, seeds: &[u64], summaries: &[Summary], out: &Path) -> Value {
    let runs: Vec<Value> = runs
        .into_iter()
        .zip(seeds)
        .map(|(mut run, seed)| {
            run["seed"] = json!(seed);
            run
        })
        .collect();
    let (mut mean, mut deviation) = (Map::new(), Map::new());
    for column in columns(summaries) {
        let (of_all, their_deviation) = mean_and_deviation(&column.values);
        for (object, value) in [(&mut mean, Some(of_all)), (&mut deviation, their_deviation)] {
            object.entry(column.rows).or_insert_with(|| json!({}))[column.name] = json!(value);
        }
    }
    json!({"out": out.to_string_lossy(), "seeds": runs, "mean": mean, "deviation": deviation})
}

/// The table.
pub(crate) fn to_text(seeds: &[u64], summaries: &[Summary], out: &Path) -> String {
    let all = columns(summaries);
    let metrics: Vec<_> = all.iter().filter(|column| !OF_THE_ROWS.contains(&column.name)).collect();
    let width = |column: &Column<'_>| (column.rows.len() + column.name.len() + 1).max("0.0000 ± 0.0000".len());
    let mut text = format!("{:<10}{:>9}{:>10}", "seed", "steps", "seconds");
    for column in &metrics {
        let _ = write!(text, "   {:>w$}", format!("{} {}", column.rows, column.name), w = width(column));
    }
    for (i, (seed, summary)) in seeds.iter().zip(summaries).enumerate() {
        let _ = write!(text, "\n{seed:<10}{:>9}{:>10.1}", summary.steps, summary.seconds);
        for column in &metrics {
            let value = column.values.get(i).map_or(String::new(), |value| format!("{value:.4}"));
            let _ = write!(text, "   {value:>w$}", w = width(column));
        }
    }
    let mut line = |name: &str, cell: &dyn Fn(&Column<'_>) -> String| {
        let _ = write!(text, "\n{name:<29}");
        for column in &metrics {
            let _ = write!(text, "   {:>w$}", cell(column), w = width(column));
        }
    };
    line("mean", &|column| match mean_and_deviation(&column.values) {
        (mean, Some(deviation)) => format!("{mean:.4} ± {deviation:.4}"),
        (mean, None) => format!("{mean:.4}"),
    });
    // It compares with the first metric of its rows: accuracy, or P@1.
    if all.iter().any(|column| column.name == "majority") {
        line("majority", &|column| {
            let first = metrics.iter().find(|other| other.rows == column.rows);
            let of_rows = all.iter().find(|other| other.rows == column.rows && other.name == "majority");
            let value = of_rows.filter(|_| first.is_some_and(|first| first.name == column.name));
            value.and_then(|majority| majority.values.first()).map_or(String::new(), |value| format!("{value:.4}"))
        });
    }
    let directories = seeds.iter().map(|seed| seed_directory(out, *seed).display().to_string());
    let _ = write!(text, "\n\nin each of {}: adapter/, {}", directories.collect::<Vec<_>>().join(", "), report::FILE);
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
