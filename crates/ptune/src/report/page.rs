//! What stands on the page: everything in words and numbers as a reader sees them, so that the template only places it.

use std::path::Path;

use serde::Serialize;

use super::chart::{Chart, Curve, Unit, written};
use super::{bytes, grouped, seconds};
use crate::Result;
use crate::checkpoint::{ModelDirectory, hub};
use crate::data::Example;
use crate::data::jsonl::Lines;
use crate::inspect::{AdapterFacts, PieceFacts, RunFacts, pieces};
use crate::model::spec::ModelSpec;
use crate::train::Task;
use crate::train::metrics::Metrics;

/// A row of more tokens than this is cut on the page.
const MOST_TOKENS: usize = 400;

/// The page's values.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    version: &'static str,
    name: String,
    finished: bool,
    steps: usize,
    best_step: Option<usize>,
    /// What was trained on what, in a few words.
    about: Vec<String>,
    template: String,
    cards: Vec<Card>,
    results: Results,
    charts: Vec<Chart>,
    adapter: Option<AdapterFacts>,
    example: Option<Row>,
    run_file: String,
}

/// A figure at the top.
#[derive(Debug, Serialize)]
struct Card {
    name: String,
    value: String,
    beside: String,
}

/// The table of metrics.
#[derive(Debug, Serialize)]
struct Results {
    dev: bool,
    test: bool,
    rows: Vec<ResultRow>,
}

#[derive(Debug, Serialize)]
struct ResultRow {
    name: String,
    dev: Option<String>,
    test: Option<String>,
    /// Whether it picked the best state.
    selects: bool,
    /// Whether it is what a model that has learned nothing reaches.
    baseline: bool,
}

/// A row of data as the model sees it.
#[derive(Debug, Serialize)]
struct Row {
    pieces: Vec<PieceFacts>,
    tokens: usize,
    shown: usize,
}

impl Page {
    pub(super) fn new(facts: &RunFacts, peak_rss_mb: Option<u64>) -> Result<Page> {
        let config = &facts.run_file;
        let directory = Path::new(&facts.path);
        let named = |path: &Path| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let place = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.into());
        Ok(Page {
            version: env!("CARGO_PKG_VERSION"),
            name: named(&place),
            finished: facts.summary.is_some(),
            steps: facts.steps,
            best_step: facts.best.as_ref().map(|best| best.step),
            // Without the commit that a name in the cache carries; the run file below has it.
            about: about(facts, named(&config.model).split('@').next().unwrap_or_default()),
            template: config.task.template.clone(),
            cards: cards(facts, peak_rss_mb),
            results: results(facts),
            charts: charts(facts),
            adapter: facts.adapter.clone(),
            example: example(facts),
            run_file: config.to_toml()?,
        })
    }
}

/// `minilm-mlm (bert)`, `19,437 candidate answers`, ...
fn about(facts: &RunFacts, model: &str) -> Vec<String> {
    let config = &facts.run_file;
    let adapter = facts.adapter.as_ref();
    let family = adapter.map_or(String::new(), |adapter| format!(" ({})", adapter.base.family));
    let task = match (config.task.verbalizer.len(), adapter.and_then(|adapter| adapter.candidates)) {
        _ if config.is_text() => "answers are texts".into(),
        (0, Some(candidates)) => format!("probing among {} words", grouped(candidates)),
        (0, None) => "probing among all words".into(),
        (labels, _) => format!("{labels} labels"),
    };
    let prefix = config.prompt.prefix_tokens.map(|rows| format!("a prefix of {rows} rows"));
    let prompt = match adapter.and_then(|adapter| adapter.prompt.as_ref()) {
        Some(prompt) => format!("{} pseudo tokens from the {} encoder", prompt.rows, config.prompt.encoder.name()),
        None if prefix.is_some() => String::new(),
        None if adapter.is_some() => "a manual prompt, nothing trained".into(),
        None => format!("{} encoder", config.prompt.encoder.name()),
    };
    let about = [Some(format!("{model}{family}")), Some(task), Some(prompt), prefix];
    about.into_iter().flatten().filter(|line| !line.is_empty()).collect()
}

fn cards(facts: &RunFacts, peak_rss_mb: Option<u64>) -> Vec<Card> {
    let card = |name: &str, value: String, beside: String| Card { name: name.into(), value, beside };
    let mut cards = Vec::new();
    let dev = facts.best.as_ref().map(|best| &best.dev);
    for (data, metrics) in [("test", facts.test.as_ref()), ("dev", dev)] {
        if let Some((metrics, value)) = metrics.and_then(|metrics| Some((metrics, metrics.get(facts.select)?))) {
            let majority = metrics.get("majority").map(|share| format!("majority {}", percent(share)));
            let name = format!("{}, {data}", title_of(facts.select));
            cards.push(card(&name, written(value, unit_of(facts.select)), majority.unwrap_or_default()));
        }
    }
    if let Some(summary) = &facts.summary {
        let frozen = format!("{} frozen", grouped(summary.frozen_parameters));
        cards.push(card("Parameters trained", grouped(summary.trainable_parameters), frozen));
    }
    if let Some(adapter) = &facts.adapter {
        let what = match &adapter.prompt {
            Some(prompt) => format!("{} rows of {}", prompt.rows, prompt.width),
            None => "no prompt rows".into(),
        };
        let what = if adapter.trained.is_empty() { what } else { format!("{what}, trained weights") };
        cards.push(card("Adapter", bytes(adapter.bytes), what));
    }
    if let Some(summary) = &facts.summary {
        let speed = match summary.train_examples_per_s {
            0.0 => String::new(),
            speed => format!("{speed:.0} examples/s"),
        };
        cards.push(card("Time", seconds(summary.seconds), speed));
    }
    if let Some(mb) = peak_rss_mb {
        cards.push(card("Memory", format!("{} MB", grouped(mb as usize)), "at its peak".into()));
    }
    cards
}

/// Every metric of dev or test: the selecting one first, the majority last, counts behind it.
fn results(facts: &RunFacts) -> Results {
    let (dev, test) = (facts.best.as_ref().map(|best| &best.dev), facts.test.as_ref());
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in dev.iter().chain(&test).flat_map(|metrics| metrics.iter()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| *name != facts.select);
    let value = |metrics: Option<&Metrics>, wanted: &str| {
        let (_, value) = metrics?.iter().find(|(name, _)| *name == wanted)?;
        Some(match value.as_u64() {
            Some(count) => grouped(count as usize),
            None => value.as_f64().map_or_else(String::new, |value| match wanted {
                "mrr" => format!("{value:.3}"),
                _ => written(value, unit_of(wanted)),
            }),
        })
    };
    let row = |name: &str| ResultRow {
        name: title_of(name),
        dev: value(dev, name),
        test: value(test, name),
        selects: name == facts.select,
        baseline: name == "majority",
    };
    Results { dev: dev.is_some(), test: test.is_some(), rows: names.into_iter().map(row).collect() }
}

fn charts(facts: &RunFacts) -> Vec<Chart> {
    let points = |value: &dyn Fn(&crate::train::log::Line) -> Option<f64>| -> Vec<(usize, f64)> {
        facts.lines.iter().filter_map(|line| Some((line.step?, value(line)?))).collect()
    };
    let dev = points(&|line| line.dev.as_ref()?.get(facts.select));
    let majority = facts.best.as_ref().and_then(|best| best.dev.get("majority"));
    let title = format!("{} on dev", title_of(facts.select));
    let best = facts.best.as_ref().map(|best| best.step);
    let plain = |title, points| Curve {
        title,
        unit: Unit::Number,
        points,
        beside: &[],
        range: None,
        best: None,
        baseline: None,
    };
    let (loss, rate) = (points(&|line| line.loss), points(&|line| line.learning_rate));
    let curves = [
        Curve {
            title: &title,
            unit: unit_of(facts.select),
            points: &dev,
            beside: &[],
            range: None,
            best,
            baseline: majority,
        },
        plain("Training loss", &loss),
        plain("Learning rate", &rate),
    ];
    curves.iter().filter_map(Chart::new).collect()
}

/// The first training row, token by token; none where the data or the model are not there any more.
fn example(facts: &RunFacts) -> Option<Row> {
    let config = &facts.run_file;
    let file = std::fs::File::open(&config.data.train).ok()?;
    let first: Example = Lines::new(std::io::BufReader::new(file), &config.data.train).next()?.ok()?;
    let run_directory = Path::new(&facts.path);
    let directory = ModelDirectory::open(&hub::locate(&config.model, run_directory).ok()?).ok()?;
    let spec = ModelSpec::read(&directory).ok()?;
    let task = Task::from_run(config, &run_directory.join("run.toml"), &directory, &spec).ok()?;
    let mut pieces = pieces(&task, Some(&first)).ok()?;
    let tokens = pieces.iter().map(|piece| piece.tokens.len()).sum();
    let mut left = MOST_TOKENS;
    for piece in &mut pieces {
        piece.tokens.truncate(left);
        left -= piece.tokens.len();
    }
    Some(Row { pieces, tokens, shown: MOST_TOKENS - left })
}

/// A metric's name for people.
fn title_of(metric: &str) -> String {
    match metric {
        "accuracy" => "Accuracy",
        "macro_f1" => "Macro F1",
        "p_at_1" => "P@1",
        "p_at_10" => "P@10",
        "mrr" => "Mean reciprocal rank",
        "exact_match" => "Exact match",
        "perplexity" => "Perplexity",
        "loss" => "Loss of a token",
        "majority" => "Always the most frequent answer",
        "kept" => "Rows",
        "dropped" => "Rows left out: their answer is no candidate",
        other => other,
    }
    .into()
}

/// How a metric is written.
fn unit_of(metric: &str) -> Unit {
    if ["perplexity", "loss"].contains(&metric) { Unit::Number } else { Unit::Share }
}

fn percent(share: f64) -> String {
    written(share, Unit::Share)
}
