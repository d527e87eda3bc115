//! `ptune sensitivity RUN.toml`: how much the score depends on the words of a prompt, before and after P-tuning.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use ptune::sensitivity::{Sensitivity, Spread, Wanted, sensitivity};
use ptune::{Device, Error};

use crate::prompts;
use crate::report::{print, visible};

/// Compare prompts that a person would think equal, untrained and after P-tuning from each
///
/// Scores each prompt alone on the test rows (else dev, else training rows), with --edits also small edits of each: a function
/// word dropped, swapped or inserted, the mark at the end, letters. The prompts are those of --prompts, else those of
/// sensitivity.prompts, else the run file's own. With --tune, P-tuning starts from each: pseudo
/// tokens around its words, with the keys of [train]. Writes sensitivity.json and a page for any browser.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    asked: prompts::Asking,
    /// Compare small edits of each prompt too (sensitivity.edits)
    #[arg(long)]
    edits: bool,
    /// P-tune from each prompt: as many trainings as there are prompts; those in the directory are gone on with
    #[arg(long)]
    tune: bool,
}

const EXAMPLES: &str = "\
Examples:
  ptune sensitivity run.toml --edits
  ptune sensitivity run.toml --prompts prompts.txt --tune --out runs/sensitivity";

pub(crate) fn run(arguments: &Arguments, threads: Option<usize>) -> Result<ExitCode> {
    let Arguments { asked: arguments, edits, tune } = arguments;
    let (config, out) = arguments.read(edits.then(|| ("sensitivity.edits".into(), "true".into())))?;
    let device = Device::processor(threads.or(config.threads));
    let found = arguments.watch(|file, stop, observe| {
        let wanted = Wanted { prompts: arguments.prompts.as_deref(), tune: *tune, stop: Some(stop) };
        sensitivity(&config, file, &out, &device, wanted, observe)
    })?;
    let found = match found {
        Err(Error::Stopped { .. }) if *tune => {
            bail!("stopped and saved; the same command with --out {} goes on", out.display())
        }
        found => found?,
    };
    print(&if arguments.json { serde_json::to_string(&found)? } else { visible(&to_text(&found, &out)) })?;
    Ok(ExitCode::SUCCESS)
}

fn to_text(found: &Sensitivity, out: &Path) -> String {
    let (rows, majority) = (found.rows, found.majority);
    let mut text = format!("{} on {} {rows} rows; majority {majority:.4}\n", found.metric, found.examples);
    let score = |score: Option<f64>| score.map_or(String::new(), |score| format!("{score:.4}"));
    let _ = write!(text, "{:>9}  {:>6}  prompt", "untrained", "tuned");
    for prompt in &found.prompts {
        let edit = prompt
            .edit
            .map_or(String::new(), |kind| format!("   ({kind}: {})", prompt.what.as_deref().unwrap_or_default()));
        let (before, after) = (score(Some(prompt.untrained)), score(prompt.tuned));
        let _ = write!(text, "\n{before:>9}  {after:>6}  {}{edit}", prompt.template);
    }
    type Value = fn(&Spread) -> Option<f64>;
    let of = |of: Value| (score(of(&found.untrained)), score(found.tuned.as_ref().and_then(of)));
    let lines: [(&str, Value); 4] = [
        ("best", |spread| Some(spread.best)),
        ("worst", |spread| Some(spread.worst)),
        ("mean", |spread| Some(spread.mean)),
        ("deviation", |spread| spread.deviation),
    ];
    text.push('\n');
    for (name, value) in lines {
        let (before, after) = of(value);
        let _ = write!(text, "\n{before:>9}  {after:>6}  {name}");
    }
    let _ = write!(text, "\n\nreport: {}", out.join("sensitivity.html").display());
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
