//! What the commands over a run file share: its arguments, where its run directory stands, and how to go on.

use std::path::{Path, PathBuf};

use ptune::train::{self, RunConfig};
use ptune::{Error, checkpoint};

use crate::hub;

/// A run file, with changes.
#[derive(clap::Args)]
pub(crate) struct RunFile {
    /// The run file (TOML); paths in it are taken from its own directory
    #[arg(value_name = "RUN.toml")]
    pub(crate) run: PathBuf,
    /// Change a key of the run file, as in --set train.steps=100; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
}

/// Where a run is written, and whether it goes on.
#[derive(clap::Args)]
pub(crate) struct RunDirectory {
    /// The run directory to write; it must not hold a run yet [default: runs/, with the run file's directory and name]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in the run directory, wherever it was interrupted, to the same result bit for bit
    #[arg(long)]
    pub(crate) resume: bool,
}

impl RunFile {
    /// The run file with its changes, and its model, as [`fetch`] brings it.
    pub(crate) fn read(&self) -> Result<RunConfig, Error> {
        self.read_with(&self.set)
    }

    /// The same with other changes than those of the arguments.
    pub(crate) fn read_with(&self, set: &[(String, String)]) -> Result<RunConfig, Error> {
        let config = RunConfig::read(&self.run, set)?;
        self.fetch(&config)?;
        Ok(config)
    }

    /// Downloads the model of a run where it is one of the hub and is not there; all other files are looked at before.
    pub(crate) fn fetch(&self, config: &RunConfig) -> Result<(), Error> {
        let beside = self.run.parent().unwrap_or(Path::new(""));
        if checkpoint::hub::missing(&config.model, beside).is_some() {
            train::check_files(config)?;
        }
        hub::fetch(&config.model, beside)
    }

    /// What people give instead of a run file: a run directory, an adapter, a model.
    pub(crate) fn refuse_directory(&self) -> Result<(), Error> {
        let run = &self.run;
        if !run.is_dir() {
            return Ok(());
        }
        let message = if run.join("run.toml").is_file() {
            format!("is a directory; its run file is {}", run.join("run.toml").display())
        } else if run.join("adapter.toml").is_file() {
            "is an adapter, which is trained already: 'ptune eval' and 'ptune predict' use it".into()
        } else {
            "is a directory; a run file (TOML) is wanted here".into()
        };
        Err(Error::file(run, message))
    }

    /// The command that goes on with a run in `out`; `more` are its other arguments.
    pub(crate) fn how_to_resume(&self, command: &str, out: &Path, more: &[String]) -> String {
        let mut words = vec!["ptune".into(), command.into(), self.run.to_string_lossy().into_owned()];
        words.extend(["--out".into(), out.to_string_lossy().into_owned()]);
        words.extend_from_slice(more);
        words.extend(self.set.iter().flat_map(|(key, value)| ["--set".into(), format!("{key}={value}")]));
        words.push("--resume".into());
        let command: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        format!("go on with: {}", command.join(" "))
    }
}

impl RunDirectory {
    /// The run directory of a run file.
    pub(crate) fn place(&self, run: &Path) -> PathBuf {
        self.out.clone().unwrap_or_else(|| default_out(run, self.resume))
    }
}

/// `runs/sentiment-run` for `examples/sentiment/run.toml`; with a number behind it when that exists. To resume it is the
/// last that exists.
pub(crate) fn default_out(run: &Path, resume: bool) -> PathBuf {
    let name = |path: Option<&std::ffi::OsStr>| path.map(|n| n.to_string_lossy().into_owned());
    let stem = name(run.file_stem()).unwrap_or_else(|| "run".into());
    let base = match name(run.parent().and_then(Path::file_name)) {
        Some(parent) if parent != ".." => format!("{parent}-{stem}"),
        _ => stem,
    };
    let first = Path::new("runs").join(&base);
    let numbered = (2..).map(|n| Path::new("runs").join(format!("{base}-{n}")));
    let mut last = first.clone();
    for path in std::iter::once(first).chain(numbered) {
        if !path.exists() {
            return if resume { last } else { path };
        }
        last = path;
    }
    last
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

fn key_value(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err(Error::request("write KEY=VALUE, as in --set train.steps=100").to_string()),
    }
}
