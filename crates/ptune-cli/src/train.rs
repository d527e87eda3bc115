//! `ptune train RUN.toml`: trains, evaluates, writes the run directory.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use ptune::train::{self, Event, Options, RunConfig, Summary};
use ptune::{Device, Error, report};
use serde_json::{Value, json};

use crate::progress::Progress;
use crate::report::{metrics_json, metrics_line, peak_rss_mb, print, round};
use crate::run_file::{RunDirectory, RunFile};
use crate::seeds::{self, Runs};
use crate::signals::Signals;

/// Train a task from a run file
///
/// Reads and checks every file, trains, and writes a run directory: run.toml (the run file as resolved), metrics.jsonl,
/// adapter/, the trained task, report.html, a page about the run for any browser, events for TensorBoard, and state/, from
/// which --resume goes on. The adapter is the best one by the dev metric, or the last where there is no dev file. The
/// model itself is only read.
///
/// Ctrl-C ends a run after its current step and saves it; a second Ctrl-C ends it at once.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    file: RunFile,
    #[command(flatten)]
    directory: RunDirectory,
    /// Train with each of these seeds in place of the run file's, as in --seeds 0,1,2: all over one frozen model at once,
    /// each to the same result as alone; into DIR/seed-0, DIR/seed-1, ... Tells mean and deviation over the seeds
    #[arg(long, value_name = "SEEDS", value_delimiter = ',')]
    seeds: Option<Vec<u64>>,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
A run file for classification (docs/train.md is the manual of its keys):
  model = \"models/bert-base-cased\"

  [data]
  train = \"train.jsonl\"    # a line each: {\"text\": \"a fine film\", \"label\": \"good\"}
  dev = \"dev.jsonl\"

  [task]
  template = \"[P*3] {text|shorten} It was [MASK].\"

  [task.verbalizer]
  good = [\"great\"]
  bad = [\"terrible\"]

  [train]
  steps = 200

Examples:
  ptune train run.toml
  ptune train run.toml --out runs/fast --set train.learning_rate=3e-3 --set train.steps=500
  ptune train run.toml --out runs/fast --set train.learning_rate=3e-3 --set train.steps=500 --resume
  ptune train run.toml --out runs/three --seeds 0,1,2";

pub(crate) fn run(arguments: &Arguments, threads: Option<usize>) -> Result<ExitCode> {
    let (file, directory) = (&arguments.file, &arguments.directory);
    file.refuse_directory()?;
    let config = RunConfig::read(&file.run, &file.set)?;
    let out = directory.place(&file.run);
    let mut runs = Runs::new(arguments.seeds.as_deref());
    let places = runs.directories(&out);
    places.iter().try_for_each(|place| train::check_directory(place, directory.resume))?;
    file.fetch(&config)?;
    let device = Device::processor(threads.or(config.threads));
    let mut progress = Progress::new();
    let signals = Signals::listen().context("cannot listen to Ctrl-C")?;
    let options = Options { resume: directory.resume, stop: Some(signals.stop()) };
    let mut observe = |event: Event<'_>| {
        if let Event::Evaluating { .. } | Event::Step { .. } = event {
            signals.wait_for_the_run();
        }
        runs.show(&mut progress, event);
    };
    let summaries = match &arguments.seeds {
        None => train::run_with(&config, &file.run, &out, &device, options, &mut observe).map(|one| vec![one]),
        Some(seeds) => train::run_seeds(&config, &file.run, &out, seeds, &device, options, &mut observe),
    };
    progress.clear();
    let go_on = || {
        let list = |seeds: &Vec<u64>| seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let seeds = arguments.seeds.iter().flat_map(|seeds| ["--seeds".into(), list(seeds)]);
        file.how_to_resume("train", &out, &seeds.collect::<Vec<_>>())
    };
    let summaries = match summaries {
        Err(Error::Stopped { step: 0 }) => bail!("stopped before the first step; {}", go_on()),
        Err(Error::Stopped { step }) => {
            // A report of what there is; the run is saved with or without it.
            places.iter().for_each(|place| drop(report::write(place, peak_rss_mb())));
            bail!("stopped after step {step} and saved; {}", go_on())
        }
        Err(full @ Error::Write { .. }) if places.iter().any(|place| place.join("run.toml").exists()) => {
            bail!("{full}; when that is mended, {}", go_on())
        }
        summaries => summaries?,
    };
    // The run is saved: its results are told even where the report cannot be written.
    let report = places.iter().try_for_each(|place| report::write(place, peak_rss_mb()).map(drop));
    let json = |i: usize| to_json(&summaries[i], &places[i]);
    print(&match (&arguments.seeds, arguments.json) {
        (None, true) => json(0).to_string(),
        (None, false) => to_text(&summaries[0], &out),
        (Some(seeds), true) => {
            seeds::to_json((0..summaries.len()).map(json).collect(), seeds, &summaries, &out).to_string()
        }
        (Some(seeds), false) => seeds::to_text(seeds, &summaries, &out),
    })?;
    report?;
    Ok(ExitCode::SUCCESS)
}

fn to_json(summary: &Summary, out: &Path) -> Value {
    let metrics = |m: &Option<_>| m.as_ref().map_or(Value::Null, metrics_json);
    json!({
        "out": out.to_string_lossy(),
        "steps": summary.steps,
        "seconds": round(summary.seconds),
        "train_examples_per_s": round(summary.train_examples_per_s),
        "trainable_parameters": summary.trainable_parameters,
        "frozen_parameters": summary.frozen_parameters,
        "peak_rss_mb": peak_rss_mb(),
        "dev": metrics(&summary.dev),
        "test": metrics(&summary.test),
    })
}

fn to_text(summary: &Summary, out: &Path) -> String {
    let memory = peak_rss_mb().map_or("?".into(), |mb| mb.to_string());
    let mut lines = vec![if summary.trainable_parameters == 0 {
        let frozen = summary.frozen_parameters;
        format!("a manual prompt (no [P*n] in the template): nothing to train, {frozen} parameters frozen")
    } else {
        format!(
            "trained {} parameters, {} frozen; {} steps in {:.1} s, {:.1} examples/s, peak memory {memory} MB",
            summary.trainable_parameters,
            summary.frozen_parameters,
            summary.steps,
            summary.seconds,
            summary.train_examples_per_s,
        )
    }];
    for (name, metrics) in [("dev", &summary.dev), ("test", &summary.test)] {
        if let Some(metrics) = metrics {
            lines.push(format!("{name:<5} {}", metrics_line(metrics)));
        }
    }
    lines.push(format!("adapter: {} ({} bytes)", out.join("adapter").display(), summary.adapter_bytes));
    lines.push(format!("report: {}", out.join(report::FILE).display()));
    lines.join("\n")
}
