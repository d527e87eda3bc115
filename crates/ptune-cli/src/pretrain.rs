//! `ptune pretrain RUN.toml`: trains a tokenizer and a small language model from plain text.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use ptune::pretrain::{Event, Options, PretrainConfig, Summary};
use ptune::{Device, Error};
use serde_json::{Value, json};

use crate::hub;
use crate::progress::Progress;
use crate::report::{peak_rss_mb, print, round};
use crate::run_file::{RunDirectory, RunFile};
use crate::signals::Signals;

/// Train a tokenizer and a small language model from plain text
///
/// Reads text files (a sentence or document a line), trains a tokenizer and a masked (BERT) or causal (GPT-2) model, or goes
/// on from a checkpoint, and writes a run directory: run.toml, initial/ (the model before training), metrics.jsonl, events
/// for TensorBoard, state/, from which --resume goes on, and at the end model/, an ordinary Hugging Face directory
/// for "ptune train", transformers and others.
///
/// Ctrl-C ends a run after its current step and saves it; a second Ctrl-C ends it at once.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    file: RunFile,
    #[command(flatten)]
    directory: RunDirectory,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
A run file (docs/pretrain.md is the manual of its keys):
  [data]
  text = [\"english.txt\", \"korean.txt\"]    # a sentence or document a line

  [tokenizer]
  vocabulary = 4000
  words = \"answers.txt\"                    # words that must be single tokens

  [model]
  layout = \"bert\"                          # or gpt2; or checkpoint = \"DIR\", to go on from a model

  [train]
  steps = 2000

Examples:
  ptune pretrain run.toml --out runs/small
  ptune pretrain run.toml --out runs/small --resume";

pub(crate) fn run(arguments: &Arguments, threads: Option<usize>) -> Result<ExitCode> {
    let (file, directory) = (&arguments.file, &arguments.directory);
    file.refuse_directory()?;
    let config = PretrainConfig::read(&file.run, &file.set)?;
    if let Some(checkpoint) = &config.model.checkpoint {
        hub::fetch(checkpoint, file.run.parent().unwrap_or(Path::new("")))?;
    }
    let out = directory.place(&file.run);
    let device = Device::processor(threads.or(config.threads));
    let mut progress = Progress::new();
    let signals = Signals::listen().context("cannot listen to Ctrl-C")?;
    let options = Options { resume: directory.resume, stop: Some(signals.stop()) };
    let summary = ptune::pretrain::run(&config, &file.run, &out, &device, options, &mut |event| {
        if let Event::Step { .. } = event {
            signals.wait_for_the_run();
        }
        show(&mut progress, event);
    });
    progress.clear();
    let summary = match summary {
        Err(Error::Stopped { step }) => {
            bail!("stopped after step {step} and saved; {}", file.how_to_resume("pretrain", &out, &[]))
        }
        Err(full @ Error::Write { .. }) if out.join("run.toml").exists() => {
            bail!("{full}; when that is mended, {}", file.how_to_resume("pretrain", &out, &[]))
        }
        summary => summary?,
    };
    print(&if arguments.json { to_json(&summary, &out).to_string() } else { to_text(&summary, &out) })?;
    Ok(ExitCode::SUCCESS)
}

fn show(progress: &mut Progress, event: Event<'_>) {
    match event {
        Event::Note(text) => progress.line(text),
        Event::Working { what, done, total } => progress.update(what, done, total, ""),
        Event::Step { step, steps, loss, tokens_per_s, perplexity } => {
            let held_out = perplexity.map_or(String::new(), |value| format!("  perplexity {value:.2}"));
            let beside = format!("loss {loss:.4}  {tokens_per_s:.0} tokens/s{held_out}");
            progress.update("training", step, steps, &beside);
        }
        Event::Evaluated { step, loss, perplexity } => {
            let loss = loss.map_or(String::new(), |loss| format!("  loss {loss:.4}"));
            progress.line(&format!("step {step:>6}{loss}  perplexity {perplexity:.2}"));
        }
    }
}

fn to_json(summary: &Summary, out: &Path) -> Value {
    json!({
        "out": out.to_string_lossy(),
        "model": out.join("model").to_string_lossy(),
        "steps": summary.steps,
        "seconds": round(summary.seconds),
        "tokens": summary.tokens,
        "tokens_per_s": round(summary.tokens_per_s),
        "parameters": summary.parameters,
        "vocabulary": summary.vocabulary,
        "perplexity": summary.perplexity,
        "saved_perplexity": summary.saved_perplexity,
        "model_bytes": summary.model_bytes,
        "peak_rss_mb": peak_rss_mb(),
    })
}

fn to_text(summary: &Summary, out: &Path) -> String {
    let memory = peak_rss_mb().map_or("?".into(), |mb| mb.to_string());
    let mut lines = vec![format!(
        "trained {} parameters and a vocabulary of {}; {} steps in {:.1} s, {:.0} tokens/s, peak memory {memory} MB",
        summary.parameters, summary.vocabulary, summary.steps, summary.seconds, summary.tokens_per_s
    )];
    if let (Some(trained), Some(saved)) = (summary.perplexity, summary.saved_perplexity) {
        lines.push(format!("held out: perplexity {trained:.3} as trained, {saved:.3} as saved"));
    }
    lines.push(format!("model: {} ({} bytes)", out.join("model").display(), summary.model_bytes));
    lines.join("\n")
}
