//! Many adapters in one file: a bundle.
//!
//! ```text
//! "PTUNEBDL"            eight bytes
//! length of the index   eight bytes, little endian
//! SHA-256 of the index  32 bytes
//! index                 JSON: the adapters by name, each with its files (name, bytes, SHA-256) and golden answers
//! the files             one behind the other, in the order of the index, without gaps
//! ```
//! An adapter's files are those of its directory, byte for byte. Adding and removing write a new file beside the old one and
//! rename it; the other adapters' bytes are copied and compared with their hashes on the way, so that a bundle is never
//! passed on with damage. Processes that change a bundle take turns, by an advisory lock on the bundle as it is; two that begin the
//! same one at once do not.

mod turn;

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files::{ADAPTER_FILE, parse_description};
use super::{Adapter, Description};
use crate::checkpoint::{hexadecimal, sha256};
use crate::error::{Error, Result};
use crate::files::{self, StagedFile};
use turn::turn;

const MAGIC: &[u8; 8] = b"PTUNEBDL";
const FORMAT: u32 = 1;
const HEAD_BYTES: u64 = 8 + 8 + 32;
/// Ten thousand adapters with golden answers are below this.
const LARGEST_INDEX: u64 = 256 << 20;
const LONGEST_NAME: usize = 100;
/// Files are copied and hashed in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// A bundle whose index was read and checked; the adapters' bytes stay in the file.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    entries: Vec<Entry>,
    /// Where the first file begins.
    data: u64,
}

/// An adapter of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name in the bundle.
    pub name: String,
    files: Vec<Part>,
    /// What it answered when it was added.
    pub golden: Vec<Golden>,
}

/// A file of an adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    name: String,
    bytes: u64,
    sha256: String,
}

/// An example and the scores that an adapter gave it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Fields and their texts.
    pub fields: Vec<(String, String)>,
    /// Number and score of labels or candidates: of many the highest ones.
    pub scores: Vec<(usize, f32)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    format: u32,
    adapters: Vec<Entry>,
}

/// Where an adapter's bytes come from when a bundle is written.
enum Source<'a> {
    /// From the old bundle, from this byte on.
    Bundle(&'a Path, u64),
    /// From a directory.
    Directory(&'a Path),
}

impl Bundle {
    /// Opens a bundle and checks its index; [`Bundle::check`] and [`Bundle::extract`] check the adapters' bytes.
    ///
    /// # Errors
    /// A file that is no bundle, is cut off, or whose index was changed.
    pub fn open(path: &Path) -> Result<Bundle> {
        let wrong = |message: &str| Err(Error::file(path, message));
        let failed = |source| Error::read(path, source);
        if !path.is_file() {
            return wrong("is not there, or is no file; a bundle is a file that 'ptune adapter bundle add' wrote");
        }
        let mut file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut head = [0; HEAD_BYTES as usize];
        if length < HEAD_BYTES || file.read_exact(&mut head).is_err() || &head[..8] != MAGIC {
            return wrong("is not a bundle of adapters");
        }
        let bytes = u64::from_le_bytes(head[8..16].try_into().expect("eight bytes"));
        if bytes > (length - HEAD_BYTES).min(LARGEST_INDEX) {
            return wrong(
                "is a bundle whose beginning is damaged, or that was cut off: its index does not fit into it",
            );
        }
        let mut index = vec![0; bytes as usize];
        file.read_exact(&mut index).map_err(failed)?;
        if sha256(&index) != hexadecimal(&head[16..]) {
            return wrong("is a bundle whose index is damaged: it does not have its SHA-256");
        }
        let index: Index = serde_json::from_slice(&index)
            .map_err(|wrong| Error::file(path, format!("the index of this bundle cannot be read: {wrong}")))?;
        if index.format != FORMAT {
            return wrong(&format!("is a bundle of format {}; this release reads {FORMAT}", index.format));
        }
        let bundle = Bundle { path: path.into(), entries: index.adapters, data: HEAD_BYTES + bytes };
        bundle.check_index(length)?;
        Ok(bundle)
    }

    /// Whether the file at a path begins as a bundle does.
    pub fn is_at(path: &Path) -> bool {
        let mut begins = [0; MAGIC.len()];
        path.is_file() && File::open(path).and_then(|mut file| file.read_exact(&mut begins)).is_ok() && begins == *MAGIC
    }

    /// Its adapters, sorted by name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Adds the adapter in `directory` to the bundle at `path`, which is created if need be; one of that name is replaced
    /// when `replace` says so.
    ///
    /// # Errors
    /// An adapter that cannot be loaded, a name that is taken or cannot be one, damage in an adapter that is there;
    /// [`Error::Write`]. The bundle is as it was then.
    pub fn add(path: &Path, name: &str, directory: &Path, golden: Vec<Golden>, replace: bool) -> Result<()> {
        check_name(name)?;
        Adapter::load(directory)?;
        let _turn = turn(path)?;
        let former = if path.exists() { Some(Bundle::open(path)?) } else { None };
        let mut kept = former.as_ref().map_or(Vec::new(), Bundle::sources);
        let before = kept.len();
        kept.retain(|(entry, _)| entry.name != name);
        if kept.len() < before && !replace {
            let message = format!("has an adapter '{name}' already; choose another --name, or --replace it");
            return Err(Error::file(path, message));
        }
        kept.push((Entry { name: name.to_owned(), files: parts_of(directory)?, golden }, Source::Directory(directory)));
        kept.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        write(path, kept)
    }

    /// Takes adapters out; the others keep their bytes.
    ///
    /// # Errors
    /// A name that is not there; damage in an adapter that stays; [`Error::Write`]. The bundle is as it was then.
    pub fn remove(&self, names: &[&str]) -> Result<()> {
        let _turn = turn(&self.path)?;
        let now = Bundle::open(&self.path)?; // others may have changed it
        names.iter().try_for_each(|name| now.find(name).map(drop))?;
        let kept = now.sources().into_iter().filter(|(entry, _)| !names.contains(&entry.name.as_str()));
        write(&now.path, kept.collect())
    }

    /// Writes an adapter's directory, which is new or empty.
    ///
    /// # Errors
    /// A name that is not there; bytes that do not have their hash; [`Error::Write`].
    pub fn extract(&self, name: &str, directory: &Path) -> Result<()> {
        let (entry, mut at) = self.find(name)?;
        files::create_new_directory(directory)?;
        let mut staged = Vec::new();
        for part in &entry.files {
            let source = Source::Bundle(&self.path, at);
            staged.push(
                StagedFile::write_with(&directory.join(&part.name), |file| copy(file, entry, part, &source))
                    .map_err(|error| said(error, &self.path))?,
            );
            at += part.bytes;
        }
        staged.into_iter().try_for_each(StagedFile::commit)
    }

    /// What an adapter is about, without its vocabulary.
    ///
    /// # Errors
    /// A name that is not there; an `adapter.toml` that does not have its hash, or cannot be read.
    pub fn description(&self, name: &str) -> Result<Description> {
        let (entry, mut at) = self.find(name)?;
        let mut bytes = Vec::new();
        for part in &entry.files {
            if part.name == ADAPTER_FILE {
                let done = copy(&mut bytes, entry, part, &Source::Bundle(&self.path, at));
                done.map_err(|source| said(Error::read(&self.path, source), &self.path))?;
            }
            at += part.bytes;
        }
        parse_description(&String::from_utf8_lossy(&bytes), &self.path)
    }

    /// Whether every byte of an adapter is as it was added.
    ///
    /// # Errors
    /// A name that is not there; a file whose bytes do not have their hash, with the adapter's name.
    pub fn check(&self, name: &str) -> Result<()> {
        let (entry, mut at) = self.find(name)?;
        for part in &entry.files {
            let done = copy(&mut std::io::sink(), entry, part, &Source::Bundle(&self.path, at));
            done.map_err(|source| said(Error::read(&self.path, source), &self.path))?;
            at += part.bytes;
        }
        Ok(())
    }

    /// An adapter and where its first file begins.
    fn find(&self, name: &str) -> Result<(&Entry, u64)> {
        let places = self.places();
        let found = self.entries.iter().zip(places).find(|(entry, _)| entry.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
            let message = format!("has no adapter '{name}'; it has: {}", crate::prompt::template::listed(&names));
            Error::file(&self.path, message)
        })
    }

    /// Where the adapters begin, in their order.
    fn places(&self) -> Vec<u64> {
        let begin = |at: &mut u64, entry: &Entry| {
            let here = *at;
            *at += entry.bytes();
            Some(here)
        };
        self.entries.iter().scan(self.data, begin).collect()
    }

    fn sources(&self) -> Vec<(Entry, Source<'_>)> {
        let places = self.places().into_iter().map(|at| Source::Bundle(&self.path, at));
        self.entries.iter().cloned().zip(places).collect()
    }

    /// Names that are names, sizes that make the file's.
    fn check_index(&self, length: u64) -> Result<()> {
        let wrong = |message: String| Err(Error::file(&self.path, message));
        let mut end = self.data;
        for entry in &self.entries {
            check_name(&entry.name)?;
            for part in &entry.files {
                if !is_plain(&part.name) {
                    return wrong(format!("adapter '{}': {:?} is no name of a file", entry.name, part.name));
                }
                end = end.saturating_add(part.bytes);
                if end > length {
                    return wrong(format!("was cut off: adapter '{}' and what follows are not whole", entry.name));
                }
            }
        }
        if !self.entries.is_sorted_by(|a, b| a.name < b.name) {
            return wrong("is a bundle whose adapters are not in the order of their names, or twice there".into());
        }
        if end != length { wrong("is a bundle to which something was appended".into()) } else { Ok(()) }
    }
}

impl Entry {
    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|part| part.bytes).sum()
    }

    /// SHA-256 over the hashes of its files: the same adapter has the same, in whatever bundle.
    pub fn sha256(&self) -> String {
        let parts: Vec<String> = self.files.iter().map(|part| format!("{} {}\n", part.sha256, part.name)).collect();
        sha256(parts.concat().as_bytes())
    }
}

/// A name that is one on every command line and in every file system.
fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    let sound = (1..=LONGEST_NAME).contains(&name.chars().count()) && name.chars().all(allowed);
    if sound && !name.starts_with(['.', '-']) {
        return Ok(());
    }
    let message = format!("'{name}' is no name for an adapter: up to {LONGEST_NAME} letters, digits, - _ . +");
    Err(Error::request(message))
}

/// Whether a file's name stays within its directory.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// The files of an adapter's directory, sorted by name.
fn parts_of(directory: &Path) -> Result<Vec<Part>> {
    let failed = |source| Error::read(directory, source);
    let mut parts = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(name) = entry.file_name().to_str().filter(|name| is_plain(name)).map(str::to_owned) else { continue };
        let path = entry.path();
        if path.is_file() {
            let (mut hash, mut file) = (Sha256::new(), File::open(&path).map_err(|e| Error::read(&path, e))?);
            let bytes = pump(&mut file, u64::MAX, |piece| {
                hash.update(piece);
                Ok(())
            });
            let bytes = bytes.map_err(|source| Error::read(&path, source))?;
            parts.push(Part { name, bytes, sha256: hexadecimal(&hash.finalize()) });
        }
    }
    parts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(parts)
}

/// Writes a bundle under a temporary name and renames it.
fn write(path: &Path, adapters: Vec<(Entry, Source<'_>)>) -> Result<()> {
    let (entries, sources): (Vec<Entry>, Vec<Source<'_>>) = adapters.into_iter().unzip();
    let index = Index { format: FORMAT, adapters: entries };
    let text = serde_json::to_vec(&index).map_err(|wrong| Error::Failed(format!("a bundle's index: {wrong}")))?;
    let staged = StagedFile::write_with(path, |file| {
        let mut file = BufWriter::new(file);
        file.write_all(MAGIC)?;
        file.write_all(&(text.len() as u64).to_le_bytes())?;
        file.write_all(&Sha256::digest(&text))?;
        file.write_all(&text)?;
        for (entry, source) in index.adapters.iter().zip(&sources) {
            let mut at = 0;
            for part in &entry.files {
                let source = match source {
                    Source::Bundle(path, start) => Source::Bundle(path, start + at),
                    Source::Directory(directory) => Source::Directory(directory),
                };
                copy(&mut file, entry, part, &source)?;
                at += part.bytes;
            }
        }
        file.flush()
    });
    staged.map_err(|error| said(error, path))?.commit()
}

/// A file of an adapter, compared with its hash on the way.
fn copy(to: &mut dyn Write, entry: &Entry, part: &Part, source: &Source<'_>) -> std::io::Result<()> {
    let mut from = match source {
        Source::Directory(directory) => File::open(directory.join(&part.name))?,
        Source::Bundle(path, at) => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(*at))?;
            file
        }
    };
    let mut hash = Sha256::new();
    let bytes = pump(&mut from, part.bytes, |piece| {
        hash.update(piece);
        to.write_all(piece)
    })?;
    if bytes == part.bytes && hexadecimal(&hash.finalize()) == part.sha256 {
        return Ok(());
    }
    let message = format!("adapter '{}' is damaged: {} does not have its SHA-256", entry.name, part.name);
    Err(std::io::Error::new(ErrorKind::InvalidData, message))
}

/// Damage is told as such: about the bundle, and no matter of the disk.
fn said(error: Error, bundle: &Path) -> Error {
    match error {
        Error::Write { source, .. } | Error::Read { source, .. } if source.kind() == ErrorKind::InvalidData => {
            Error::file(bundle, source.to_string())
        }
        other => other,
    }
}

/// Up to `most` bytes, piece by piece; how many there were.
fn pump(from: &mut File, most: u64, mut each: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<u64> {
    let (mut from, mut piece, mut bytes) = (from.take(most), vec![0; PIECE_BYTES], 0);
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(read) => {
                each(&piece[..read])?;
                bytes += read as u64;
            }
            Err(wrong) if wrong.kind() == ErrorKind::Interrupted => {}
            Err(wrong) => return Err(wrong),
        }
    }
}

#[cfg(test)]
mod tests;
