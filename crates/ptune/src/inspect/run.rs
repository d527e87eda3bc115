//! A run directory: its run file, how far it came, and the adapter it has so far.

use std::path::Path;

use serde::Serialize;

use super::AdapterFacts;
use crate::Result;
use crate::train::log::{self, Line};
use crate::train::metrics::Metrics;
use crate::train::{self, RunConfig, Summary};

/// What is known about a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunFacts {
    /// Where it is.
    pub path: String,
    /// Whether it came to its end; an interrupted one may be resumed.
    pub finished: bool,
    /// What a finished run came to.
    pub summary: Option<Summary>,
    /// Steps made up to the last evaluation.
    pub steps: usize,
    /// Evaluations, that of step 0 included.
    pub evaluations: usize,
    /// The metric that picks the best state.
    pub select: &'static str,
    /// The kept state; none without dev examples.
    pub best: Option<BestFacts>,
    /// The mean loss before the last evaluation; none before the first step.
    pub last_loss: Option<f64>,
    /// Metrics of the last evaluation on dev.
    pub last_dev: Option<Metrics>,
    /// Metrics of the kept state on test.
    pub test: Option<Metrics>,
    /// The run file as resolved, by its keys.
    pub run_file: RunConfig,
    /// The trained task; none before the first evaluation is over.
    pub adapter: Option<AdapterFacts>,
    /// The lines of `metrics.jsonl`.
    #[serde(skip)]
    pub lines: Vec<Line>,
}

/// The kept state.
#[derive(Clone, Debug, Serialize)]
pub struct BestFacts {
    /// Its step.
    pub step: usize,
    /// Its metrics on dev.
    pub dev: Metrics,
}

impl RunFacts {
    /// Reads a run directory; the base of its adapter is looked for at `model`, or else where the run had it.
    ///
    /// # Errors
    /// A damaged run file, log or adapter; a `model` that is not the adapter's base.
    pub fn read(path: &Path, model: Option<&Path>) -> Result<RunFacts> {
        let config = RunConfig::read(&path.join("run.toml"), &[])?;
        let log = path.join("metrics.jsonl");
        let lines = if log.exists() { log::read(&log)? } else { Vec::new() };
        let adapter = path.join("adapter");
        let adapter = adapter.join("adapter.toml").exists().then(|| AdapterFacts::read(&adapter, model)).transpose()?;
        let summary = train::finished(path)?;
        let best = log::best(&lines);
        let test = lines.iter().find_map(|line| line.test.clone());
        Ok(RunFacts {
            path: path.to_string_lossy().into_owned(),
            finished: summary.is_some(),
            summary,
            steps: lines.iter().filter_map(|line| line.step).next_back().unwrap_or(0),
            evaluations: lines.iter().filter(|line| line.dev.is_some()).count(),
            select: config.select().name(),
            best: best.and_then(|line| Some(BestFacts { step: line.step?, dev: line.dev.clone()? })),
            last_loss: lines.iter().rev().find_map(|line| line.loss),
            last_dev: lines.iter().rev().find_map(|line| line.dev.clone()),
            test,
            run_file: config,
            adapter,
            lines,
        })
    }
}
