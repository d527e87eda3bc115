//! Models by name are downloaded where the hub can be reached: into the cache of the hub's Python library, from where the
//! library (`ptune::checkpoint::hub`) takes them like any other.
//!
//! ```text
//! GET  ENDPOINT/api/models/NAME/revision/REV   the commit, the names of its files
//! HEAD ENDPOINT/NAME/resolve/COMMIT/FILE       size and hash of each that ptune reads
//! GET  the same                                its bytes, from where an earlier download stopped (hub/download.rs)
//! blobs/HASH, snapshots/COMMIT/FILE -> blobs/HASH, refs/REV
//! ```
//! `hub/client.rs` and `hub/token.rs` name the variables that are read; the library names those that say where the cache is. A
//! model that is whole in the cache is never asked for again: a run means the same tomorrow. The ref is written last, when
//! every file is there.

mod client;
mod download;
mod refusal;
mod token;
mod turn;

use std::fs;
use std::path::Path;

use ptune::adapter::Adapter;
use ptune::checkpoint::TOKENIZER_FILES;
use ptune::checkpoint::hub::{self, Missing};
use ptune::{Error, files};
use serde_json::Value;

use crate::progress::Progress;
use client::Client;
use download::{Blob, Told};
use refusal::Refused;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Progress counts in kilobytes.
const KILOBYTE: u64 = 1024;

/// Downloads a model that is named, is not there, and can be reached. Otherwise nothing happens, and whoever opens the
/// model says what is missing.
///
/// # Errors
/// A hub that refuses, with what to do about it; a download that fails; a disk that is full.
pub(crate) fn fetch(model: &Path, beside: &Path) -> Result<(), Error> {
    hub::missing(model, beside).map_or(Ok(()), |missing| {
        fetch_missing(&missing).map_err(|refused| {
            let place = hub::locate(model, beside).err().map_or(String::new(), |error| format!("{error}\n"));
            refused.into_error(&place)
        })
    })
}

/// The same for the model of an adapter, unless another is named.
pub(crate) fn fetch_base(adapter: &Path, model: Option<&Path>) -> Result<(), Error> {
    if let Some(model) = model {
        return fetch(model, Path::new(""));
    }
    let Ok(adapter) = Adapter::load(adapter) else { return Ok(()) }; // whoever opens it says what is wrong
    let base = &adapter.description.base;
    match hub::missing_base(Path::new(&base.path), &base.name) {
        Some(missing) => fetch_missing(&missing).map_err(|refused| refused.into_error("")),
        None => Ok(()),
    }
}

fn fetch_missing(missing: &Missing) -> Result<(), Refused> {
    let Some(client) = Client::from_environment()? else { return Ok(()) };
    let Missing { model, revision, folder } = missing;
    // Without an answer it is not known whether there is such a model, and the name may be a wrong path.
    let (commit, names) = files_of(&client, model, revision).map_err(|refused| match refused {
        Refused::Failed(why) => Refused::Request(format!("nor can the hub be asked for it: {why}")),
        other => other,
    })?;
    let mut blobs = Vec::new();
    for name in wanted(&client, model, &commit, &names)? {
        blobs.push(Blob::head(&client, model, &commit, &name)?);
    }
    let mut progress = Progress::new();
    progress.line(&format!("downloading {model} ({:.1} MB) to {}", megabytes(&blobs), folder.display()));
    let (mut done, total) = (0, blobs.iter().map(|blob| blob.size).sum::<u64>());
    for blob in &blobs {
        blob.fetch(&client, folder, &mut |told| match told {
            Told::Bytes(bytes) => {
                let kilobytes = |bytes: u64| bytes.div_ceil(KILOBYTE) as usize;
                progress.update("download", kilobytes(done + bytes), kilobytes(total), &format!("kB  {}", blob.name));
            }
            Told::Waiting(name) => progress.line(&format!("another process downloads {name}; waiting for it")),
        })?;
        done += blob.size;
    }
    progress.clear();
    // What makes the model visible comes last.
    blobs.sort_by_key(|blob| blob.name == CONFIG);
    let snapshot = folder.join("snapshots").join(&commit);
    files::create_directory(&snapshot)?;
    for blob in &blobs {
        link(&folder.join("blobs").join(&blob.hash), &snapshot.join(&blob.name))?;
    }
    if *revision != commit {
        let reference = folder.join("refs").join(revision);
        files::create_directory(reference.parent().unwrap_or(folder))?;
        files::write_atomically(&reference, commit.as_bytes())?;
    }
    Ok(())
}

fn megabytes(blobs: &[Blob]) -> f64 {
    blobs.iter().map(|blob| blob.size).sum::<u64>() as f64 / 1e6
}

/// The commit that a revision is now, and the names of its files.
fn files_of(client: &Client, model: &str, revision: &str) -> Result<(String, Vec<String>), Refused> {
    let said = client.json(&format!("/api/models/{model}/revision/{}", revision.replace('/', "%2F")))?;
    let commit = said.get("sha").and_then(Value::as_str).filter(|sha| is_commit(sha));
    let names = said.get("siblings").and_then(Value::as_array);
    let (Some(commit), Some(names)) = (commit, names) else {
        return Err(Refused::Failed(format!("{model}: the hub's answer names no commit and no files")));
    };
    let name = |file: &Value| file.get("rfilename").and_then(Value::as_str).map(str::to_owned);
    Ok((commit.to_owned(), names.iter().filter_map(name).collect()))
}

/// A commit becomes the name of a directory.
fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The files that ptune needs, of those that there are.
fn wanted(client: &Client, model: &str, commit: &str, names: &[String]) -> Result<Vec<String>, Refused> {
    let has = |name: &str| names.iter().any(|known| known == name);
    if !has(CONFIG) {
        return Err(Refused::Request(format!("{model} on the hub has no {CONFIG}: it is not a model of transformers")));
    }
    let mut wanted = vec![CONFIG.to_owned()];
    wanted.extend(TOKENIZER_FILES.iter().filter(|name| has(name)).map(|name| (*name).to_owned()));
    if has(WEIGHTS) {
        wanted.push(WEIGHTS.to_owned());
    } else if has(INDEX) {
        wanted.push(INDEX.to_owned());
        let index = client.json(&format!("/{model}/resolve/{commit}/{INDEX}"))?;
        let map = index.get("weight_map").and_then(Value::as_object);
        let shards = map.into_iter().flatten().filter_map(|(_, shard)| shard.as_str());
        let mut shards: Vec<String> = shards.filter(|shard| has(shard) && is_plain(shard)).map(str::to_owned).collect();
        shards.sort();
        shards.dedup();
        wanted.extend(shards);
    } else {
        let message = format!(
            "{model} on the hub has no {WEIGHTS}; pickled weights can run code and are not read. Many such models have a \
             converted revision, named like {model}@refs/pr/1"
        );
        return Err(Refused::Request(message));
    }
    Ok(wanted)
}

/// Whether a name stays within its directory.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// The file of a snapshot: a link to its bytes, or the bytes once more where there are no links. It takes the place of a
/// former one at once, so another process sees one of them.
fn link(blob: &Path, file: &Path) -> Result<(), Error> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let new = file.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    files::remove_if_present(&new)?;
    #[cfg(unix)]
    let done = std::os::unix::fs::symlink(Path::new("../../blobs").join(blob.file_name().unwrap_or_default()), &new);
    #[cfg(not(unix))]
    let done = fs::hard_link(blob, &new).or_else(|_| fs::copy(blob, &new).map(|_| ()));
    done.map_err(|source| Error::write(&new, source))?;
    files::rename(&new, file)
}

/// A variable that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Whether a variable is switched on, as the hub's library reads it.
fn is_on(name: &str) -> bool {
    variable(name).is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.trim().to_lowercase().as_str()))
}

/// A file or directory that may not be there.
fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |about| about.len())
}
