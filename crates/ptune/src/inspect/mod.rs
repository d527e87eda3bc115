//! What a directory holds, as facts: a model, an adapter, or a run. The command `inspect` prints them and `report`
//! puts them on a page; nothing is printed or written here.
//!
//! The facts are plain values whose serde names are the keys of `ptune inspect --json` (docs/inspect.md).

mod adapter;
mod model;
mod pieces;
mod run;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub(crate) use adapter::pseudo_facts;
pub use adapter::{AdapterFacts, BaseFacts, LabelFacts, PromptFacts, PseudoFacts, TrainedFacts, WordFacts};
pub use model::{ModelFacts, ModelParameters, ModelShape, TokenizerFacts};
pub use pieces::PieceFacts;
pub(crate) use pieces::pieces;
pub use run::{BestFacts, RunFacts};

use crate::checkpoint::hub;
use crate::tensor::Device;
use crate::{Error, Result, files, spelling};

/// What was found.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Inspection {
    /// A model in Hugging Face layout.
    Model(ModelFacts),
    /// A trained task.
    Adapter(Box<AdapterFacts>),
    /// A run directory.
    Run(Box<RunFacts>),
}

/// Looks at a directory, or at a model by its name. `model` is where an adapter's base is, when it has moved. `progress(loaded, total)` counts the
/// tensors of a model, which is loaded to find out whether it can be.
///
/// # Errors
/// A path that is none of the three, with what it may have been meant to be; a damaged adapter, run file or log; a
/// `model` that is not the adapter's.
pub fn inspect(
    path: &Path,
    model: Option<&Path>,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Inspection> {
    if path.join("adapter.toml").exists() {
        Ok(Inspection::Adapter(Box::new(AdapterFacts::read(path, model)?)))
    } else if path.join("run.toml").exists() {
        Ok(Inspection::Run(Box::new(RunFacts::read(path, model)?)))
    } else if model.is_some() {
        let message = "holds neither an adapter nor a run, and --model says where the model of those is";
        Err(Error::file(path, message))
    } else if files::exists(&path.join("config.json")) {
        Ok(Inspection::Model(ModelFacts::read(path, device, progress)))
    } else {
        // Not here; a name may stand for a built-in model or one in the cache.
        match hub::locate(path, Path::new("")) {
            Ok(found) if found != path => Ok(Inspection::Model(ModelFacts::read(&found, device, progress))),
            _ => Err(unknown(path)),
        }
    }
}

/// What stands at a path that cannot be inspected, and what may have been meant.
fn unknown(path: &Path) -> Error {
    if !path.exists() {
        return Error::file(path, format!("there is no such directory{}", meant(path)));
    }
    if !path.is_dir() {
        let message = match path.file_name().and_then(|name| name.to_str()) {
            Some("adapter.toml" | "prompt.safetensors" | "vocabulary.bin" | "backbone.safetensors") => {
                "is a part of an adapter; inspect its directory"
            }
            Some("metrics.jsonl" | "report.html") => "is a part of a run; inspect its directory",
            Some(name) if name.ends_with(".toml") => {
                "is a file; 'ptune train' runs a run file, and inspect looks at the directory that it writes"
            }
            _ => "is a file; inspect looks at directories: a model, an adapter or a run",
        };
        return Error::file(path, message);
    }
    let message = "holds neither a model (config.json), nor an adapter (adapter.toml), nor a run (run.toml)";
    match &inside(path)[..] {
        [] => Error::file(path, message),
        found => Error::file(path, format!("{message}; look at {}", found.join(", "))),
    }
}

/// `; did you mean 'runs/first'?` for a neighbour of a similar name.
fn meant(path: &Path) -> String {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let names: Vec<String> = directories(parent).iter().filter_map(|path| name_of(path)).collect();
    let wanted = name_of(path).unwrap_or_default();
    match spelling::closest(&wanted, names.iter().map(String::as_str), 1).first() {
        Some(name) => format!("; did you mean '{}'?", path.with_file_name(name).display()),
        None => String::new(),
    }
}

/// Up to five directories below `path` that can be inspected.
fn inside(path: &Path) -> Vec<String> {
    let known =
        |path: &PathBuf| ["adapter.toml", "run.toml", "config.json"].iter().any(|file| path.join(file).exists());
    directories(path).iter().filter(|path| known(path)).take(5).map(|path| path.display().to_string()).collect()
}

/// The directories in a directory, sorted; none where it cannot be read.
fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
