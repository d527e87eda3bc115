//! A model by its name: one that is part of the program, or one of the Hugging Face hub, found in the cache of the hub's
//! Python library. Nothing is downloaded here; [`missing`] says what a program with a network would have to.
//!
//! ```text
//! CACHE/models--klue--roberta-base/refs/main            the commit that 'main' was when it was downloaded
//! CACHE/models--klue--roberta-base/snapshots/COMMIT/    the model directory; its files are links into blobs/
//! ```
//! A name in the cache is `model` or `owner/model`, with `@revision` (a branch, a tag or a commit) for another than `main`. A
//! directory with that path goes before every name, and a built-in model before the cache. The cache is where `huggingface_hub` has it: `HF_HUB_CACHE`, else
//! `HUGGINGFACE_HUB_CACHE`, else `hub` in `HF_HOME`, else `huggingface/hub` in `XDG_CACHE_HOME`, else in `~/.cache`. A
//! variable that is empty counts as unset; `~/` at its beginning is the home directory, `$NAME` inside it is not
//! expanded.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Weights;
use crate::error::{Error, Result};
use crate::files::{self, built_in};

const MAIN: &str = "main";
/// One of them has the tokens.
const TOKENIZERS: [&str; 6] =
    ["tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "sentencepiece.bpe.model", "spiece.model"];
/// A ref is a commit: 40 hexadecimal digits.
const LARGEST_REF: u64 = 256;
/// Names longer than this are not given by the hub.
const LONGEST_NAME: usize = 96;
/// How many snapshots an error lists.
const LISTED: usize = 4;

/// A model's name on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HubName {
    /// `model` or `owner/model`.
    model: String,
    /// `None` for `main`.
    revision: Option<String>,
}

/// The directory of a model: a path, from `beside` when it is relative, or else a built-in model or one in the cache, by
/// name.
///
/// # Errors
/// There is no such directory, and no such model by name: where was looked, and how to get it.
pub fn locate(model: &Path, beside: &Path) -> Result<PathBuf> {
    locate_in(cache_directory(|name| std::env::var_os(name)).as_deref(), model, beside)
}

/// Whether this must be a name: it reads as one, and there is nothing at that path.
pub(crate) fn is_name(model: &Path, beside: &Path) -> bool {
    let name = built_in::directory(model).is_some() || HubName::parse(model).is_some();
    name && !beside.join(model).exists()
}

/// What to call a model directory: the name with the commit where it stands in a cache, as `klue/roberta-base@COMMIT`,
/// which finds it again when the cache has moved; that of a built-in one; else the last part of its path.
pub(crate) fn name_of(directory: &Path) -> String {
    let part = |path: Option<&Path>| path?.file_name()?.to_str().map(str::to_owned);
    let snapshots = directory.parent();
    let cached = || {
        let model = part(snapshots?.parent())?.strip_prefix("models--")?.replace("--", "/");
        let name = format!("{model}@{}", part(Some(directory))?);
        (part(snapshots)? == "snapshots" && HubName::parse(Path::new(&name)).is_some()).then_some(name)
    };
    let built_in = || built_in::name_of(directory).map(str::to_owned);
    cached().or_else(built_in).or_else(|| part(Some(directory))).unwrap_or_default()
}

/// The directory of an adapter's base: its path, which a built-in model has everywhere, or when that is gone its name in
/// the cache, at its commit or else at `main` (the adapter's fingerprint tells whether that is the same). `None` when it
/// is nowhere.
pub(crate) fn locate_again(path: &Path, name: &str) -> Option<PathBuf> {
    if path.is_dir() || built_in::name_of(path).is_some() {
        return Some(path.into());
    }
    let pinned = HubName::parse(Path::new(name)).filter(|name| name.revision.is_some())?;
    let cache = cache_directory(|name| std::env::var_os(name))?;
    let main = HubName { revision: None, ..pinned.clone() };
    [pinned, main].iter().find_map(|name| name.find(&cache).ok())
}

/// A model of the hub that is wanted and not, or not whole, in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// `model` or `owner/model`.
    pub model: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// Where the cache has or will have it: `CACHE/models--owner--model`.
    pub folder: PathBuf,
}

/// What has to be downloaded before [`locate`] finds `model`; `None` when it is there, or is no name of the hub.
pub fn missing(model: &Path, beside: &Path) -> Option<Missing> {
    if beside.join(model).exists() || built_in::directory(model).is_some() {
        return None;
    }
    let name = HubName::parse(model)?;
    let cache = cache_directory(|name| std::env::var_os(name))?;
    let whole = name.find(&cache).is_ok_and(|snapshot| is_whole(&snapshot));
    let revision = name.revision.clone().unwrap_or_else(|| MAIN.to_owned());
    (!whole).then(|| Missing { folder: name.folder(&cache), model: name.model, revision })
}

/// The same for the base of an adapter, which has a path and a name with its commit.
pub fn missing_base(path: &Path, name: &str) -> Option<Missing> {
    let pinned = HubName::parse(Path::new(name)).is_some_and(|name| name.revision.is_some());
    if !pinned || locate_again(path, name).is_some() { None } else { missing(Path::new(name), Path::new("")) }
}

/// Whether a snapshot has weights, every shard of them, and a tokenizer.
fn is_whole(snapshot: &Path) -> bool {
    let has = |name: &&str| snapshot.join(name).is_file();
    Weights::complete(snapshot) && TOKENIZERS.iter().any(has)
}

fn locate_in(cache: Option<&Path>, model: &Path, beside: &Path) -> Result<PathBuf> {
    let path = beside.join(model);
    if path.exists() {
        return Ok(path);
    }
    if let Some(directory) = built_in::directory(model) {
        return Ok(directory);
    }
    // People see where was looked, wherever they are.
    let path = std::path::absolute(&path).unwrap_or(path);
    let message = format!(
        "there is no such directory; name a Hugging Face model directory (config.json, model.safetensors, tokenizer) \
         or a built-in model ({})",
        built_in::names().collect::<Vec<_>>().join(", ")
    );
    match (HubName::parse(model), cache) {
        (Some(name), Some(cache)) if name.folder(cache).is_dir() => name.find(cache),
        (Some(name), Some(cache)) => {
            let (cache, get) = (cache.display(), name.how_to_get());
            Err(Error::file(
                &path,
                format!("{message}, or a model of the cache {cache}, which has no such model: {get}"),
            ))
        }
        _ => Err(Error::file(&path, message)),
    }
}

/// Where the token of the hub is, if there is one: the file `HF_TOKEN_PATH`, else `token` beside the cache.
pub fn token_file() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name);
    path_in(&variable, "HF_TOKEN_PATH").or_else(|| Some(hub_home(&variable)?.join("token")))
}

/// Where the cache is, from the environment.
fn cache_directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| path_in(&variable, name);
    path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).or_else(|| Some(hub_home(&variable)?.join("hub")))
}

/// The directory of everything that the hub's Python library keeps.
fn hub_home(variable: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let caches = || path_in(variable, "XDG_CACHE_HOME").or_else(|| Some(home(variable)?.join(".cache")));
    path_in(variable, "HF_HOME").or_else(|| Some(caches()?.join("huggingface")))
}

/// The path in a variable.
fn path_in(variable: &impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(variable(name).filter(|value| !value.is_empty())?);
    match path.strip_prefix("~") {
        Ok(rest) => Some(home(variable)?.join(rest)),
        Err(_) => Some(path),
    }
}

fn home(variable: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    variable("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

impl HubName {
    /// The rules of the hub, which leave nothing that leads out of the cache: one or two parts of letters, digits, `-`,
    /// `_` and `.`, no `--` or `..` in them, no `-` or `.` at their ends. A revision may have more parts.
    fn parse(text: &Path) -> Option<HubName> {
        let text = text.to_str()?;
        let (model, revision) = text.split_once('@').map_or((text, None), |(model, revision)| (model, Some(revision)));
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let sound = |part: &str| {
            let ends = [part.chars().next(), part.chars().next_back()];
            let sound_ends = ends.iter().all(|c| c.is_some_and(|c| c != '-' && c != '.'));
            sound_ends && part.chars().all(allowed) && !part.contains("..")
        };
        let named = model.split('/').count() <= 2
            && model.len() <= LONGEST_NAME
            && model.split('/').all(sound)
            && !model.contains("--");
        let revised = revision.is_none_or(|revision| revision.split('/').all(sound));
        (named && revised).then(|| HubName { model: model.into(), revision: revision.map(str::to_owned) })
    }

    /// The model's folder in a cache.
    fn folder(&self, cache: &Path) -> PathBuf {
        cache.join(format!("models--{}", self.model.replace('/', "--")))
    }

    /// The snapshot in a cache: that of the ref with the revision's name, else that of the commit.
    fn find(&self, cache: &Path) -> Result<PathBuf> {
        let folder = self.folder(cache);
        let revision = self.revision.as_deref().unwrap_or(MAIN);
        let reference = folder.join("refs").join(revision);
        let commit = if reference.is_file() {
            let commit = files::read_text(&reference, LARGEST_REF)?.trim().to_owned();
            if commit.is_empty() || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Error::file(&reference, "does not name a commit; download the model again"));
            }
            commit
        } else {
            revision.to_owned()
        };
        let snapshot = folder.join("snapshots").join(&commit);
        if !snapshot.is_dir() {
            let message = format!("has no revision '{revision}'; {}{}", self.how_to_get(), self.others(&folder));
            return Err(Error::file(&folder, message));
        }
        if !snapshot.join(super::CONFIG_FILE).is_file() {
            let message = format!("is not complete (there is no {}); {}", super::CONFIG_FILE, self.how_to_get());
            return Err(Error::file(&snapshot, message));
        }
        Ok(snapshot)
    }

    fn how_to_get(&self) -> String {
        let revision = self.revision.as_ref().map_or(String::new(), |revision| format!(" --revision {revision}"));
        format!(
            "ptune downloads it where the hub can be reached and HF_HUB_OFFLINE is not set; or get it there with: \
             hf download {}{revision}",
            self.model
        )
    }

    /// The snapshots that are there, for an error.
    fn others(&self, folder: &Path) -> String {
        let entries = std::fs::read_dir(folder.join("snapshots")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names.truncate(LISTED);
        let names: Vec<String> = names.into_iter().map(|name| format!("{}@{name}", self.model)).collect();
        if names.is_empty() { String::new() } else { format!("\nor use what is there: {}", names.join(", ")) }
    }
}

#[cfg(test)]
mod tests;
