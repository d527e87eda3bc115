//! Reading small files whole, and writing files so that a crash or a full disk never damages what was there.
//!
//! A write goes to a temporary name in the same directory (`.name.XXXXXX.tmp`), is synced, then renamed over the
//! destination, and the directory is synced: a reader sees the old bytes or the new ones, never a mixture.
//! A set of files that belong together is [staged](StagedFile) first, all of it, and renamed afterwards, so that a full
//! disk is met before the first old file is replaced. Locking against a second writer is not done here.
//! Some files are part of the program and are read like any other: `files/built_in.rs`.

pub mod built_in;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// How temporary names end.
const TEMPORARY: &str = ".tmp";

/// A file written and synced under a temporary name. Dropped without [`commit`](StagedFile::commit), it disappears.
#[derive(Debug)]
pub struct StagedFile {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl StagedFile {
    /// Writes `bytes` beside `path` under a temporary name and syncs them; `path` itself is not touched.
    ///
    /// # Errors
    /// [`Error::Write`] naming `path`; nothing is left behind.
    pub fn write(path: &Path, bytes: &[u8]) -> Result<Self> {
        Self::write_with(path, |file| file.write_all(bytes))
    }

    /// The same for bytes that `write` makes one after the other, for files too large to stand in memory once more.
    ///
    /// # Errors
    /// As [`StagedFile::write`].
    pub fn write_with(path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<Self> {
        let failed = |source| Error::write(path, source);
        let mut temporary = temporary_beside(path).map_err(failed)?;
        write(temporary.as_file_mut()).map_err(failed)?;
        temporary.as_file().sync_all().map_err(failed)?;
        Ok(StagedFile { temporary, path: path.into() })
    }

    /// Renames the temporary file to its destination, replacing an older file, and syncs the directory.
    ///
    /// # Errors
    /// [`Error::Write`]; an older file is still there, and the temporary one is removed.
    pub fn commit(self) -> Result<()> {
        let StagedFile { temporary, path } = self;
        temporary.persist(&path).map_err(|refused| Error::write(&path, refused.error))?;
        sync_directory(directory_of(&path)).map_err(|source| Error::write(&path, source))
    }
}

/// Writes `bytes` to `path` atomically: temporary name, write, sync, rename, sync of the directory.
///
/// # Errors
/// [`Error::Write`] naming `path`; an existing file keeps its bytes and the temporary one is removed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    StagedFile::write(path, bytes)?.commit()
}

/// Creates a directory and the ones above it; one that is there already is fine.
///
/// # Errors
/// [`Error::Write`] when it cannot be created, or when a file of that name is in the way.
pub fn create_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|source| Error::write(path, source))
}

/// Creates a directory for something new: one that holds anything already is refused.
///
/// # Errors
/// [`Error::File`] when it is there and not empty; as [`create_directory`].
pub fn create_new_directory(path: &Path) -> Result<()> {
    let holds_something = path.is_dir() && fs::read_dir(path).map_err(|e| Error::read(path, e))?.next().is_some();
    if holds_something {
        return Err(Error::file(path, "is there already and not empty; name another directory"));
    }
    create_directory(path)
}

/// Renames a file over another and syncs the directory.
///
/// # Errors
/// [`Error::Write`] naming `to`.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).and_then(|()| sync_directory(directory_of(to))).map_err(|source| Error::write(to, source))
}

/// Removes a file that may be there; a missing one is fine.
///
/// # Errors
/// [`Error::Write`] when it is there and cannot be removed.
pub fn remove_if_present(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::write(path, source)),
        _ => Ok(()),
    }
}

/// How many bytes the files of a directory take.
///
/// # Errors
/// [`Error::Read`].
pub fn directory_bytes(path: &Path) -> Result<u64> {
    let failed = |source| Error::read(path, source);
    let entries = fs::read_dir(path).map_err(failed)?;
    entries.map(|entry| Ok(entry.and_then(|entry| entry.metadata()).map_err(failed)?.len())).sum()
}

/// Removes the temporary files that a killed process has left in a directory; a missing directory is fine.
///
/// # Errors
/// [`Error::Read`], [`Error::Write`].
pub fn remove_temporaries(directory: &Path) -> Result<()> {
    let failed = |source| Error::read(directory, source);
    if !directory.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let text = name.to_string_lossy();
        if text.starts_with('.') && text.ends_with(TEMPORARY) {
            remove_if_present(&directory.join(&name))?;
        }
    }
    Ok(())
}

/// The same for those of one file: `.name.*.tmp` beside it.
///
/// # Errors
/// As [`remove_temporaries`].
pub fn remove_temporaries_of(path: &Path) -> Result<()> {
    let begins = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let directory = directory_of(path);
    for entry in fs::read_dir(directory).map_err(|source| Error::read(directory, source))?.flatten() {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text.starts_with(&begins) && text.ends_with(TEMPORARY) {
            remove_if_present(&directory.join(&name))?;
        }
    }
    Ok(())
}

/// Whether there is something at this path, or it is that of a built-in file.
pub fn exists(path: &Path) -> bool {
    built_in::bytes(path).is_some() || path.exists()
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// [`Error::Read`], or [`Error::File`] when it is longer than `limit`, or a pipe or a device; no more than `limit` is
/// ever held.
pub fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>> {
    if let Some(bytes) = built_in::bytes(path) {
        return Ok(bytes.into());
    }
    let failed = |source| Error::read(path, source);
    // Before opening: to open a pipe that nobody writes to would wait for ever. A directory's own error says more.
    let about = path.metadata().map_err(failed)?;
    if !about.is_file() && !about.is_dir() {
        return Err(Error::file(path, "is a pipe or a device; a file was expected"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(Error::file(path, format!("longer than {limit} bytes: this is not the file that was expected")));
    }
    Ok(bytes)
}

/// Reads a whole UTF-8 file of at most `limit` bytes.
///
/// # Errors
/// As [`read_bytes`], and [`Error::Line`] where the text stops being UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    String::from_utf8(read_bytes(path, limit)?).map_err(|wrong| {
        let valid = wrong.utf8_error().valid_up_to();
        let line = 1 + wrong.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count();
        Error::line(path, line, "not UTF-8 text; save the file as UTF-8")
    })
}

/// A temporary file in the directory of `path`, with the permissions any new file would get.
fn temporary_beside(path: &Path) -> std::io::Result<NamedTempFile> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{name}.");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(TEMPORARY);
    #[cfg(unix)]
    {
        // Temporary files are private by default; these become ordinary files, so the umask decides.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory_of(path))
}

/// The directory a file lies in; of a bare name it is the current one.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a rename durable. Only Unix can open a directory as a file; elsewhere the rename itself has to do.
fn sync_directory(directory: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod tests;
