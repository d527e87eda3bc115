//! `ptune eval ADAPTER --data FILE`: the metrics of an adapter on a file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use ptune::Device;
use ptune::predict::Predictor;
use serde_json::json;

use crate::bundle::Found;
use crate::hub;
use crate::progress::Progress;
use crate::report::{metrics_json, metrics_line, print};

/// Score an adapter on a labelled JSON-lines file
///
/// Classification: accuracy and macro_f1. Probing: p_at_1, p_at_10, mrr, and how many rows were kept and dropped. The
/// majority baseline (always the file's most frequent answer) stands beside them. Texts: exact_match, perplexity and loss.
#[derive(clap::Args)]
#[command(after_long_help = "Example:\n  ptune eval runs/first/adapter --data test.jsonl")]
pub(crate) struct Arguments {
    /// The adapter's directory, or BUNDLE#NAME
    adapter: PathBuf,
    /// The file: a JSON object a line, with the fields of the template and the target
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The model's directory, or its name in the Hugging Face cache, when it has moved since the training
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, device: &Device) -> Result<ExitCode> {
    let mut progress = Progress::new();
    let adapter = Found::at(&arguments.adapter)?;
    hub::fetch_base(adapter.path(), arguments.model.as_deref())?;
    let predictor = Predictor::open(adapter.path(), arguments.model.as_deref(), device, &mut |done, total| {
        progress.update("loading", done, total, "");
    });
    progress.clear();
    let predictor = predictor?;
    let start = Instant::now();
    let evaluated = predictor.evaluate(&arguments.data, &mut |done, total| {
        progress.update("evaluating", done, total, "");
    });
    progress.clear();
    let evaluated = evaluated?;
    let examples_per_s = evaluated.examples as f64 / start.elapsed().as_secs_f64();
    print(&if arguments.json {
        let rate = (examples_per_s * 1000.0).round() / 1000.0;
        let metrics = metrics_json(&evaluated.metrics);
        json!({"examples": evaluated.examples, "examples_per_s": rate, "metrics": metrics}).to_string()
    } else {
        format!("{} examples, {examples_per_s:.1} a second\n{}", evaluated.examples, metrics_line(&evaluated.metrics))
    })?;
    Ok(ExitCode::SUCCESS)
}
