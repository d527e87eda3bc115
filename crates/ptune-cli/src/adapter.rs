//! `ptune adapter export|import`: adapters to and from the PEFT library; `bundle` is in `bundle.rs`, `merge` in `merge.rs`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use ptune::adapter::peft::{PeftMethod, PeftSize};
use ptune::exchange::{TaskFrom, export_peft, import_peft};
use ptune::prompt::AnswerKind;
use ptune::train::RunConfig;
use ptune::train::config::{DataConfig, HeadKind, TaskConfig};
use ptune::{Device, Error};
use serde_json::json;

use crate::bundle::{self, Found};
use crate::hub;
use crate::merge;
use crate::progress::Progress;
use crate::report::{print, visible};

/// Exchange adapters with PEFT, keep many in one file, merge one into its model
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Export(Export),
    Import(Import),
    Bundle(bundle::Arguments),
    Merge(merge::Arguments),
}

const EXAMPLES: &str = "\
Examples:
  ptune adapter export runs/first/adapter --format peft --out first-peft
  ptune adapter export runs/first/adapter --format peft --method prefix-tuning --out first-prefix
  ptune adapter import first-peft --out first-again
  ptune adapter import their-adapter --model gpt2 --template '[P*8] {text} Sentiment: [MASK]' \\
      --label positive=good,great --label negative=bad --out theirs

docs/adapter.md says what PEFT can hold and what it cannot.";

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// The two files of Hugging Face's PEFT, and ptune.json beside them
    Peft,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Method {
    /// PROMPT_TUNING: rows before the text
    #[value(name = "prompt-tuning")]
    Prompt,
    /// P_TUNING: the same rows, with the encoder's name
    #[value(name = "p-tuning")]
    Encoded,
    /// PREFIX_TUNING: keys and values in every block; a prompt is run through the model once, and the answers stay the same
    #[value(name = "prefix-tuning")]
    Prefix,
    /// LORA: low-rank additions to the model's layers
    Lora,
}

/// Write an adapter for another library
///
/// PEFT puts all virtual tokens before the text of a causal model; low-rank additions it takes in any. What it cannot express
/// (pseudo tokens inside the text or of a masked model, a model trained along) is refused with the reason, and nothing is
/// written.
#[derive(clap::Args)]
struct Export {
    /// The adapter's directory, or BUNDLE#NAME
    adapter: PathBuf,
    /// Whose files to write
    #[arg(long, value_enum)]
    format: Format,
    /// What to write it as [default: p-tuning of an mlp or lstm, prefix-tuning of a prefix, lora of low-rank additions, else
    /// prompt-tuning]
    #[arg(long, value_enum)]
    method: Option<Method>,
    /// The directory to write; new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The model's directory or name, when it has moved since the training
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    json: bool,
}

/// Make an adapter of a directory that PEFT wrote
///
/// PEFT keeps no template, no labels and no words for them: they come from a run file, from --template and --label, or from the
/// ptune.json that 'export' wrote. The template's pseudo tokens must be as many as the virtual tokens, before the text; for a
/// prefix and for LoRA it has none.
#[derive(clap::Args)]
struct Import {
    /// The directory with adapter_config.json and adapter_model.safetensors
    peft: PathBuf,
    /// The base model's directory or name [default: that of the run file or of ptune.json]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The run file whose task it is
    #[arg(long, value_name = "RUN.toml", conflicts_with_all = ["template", "labels", "target", "answer_tokens"])]
    run: Option<PathBuf>,
    /// The template, as in --template '[P*8] {text} It was [MASK]'
    #[arg(long, value_name = "TEXT", requires = "model")]
    template: Option<String>,
    /// A label and its words, or its name alone where there is a classifier; without labels any word is an answer. May be
    /// repeated, in the order of the classes
    #[arg(long = "label", value_name = "NAME[=WORD,WORD]", requires = "template", value_parser = label)]
    labels: Vec<(String, Vec<String>)>,
    /// The field with the gold label or answer [default: label]
    #[arg(long, value_name = "FIELD", requires = "template")]
    target: Option<String>,
    /// The answers are texts, of at most so many tokens
    #[arg(long, value_name = "N", requires = "template", conflicts_with = "labels")]
    answer_tokens: Option<usize>,
    /// Which task of a multi-task prompt, counted from 0
    #[arg(long, value_name = "N")]
    task: Option<usize>,
    /// The adapter's directory to write; new or empty
    #[arg(long, value_name = "ADAPTER")]
    out: PathBuf,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, device: &Device) -> Result<ExitCode> {
    match &arguments.command {
        Command::Export(arguments) => export(arguments, device),
        Command::Import(arguments) => import(arguments),
        Command::Bundle(arguments) => bundle::run(arguments, device),
        Command::Merge(arguments) => merge::run(arguments),
    }
}

fn export(arguments: &Export, device: &Device) -> Result<ExitCode> {
    let Format::Peft = arguments.format;
    let method = arguments.method.map(|method| match method {
        Method::Prompt => PeftMethod::PromptTuning,
        Method::Encoded => PeftMethod::PTuning,
        Method::Prefix => PeftMethod::PrefixTuning,
        Method::Lora => PeftMethod::Lora,
    });
    let mut progress = Progress::new();
    let found = Found::at(&arguments.adapter)?;
    let (adapter, model, out) = (found.path(), arguments.model.as_deref(), &arguments.out);
    hub::fetch_base(adapter, model)?;
    let done = export_peft(adapter, model, method, out, device, &mut |done, total| {
        progress.update("loading", done, total, "");
    });
    progress.clear();
    let done = done?;
    let (method, (key, size, words), bytes) = (done.method, sized(done.size), done.bytes);
    let out = out.to_string_lossy();
    print(&if arguments.json {
        json!({"out": out, "method": method, key: size, "bytes": bytes}).to_string()
    } else {
        visible(&format!("{out}: {method} of {words}, {bytes} bytes"))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn import(arguments: &Import) -> Result<ExitCode> {
    let file = arguments.run.as_deref().unwrap_or(Path::new("--template"));
    let config = match (&arguments.run, &arguments.template) {
        (Some(run), _) => Some(RunConfig::read(run, &[])?),
        (None, Some(template)) => Some(task_of_arguments(arguments, template)?),
        (None, None) => None,
    };
    let named = arguments.model.as_deref().map(|model| (model, Path::new("")));
    let of_run = config.as_ref().map(|config| (config.model.as_path(), file.parent().unwrap_or(Path::new(""))));
    if let Some((model, beside)) = named.or(of_run) {
        hub::fetch(model, beside)?;
    }
    let from = config.as_ref().map_or(TaskFrom::Beside, |config| TaskFrom::Run(config, file));
    let done = import_peft(&arguments.peft, arguments.model.as_deref(), from, arguments.task, &arguments.out)?;
    let out = arguments.out.to_string_lossy();
    let (method, (key, size, words), template) = (done.method, sized(done.size), done.template);
    print(&if arguments.json {
        json!({"out": out, "method": method, key: size, "template": template}).to_string()
    } else {
        visible(&format!("{out}: of {method}, {words}, template {template}"))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The key of a size in JSON, its number, and both in words.
fn sized(size: PeftSize) -> (&'static str, usize, String) {
    match size {
        PeftSize::Tokens(tokens) => ("virtual_tokens", tokens, format!("{tokens} virtual tokens")),
        PeftSize::Rank(rank) => ("rank", rank, format!("rank {rank}")),
    }
}

/// The arguments as a run file that trains nothing.
fn task_of_arguments(arguments: &Import, template: &str) -> Result<RunConfig, Error> {
    let classifier = !arguments.labels.is_empty() && arguments.labels.iter().all(|(_, words)| words.is_empty());
    let names = || arguments.labels.iter().map(|(name, _)| name.clone()).collect();
    let task = TaskConfig {
        template: template.to_owned(),
        target: arguments.target.clone().unwrap_or_else(|| "label".into()),
        head: classifier.then_some(HeadKind::Classifier),
        labels: classifier.then(names),
        verbalizer: if classifier { Vec::new() } else { arguments.labels.clone() },
        answer: arguments.answer_tokens.map(|_| AnswerKind::Text),
        answer_tokens: arguments.answer_tokens,
        ..TaskConfig::default()
    };
    // A run file names its rows; of an import nobody reads them.
    let data = DataConfig { train: "none".into(), ..DataConfig::default() };
    RunConfig { model: arguments.model.clone().unwrap_or_default(), data, task, ..RunConfig::default() }.checked()
}

fn label(text: &str) -> std::result::Result<(String, Vec<String>), String> {
    match text.split_once('=') {
        Some((name, words)) if !name.is_empty() && !words.is_empty() => {
            Ok((name.to_owned(), words.split(',').map(str::to_owned).collect()))
        }
        None if !text.is_empty() => Ok((text.to_owned(), Vec::new())),
        _ => Err("write NAME=WORD,WORD, as in --label positive=good,great, or NAME alone for a classifier".into()),
    }
}
