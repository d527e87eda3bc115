//! `ptune adapter merge`: the model that an adapter makes of its base.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use ptune::merge::merge;
use serde_json::json;

use crate::bundle::Found;
use crate::hub;
use crate::progress::Progress;
use crate::report::{print, visible};

const EXAMPLES: &str = "\
Example:
  ptune adapter merge runs/lora/adapter --out merged";

/// Write the model that an adapter makes of its base
///
/// Low-rank additions are folded into the weights, trained weights take the place of the base's. What changed is f32, the
/// rest keeps its bytes; any reader of Hugging Face directories can load it. DIR/adapter is the same task over the merged
/// model: its prompt, if it has one, and its answers.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The adapter's directory, or BUNDLE#NAME
    adapter: PathBuf,
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

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let found = Found::at(&arguments.adapter)?;
    hub::fetch_base(found.path(), arguments.model.as_deref())?;
    let mut progress = Progress::new();
    let merged = merge(found.path(), arguments.model.as_deref(), &arguments.out, &mut |done, total| {
        progress.update("merging", done, total, "");
    });
    progress.clear();
    let merged = merged?;
    let (changed, tensors, adapter) = (merged.changed, merged.tensors, merged.adapter.to_string_lossy());
    let out = arguments.out.to_string_lossy();
    print(&if arguments.json {
        json!({"out": out, "changed": changed, "tensors": tensors, "adapter": adapter}).to_string()
    } else {
        visible(&format!("{out}: {changed} of {tensors} tensors changed; the task over it is {adapter}"))
    })?;
    Ok(ExitCode::SUCCESS)
}
