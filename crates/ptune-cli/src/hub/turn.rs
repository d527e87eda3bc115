//! Processes take turns at a file of the cache, those of the hub's Python library too: an advisory lock on
//! `CACHE/.locks/models--OWNER--NAME/HASH.lock`, a file that stays.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use ptune::{Error, files};

/// A turn; it ends when this is dropped.
pub(super) struct Turn {
    _lock: Option<File>,
}

impl Turn {
    /// Waits for the turn at the file `hash` of a model's folder; `waiting` is called when that is not at once. Where the
    /// file system has no locks nobody waits: what two write at once does not have its hash, and is thrown away.
    pub(super) fn wait(folder: &Path, hash: &str, waiting: &mut dyn FnMut()) -> Result<Turn, Error> {
        let (Some(cache), Some(model)) = (folder.parent(), folder.file_name()) else { return Ok(Turn { _lock: None }) };
        let path = cache.join(".locks").join(model);
        files::create_directory(&path)?;
        let path = path.join(format!("{hash}.lock"));
        let failed = |source| Error::write(&path, source);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        let locked = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock()
            }
            Err(TryLockError::Error(source)) => Err(source),
            Ok(()) => Ok(()),
        };
        match locked {
            Err(source) if source.kind() == io::ErrorKind::Unsupported => Ok(Turn { _lock: None }),
            Err(source) => Err(failed(source)),
            Ok(()) => Ok(Turn { _lock: Some(file) }),
        }
    }
}
