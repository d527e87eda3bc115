//! `ptune adapter bundle add|list|remove|extract|verify`: many adapters in one file; and `BUNDLE#NAME` in the place of an
//! adapter's directory.

mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use ptune::adapter::bundle::{Bundle, Entry};
use ptune::data::Example;
use ptune::data::jsonl::Lines;
use ptune::exchange::golden::golden;
use ptune::predict::Predictor;
use ptune::{Device, Error};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hub;
use crate::progress::Progress;
use crate::report::{print, visible};

/// Golden rows of an adapter, where a file gives more.
const MOST_GOLDEN: usize = 4;

/// Keep many adapters in one file
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ptune adapter bundle add tasks.ptune runs/first/adapter --name sentiment
  ptune adapter bundle list tasks.ptune
  ptune predict tasks.ptune#sentiment --field text=\"the soup was cold\"
  ptune adapter bundle verify tasks.ptune
  ptune adapter bundle remove tasks.ptune sentiment";

#[derive(clap::Subcommand)]
enum Command {
    /// Add an adapter, with what it answers to a few rows; the others keep their bytes
    Add(Add),
    /// List the adapters with sizes and hashes
    List(Listed),
    /// Remove adapters; the others keep their bytes
    Remove(Remove),
    /// Write an adapter's directory, byte for byte as it was added
    Extract(Extract),
    Verify(verify::Arguments),
}

#[derive(clap::Args)]
struct Add {
    /// The bundle; a new file if there is none
    bundle: PathBuf,
    /// The adapter's directory
    adapter: PathBuf,
    /// Its name in the bundle [default: that of its run directory]
    #[arg(long)]
    name: Option<String>,
    /// Replace the adapter of that name
    #[arg(long)]
    replace: bool,
    /// Take the first rows of this file to compare answers later [default: made-up texts]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The model's directory or name, when it has moved since the training
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Listed {
    /// The bundle
    bundle: PathBuf,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Remove {
    /// The bundle
    bundle: PathBuf,
    /// Names of adapters in it
    #[arg(required = true)]
    names: Vec<String>,
}

#[derive(clap::Args)]
struct Extract {
    /// The bundle
    bundle: PathBuf,
    /// The adapter's name
    name: String,
    /// The directory to write; new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, device: &Device) -> Result<ExitCode> {
    match &arguments.command {
        Command::Add(arguments) => add(arguments, device),
        Command::List(arguments) => list(arguments),
        Command::Remove(arguments) => {
            let names: Vec<&str> = arguments.names.iter().map(String::as_str).collect();
            Bundle::open(&arguments.bundle)?.remove(&names)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Extract(arguments) => {
            Bundle::open(&arguments.bundle)?.extract(&arguments.name, &arguments.out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Verify(arguments) => verify::run(arguments, device),
    }
}

/// An adapter's directory, or one extracted from a bundle for as long as this stands.
pub(crate) struct Found {
    path: PathBuf,
    _extracted: Option<TempDir>,
}

impl Found {
    /// `DIRECTORY`, or `BUNDLE#NAME`.
    pub(crate) fn at(adapter: &Path) -> Result<Found, Error> {
        let named = adapter.to_str().filter(|_| !adapter.exists()).and_then(|text| text.rsplit_once('#'));
        match named {
            Some((bundle, name)) if Path::new(bundle).is_file() => extracted(&Bundle::open(Path::new(bundle))?, name),
            None if Bundle::is_at(adapter) => {
                let bundle = Bundle::open(adapter)?;
                let names: Vec<&str> = bundle.entries().iter().map(|entry| entry.name.as_str()).collect();
                let example = names.first().map_or("NAME".into(), |name| format!("{}#{name}", adapter.display()));
                let message = format!(
                    "is a bundle of {} adapters; name one of them, as in {example} ('ptune adapter bundle list' has all)",
                    names.len()
                );
                Err(Error::file(adapter, message))
            }
            _ => Ok(Found { path: adapter.to_owned(), _extracted: None }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn extracted(bundle: &Bundle, name: &str) -> Result<Found, Error> {
    let directory = TempDir::new().map_err(|source| Error::write(&std::env::temp_dir(), source))?;
    let path = directory.path().join(name);
    bundle.extract(name, &path)?;
    Ok(Found { path, _extracted: Some(directory) })
}

fn add(arguments: &Add, device: &Device) -> Result<ExitCode> {
    let Add { bundle, adapter, replace, data, model, .. } = arguments;
    let name = arguments.name.clone().unwrap_or_else(|| name_of(adapter));
    let rows = data.as_deref().map_or(Ok(Vec::new()), first_rows)?;
    let golden = golden(&open(adapter, model.as_deref(), device)?, &rows)?;
    let rows = golden.len();
    Bundle::add(bundle, &name, adapter, golden, *replace)?;
    print(&visible(&format!("{}: {name}, with {rows} golden rows", bundle.display())))?;
    Ok(ExitCode::SUCCESS)
}

/// `first` for `runs/first/adapter`, else the directory's own name.
fn name_of(adapter: &Path) -> String {
    let whole = std::path::absolute(adapter).unwrap_or_else(|_| adapter.to_owned());
    let part = |path: Option<&Path>| path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    match part(Some(&whole)) {
        Some(name) if name != "adapter" => name,
        own => part(whole.parent()).or(own).unwrap_or_default(),
    }
}

fn first_rows(file: &Path) -> Result<Vec<Example>, Error> {
    let source = std::fs::File::open(file).map_err(|source| Error::read(file, source))?;
    Lines::new(std::io::BufReader::new(source), file).take(MOST_GOLDEN).collect()
}

fn open(adapter: &Path, model: Option<&Path>, device: &Device) -> Result<Predictor> {
    hub::fetch_base(adapter, model)?;
    let mut progress = Progress::new();
    let predictor = Predictor::open(adapter, model, device, &mut |done, total| {
        progress.update("loading", done, total, "");
    });
    progress.clear();
    Ok(predictor?)
}

fn list(arguments: &Listed) -> Result<ExitCode> {
    let bundle = Bundle::open(&arguments.bundle)?;
    // One that is damaged can still be listed.
    let base = |entry: &Entry| bundle.description(&entry.name).map(|about| about.base.name).ok();
    if arguments.json {
        let adapter = |entry: &Entry| {
            let (bytes, sha256, rows) = (entry.bytes(), entry.sha256(), entry.golden.len());
            json!({"name": entry.name, "base": base(entry), "bytes": bytes, "sha256": sha256, "golden_rows": rows})
        };
        let adapters: Vec<Value> = bundle.entries().iter().map(adapter).collect();
        print(&json!({"adapters": adapters}).to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    for entry in bundle.entries() {
        let (hash, base) = (entry.sha256(), base(entry).unwrap_or_else(|| "?, it is damaged".into()));
        print(&visible(&format!("{:>10} bytes  {}  {}  over {base}", entry.bytes(), &hash[..16], entry.name)))?;
    }
    Ok(ExitCode::SUCCESS)
}
