//! `ptune inspect PATH`: what is in a model, an adapter or a run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use ptune::Device;
use ptune::inspect::{AdapterFacts, Inspection, ModelFacts, PieceFacts, PromptFacts, RunFacts, inspect};

use crate::bundle::Found;
use crate::hub;
use crate::progress::Progress;
use crate::report::{metrics_line, print, visible};

/// Show what is in a model, an adapter or a run
///
/// A model: family, sizes, parameters by part, tokenizer, fingerprint, and whether ptune can use it. An adapter: its
/// template piece by piece with the tokens, labels, sizes, metrics, and the words that each pseudo token lies nearest to
/// (by cosine, among the word embeddings of its model). A run: how far it is, its best state, then its adapter.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A model's directory or name, an adapter's directory or BUNDLE#NAME, or a run's directory
    path: PathBuf,
    /// For an adapter or a run: the model's directory, when it has moved since the training
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  ptune inspect models/bert-base-cased        can ptune use this model?
  ptune inspect runs/first                    how did the run go, and what did it learn?
  ptune inspect runs/first/adapter --json     the same for a script; docs/inspect.md has the keys";

pub(crate) fn run(arguments: &Arguments, device: &Device) -> Result<ExitCode> {
    for named in [Some(arguments.path.as_path()), arguments.model.as_deref()].into_iter().flatten() {
        hub::fetch(named, Path::new(""))?;
    }
    let adapter = Found::at(&arguments.path)?;
    let mut progress = Progress::new();
    let found = inspect(adapter.path(), arguments.model.as_deref(), device, &mut |done, total| {
        progress.update("loading", done, total, "");
    });
    progress.clear();
    let found = found?;
    let text = if arguments.json {
        serde_json::to_string(&found)?
    } else {
        let lines = match &found {
            Inspection::Model(model) => of_model(model),
            Inspection::Adapter(adapter) => of_adapter(adapter),
            Inspection::Run(run) => of_run(run),
        };
        visible(&lines.join("\n"))
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A name and what it is, in columns.
fn line(name: &str, value: impl std::fmt::Display) -> String {
    format!("{name:<12} {value}")
}

fn of_model(model: &ModelFacts) -> Vec<String> {
    let mut lines = vec![line("model", &model.path)];
    lines.push(match &model.reason {
        None => line("usable", "yes"),
        Some(reason) => line("usable", format!("no: {reason}")),
    });
    lines.extend(model.family.as_ref().map(|family| line("family", family)));
    if let Some(shape) = &model.shape {
        let direction = if shape.causal { "reads from left to right" } else { "fills in [MASK]" };
        lines.push(line("kind", direction));
        let (blocks, heads, inner) = (shape.blocks, shape.heads, shape.inner);
        let words = if shape.embedding_width == shape.width {
            String::new()
        } else {
            format!(" (words {})", shape.embedding_width)
        };
        let shared = if shape.own_blocks == blocks {
            String::new()
        } else {
            format!(", the weights of {} blocks shared", shape.own_blocks)
        };
        let sizes = format!("width {}{words}, {blocks} blocks of {heads} heads, inner {inner}{shared}", shape.width);
        lines.push(line("sizes", sizes));
        lines.push(line("positions", shape.positions));
        lines.push(line("vocabulary", shape.vocabulary));
    }
    if let Some(count) = &model.parameters {
        let mut parts =
            format!("{} (embeddings {}, blocks {}, head {}", count.total, count.embeddings, count.blocks, count.head);
        if count.unused > 0 {
            parts += &format!(", unused {}", count.unused);
        }
        lines.push(line("parameters", parts + ")"));
    }
    if !model.dtypes.is_empty() {
        let dtypes: Vec<String> =
            model.dtypes.iter().map(|(name, count)| format!("{name} ({count} tensors)")).collect();
        lines.push(line("stored as", dtypes.join(", ")));
    }
    if let Some(tokenizer) = &model.tokenizer {
        let special: Vec<String> = tokenizer.special.iter().map(|(role, id)| format!("{role} {id}")).collect();
        lines.push(line(
            "tokenizer",
            format!("{}, {} tokens, from {}", tokenizer.kind, tokenizer.tokens, tokenizer.file),
        ));
        lines.push(line("special", special.join(", ")));
    }
    for (i, (name, bytes)) in model.files.iter().enumerate() {
        lines.push(line(if i == 0 { "files" } else { "" }, format!("{name}, {bytes} bytes")));
    }
    lines.extend(model.fingerprint.as_ref().map(|fingerprint| line("fingerprint", fingerprint)));
    lines
}

fn of_run(run: &RunFacts) -> Vec<String> {
    let config = &run.run_file;
    let state = if run.finished { "finished" } else { "interrupted, or still at work" };
    let length = match (config.train.steps, config.train.epochs) {
        (Some(steps), _) => format!(" of {steps}"),
        (None, Some(epochs)) => format!(", {epochs} epochs asked for"),
        (None, None) => String::new(),
    };
    let mut lines = vec![line("run", &run.path), line("state", format!("{state}; step {}{length}", run.steps))];
    lines.push(line("model", config.model.display()));
    let data =
        [("train", Some(&config.data.train)), ("dev", config.data.dev.as_ref()), ("test", config.data.test.as_ref())];
    for (name, file) in data {
        lines.extend(file.map(|file| line(name, file.display())));
    }
    let (rate, batch, encoder) = (config.train.learning_rate, config.train.batch_size, config.prompt.encoder.name());
    let training = format!("learning rate {rate}, batches of {batch}, encoder {encoder}, seed {}", config.seed);
    lines.push(line("training", training));
    lines.extend(run.last_loss.map(|loss| line("last loss", format!("{loss:.4}"))));
    lines.extend(run.last_dev.as_ref().map(|dev| line("last dev", metrics_line(dev))));
    if let Some(best) = &run.best {
        lines.push(line("best", format!("step {}, by {}", best.step, run.select)));
        lines.push(line("best dev", metrics_line(&best.dev)));
    }
    lines.extend(run.test.as_ref().map(|test| line("test", metrics_line(test))));
    if let Some(summary) = &run.summary {
        let (trained, frozen) = (summary.trainable_parameters, summary.frozen_parameters);
        lines.push(line("parameters", format!("{trained} trained, {frozen} frozen")));
        let speed = format!("{:.1} s, {:.1} examples/s", summary.seconds, summary.train_examples_per_s);
        lines.push(line("time", speed));
    }
    lines.push(String::new());
    match &run.adapter {
        Some(adapter) => lines.extend(of_adapter(adapter)),
        None => lines.push(line("adapter", "none yet")),
    }
    lines
}

fn of_adapter(adapter: &AdapterFacts) -> Vec<String> {
    let base = &adapter.base;
    let mut lines = vec![line("adapter", format!("{} ({} bytes)", adapter.path, adapter.bytes))];
    lines.push(line("base", format!("{} ({}), {}", base.name, base.family, base.path)));
    lines.push(line("", format!("fingerprint {}", base.fingerprint)));
    lines.extend(base.note.as_ref().map(|note| line("", format!("tokens and nearest words are left out: {note}"))));
    lines.push(line("template", &adapter.template));
    lines.extend(
        adapter.pieces.iter().map(|pieces| line("as tokens", pieces.iter().map(shown).collect::<Vec<_>>().join(" · "))),
    );
    lines.push(line("target", format!("field {}, rows of at most {} tokens", adapter.target, adapter.max_tokens)));
    for (i, label) in adapter.labels.iter().enumerate() {
        let tokens = |i: usize| label.tokens.as_ref().map(|tokens| &tokens[i]).filter(|tokens| tokens.len() > 1);
        let word = |(i, word): (usize, &String)| match tokens(i) {
            Some(tokens) => format!("{word} ({})", tokens.join(" ")),
            None => word.clone(),
        };
        let words: Vec<String> = label.words.iter().enumerate().map(word).collect();
        let words = if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) };
        lines.push(line(if i == 0 { "labels" } else { "" }, format!("{}{words}", label.label)));
    }
    if adapter.labels.is_empty() {
        lines.push(line(
            "answers",
            match (adapter.answer_tokens, adapter.candidates) {
                (Some(longest), _) => format!("any text of at most {longest} tokens"),
                (_, Some(candidates)) => format!("{candidates} candidate words"),
                _ => "any word of the model".into(),
            },
        ));
    }
    for (name, metrics) in [("dev", &adapter.metrics.dev), ("test", &adapter.metrics.test)] {
        let cells: Vec<String> = metrics
            .iter()
            .map(|(name, value)| match name.as_str() {
                "kept" | "dropped" => format!("{name} {value}"),
                _ => format!("{name} {value:.4}"),
            })
            .collect();
        if !cells.is_empty() {
            lines.push(line(name, cells.join("   ")));
        }
    }
    for part in &adapter.trained {
        lines.push(line("trained", format!("{}: {} numbers in {} tensors", part.file, part.numbers, part.tensors)));
    }
    lines.extend(adapter.lora.as_ref().map(|lora| {
        let targets: Vec<&str> = lora.targets.iter().map(|target| target.name()).collect();
        let kind = if lora.rslora { ", rank-stabilised" } else { "" };
        line("lora", format!("rank {}, alpha {}{kind}: {}", lora.rank, lora.alpha, targets.join(", ")))
    }));
    lines.extend(adapter.prefix.as_ref().map(|prefix| {
        line("prefix", format!("{} rows of keys and values, {} numbers each", prefix.rows, prefix.width))
    }));
    let discrete = &adapter.discrete;
    for (i, prompt) in discrete.prompts.iter().enumerate() {
        lines.push(line(if i == 0 { "together" } else { "" }, format!("{:.4}  {}", prompt.weight, prompt.template)));
    }
    match (&adapter.prompt, &adapter.prefix) {
        (Some(prompt), _) => lines.extend(of_prompt(prompt)),
        (None, Some(_)) => {}
        (None, None) if !discrete.tokens.is_empty() => {
            let ids: Vec<String> = discrete.tokens.iter().map(u32::to_string).collect();
            lines.push(line("prompt", format!("discrete: the tokens {}", ids.join(" "))));
        }
        (None, None) => lines.push(line("prompt", "none: a manual template")),
    }
    lines
}

fn of_prompt(prompt: &PromptFacts) -> Vec<String> {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let (encoder, shapes) = (name(&prompt.encoder), name(&prompt.shapes));
    let mut lines =
        vec![line("prompt", format!("{} x {} from encoder {encoder} ({shapes})", prompt.rows, prompt.width))];
    if prompt.tokens.iter().any(|token| token.nearest.is_some()) {
        lines.push(String::new());
        lines.push(format!("{:<12} {:>6}  nearest words (cosine)", "pseudo token", "length"));
    }
    for token in &prompt.tokens {
        if let Some(nearest) = &token.nearest {
            let words: Vec<String> = nearest.iter().map(|near| format!("{} {:.2}", near.word, near.cosine)).collect();
            lines.push(format!("{:<12} {:>6.2}  {}", token.token, token.length.unwrap_or(0.0), words.join("  ")));
        }
    }
    lines
}

/// A piece by its tokens, or as the template has it.
fn shown(piece: &PieceFacts) -> String {
    if piece.tokens.is_empty() { piece.source.clone() } else { piece.tokens.join(" ") }
}
