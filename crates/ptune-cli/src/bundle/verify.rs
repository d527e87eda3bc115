//! `ptune adapter bundle verify`: what is wrong with one adapter does not keep the others from being looked at.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use ptune::adapter::bundle::Bundle;
use ptune::exchange::golden::{Verified, verify};
use ptune::predict::Predictor;
use ptune::{Device, Error};
use serde_json::{Value, json};

use super::{extracted, open};
use crate::report::{print, visible};

/// Compare every byte with its hash, and the answers with those at the time of adding
///
/// One base after another, each read once, whatever the order of the names.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The bundle
    bundle: PathBuf,
    /// Only these adapters
    names: Vec<String>,
    /// Compare hashes alone; no model is needed
    #[arg(long)]
    hashes: bool,
    /// The model's directory or name, when it has moved since the training
    #[arg(long, value_name = "DIR", conflicts_with = "hashes")]
    model: Option<PathBuf>,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, device: &Device) -> Result<ExitCode> {
    let bundle = Bundle::open(&arguments.bundle)?;
    let (mut reports, mut wrong, mut last) = (Vec::new(), false, None);
    for name in in_order(&bundle, &arguments.names) {
        let (line, report) = match verify_one(&bundle, &name, arguments, &mut last, device) {
            Ok(Some(Verified { rows, difference, .. })) => (
                format!("{name}: whole; {rows} golden rows, largest difference {difference:.1e}"),
                json!({"name": name, "ok": true, "golden_rows": rows, "difference": difference}),
            ),
            Ok(None) => (format!("{name}: whole"), json!({"name": name, "ok": true})),
            Err(error) => {
                wrong = true;
                (format!("{name}: {error}"), json!({"name": name, "ok": false, "error": error.to_string()}))
            }
        };
        if !arguments.json {
            print(&visible(&line))?;
        }
        reports.push(report);
    }
    if arguments.json {
        reports.sort_by(|a: &Value, b| a["name"].as_str().cmp(&b["name"].as_str()));
        print(&json!({"ok": !wrong, "adapters": reports}).to_string())?;
    }
    Ok(ExitCode::from(if wrong { 2 } else { 0 }))
}

/// The adapters to look at, those of one base together.
fn in_order(bundle: &Bundle, names: &[String]) -> Vec<String> {
    let mut names: Vec<String> = if names.is_empty() {
        bundle.entries().iter().map(|entry| entry.name.clone()).collect()
    } else {
        names.to_vec()
    };
    names.sort_by_cached_key(|name| {
        let base = bundle.description(name).map(|about| (about.base.fingerprint, about.base.path, about.compute));
        (base.ok(), name.clone())
    });
    names
}

/// The golden rows and the largest difference of a score; `None` where hashes alone were compared. An adapter over
/// the model of the `last` one does not read it again.
fn verify_one(
    bundle: &Bundle,
    name: &str,
    arguments: &Arguments,
    last: &mut Option<Predictor>,
    device: &Device,
) -> Result<Option<Verified>> {
    bundle.check(name)?;
    let golden = bundle.entries().iter().find(|entry| entry.name == name).map(|entry| &entry.golden);
    let Some(golden) = golden.filter(|golden| !golden.is_empty() && !arguments.hashes) else { return Ok(None) };
    let found = extracted(bundle, name)?;
    let predictor = match last.as_ref().map(|last| last.beside(found.path())).transpose()?.flatten() {
        Some(beside) => beside,
        None => {
            *last = None; // one base in memory
            open(found.path(), arguments.model.as_deref(), device)?
        }
    };
    let verified = verify(last.insert(predictor), golden)?;
    if verified.same {
        return Ok(Some(verified));
    }
    let message = format!(
        "its files are whole, but its scores are not those of the time it was added: off by {:.3}; was the model changed?",
        verified.difference
    );
    Err(Error::request(message).into())
}
