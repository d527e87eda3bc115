//! `ptune search RUN.toml`: a discrete prompt, of tokens found by gradient or of given prompts.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use ptune::search::{Found, search};
use ptune::train::RunConfig;
use ptune::train::metrics::Metrics;
use ptune::{Device, Error};
use serde_json::{Value, json};

use crate::prompts;
use crate::report::{metrics_json, metrics_line, print, round, visible};

/// Prompts of a file that are shown one by one.
const MOST_SHOWN: usize = 10;

/// Search a discrete prompt: tokens by gradient (AutoPrompt), or the best of given prompts
///
/// Without --prompts, finds tokens for the places [P*n] of the template: the gradient of the loss proposes candidates, the
/// loss on other rows decides, the dev rows keep the best. With --prompts, scores the prompts of a file and takes the best
/// one, or lets the best answer together, with equal or with learned weights. With search.label_words, first finds words
/// for the labels. The keys of [search] are in docs/search.md.
/// The result is an adapter for eval, predict and inspect, in a directory that must not hold a run yet. An interrupted search
/// keeps its best so far; it is not resumed.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    asked: prompts::Asking,
}

const EXAMPLES: &str = "\
Examples:
  ptune search run.toml --set search.steps=200         template: \"{sub_label} [P*5] [MASK] .\"
  ptune search run.toml --set search.label_words=3     words for the labels, then tokens where the template has [P*n]
  ptune search run.toml --prompts prompts.txt          the best prompt
  ptune search run.toml --prompts P17.jsonl --set search.combine=weighted --set search.top=10";

pub(crate) fn run(Arguments { asked: arguments }: &Arguments, threads: Option<usize>) -> Result<ExitCode> {
    let prompts = match &arguments.prompts {
        Some(file) => {
            let path = std::path::absolute(file).map_err(|source| Error::read(file, source))?;
            Some(("search.prompts".into(), Value::from(path.to_string_lossy()).to_string()))
        }
        None => None,
    };
    let (config, out) = arguments.read(prompts)?;
    let device = Device::processor(threads.or(config.threads));
    let found = arguments.watch(|file, stop, observe| search(&config, file, &out, &device, Some(stop), observe))?;
    let found = match found {
        Err(Error::Stopped { step }) if out.join("adapter").exists() => {
            bail!("stopped after step {step}; the best so far is {}", out.join("adapter").display())
        }
        found => found?,
    };
    print(&if arguments.json { to_json(&found, &out).to_string() } else { visible(&to_text(&found, &out, &config)) })?;
    Ok(ExitCode::SUCCESS)
}

fn to_json(found: &Found, out: &Path) -> Value {
    let metrics = |metrics: &Option<Metrics>| metrics.as_ref().map_or(Value::Null, metrics_json);
    let weighted =
        |prompt: &ptune::adapter::WeightedPrompt| json!({"template": prompt.template, "weight": prompt.weight});
    let tried =
        |tried: &ptune::search::Tried| json!({"template": tried.template, "metrics": metrics_json(&tried.metrics)});
    json!({
        "out": out.to_string_lossy(),
        "steps": found.summary.steps,
        "seconds": round(found.summary.seconds),
        "prompt": found.words,
        "labels": found.labels.iter().map(|(label, words)| json!({"label": label, "words": words})).collect::<Vec<_>>(),
        "tokens": found.tokens,
        "prompts": found.prompts.iter().map(weighted).collect::<Vec<_>>(),
        "tried": found.tried.iter().map(tried).collect::<Vec<_>>(),
        "dev": metrics(&found.summary.dev),
        "test": metrics(&found.summary.test),
    })
}

fn to_text(found: &Found, out: &Path, config: &RunConfig) -> String {
    let summary = &found.summary;
    let mut text = if found.tried.is_empty() {
        let tokens = found.tokens.join(" ");
        format!("{} steps in {:.1} s\nprompt {}\ntokens {tokens}", summary.steps, summary.seconds, found.words)
    } else {
        let mut text = format!("{} prompts in {:.1} s", found.tried.len(), summary.seconds);
        let select = config.select().name();
        for tried in found.tried.iter().take(MOST_SHOWN) {
            let _ = write!(text, "\n{:>8.4}  {}", tried.metrics.get(select).unwrap_or(0.0), tried.template);
        }
        if found.tried.len() > MOST_SHOWN {
            let _ = write!(text, "\n     ...  {} more", found.tried.len() - MOST_SHOWN);
        }
        text += "\n\nweight    prompt";
        for prompt in &found.prompts {
            let _ = write!(text, "\n{:>8.4}  {}", prompt.weight, prompt.template);
        }
        text
    };
    for (label, words) in &found.labels {
        let _ = write!(text, "\nlabel  {label}: {}", words.join(", "));
    }
    for (name, metrics) in [("dev", &summary.dev), ("test", &summary.test)] {
        if let Some(metrics) = metrics {
            let _ = write!(text, "\n{name:<6} {}", metrics_line(metrics));
        }
    }
    let _ = write!(text, "\nadapter: {} ({} bytes)", out.join("adapter").display(), summary.adapter_bytes);
    text
}
