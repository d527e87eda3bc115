//! Processes that change a bundle take turns: an advisory lock on the bundle as it is. Whoever waited looks again which file
//! that is now, because the one before has put a new file in its place.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files;

/// Waits until no other process changes the bundle, and takes away what one that was killed has left. A file system
/// without locks has no turns.
pub(super) fn turn(path: &Path) -> Result<Option<File>> {
    loop {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(source) if source.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::read(path, source)),
        };
        match file.lock() {
            Err(source) if source.kind() == ErrorKind::Unsupported => return Ok(None),
            done => done.map_err(|source| Error::read(path, source))?,
        }
        if is_at(&file, path) {
            files::remove_temporaries_of(path)?;
            return Ok(Some(file));
        }
    }
}

/// Whether an open file is still the one at its path: the process before may have put a new one there.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().ok().zip(fs::metadata(path).ok()).is_some_and(|(open, there)| same(&open, &there))
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}
