//! `adapter_config.json` as a reader meets it: any key order, keys of any version, missing optional keys.
//!
//! Nothing in it is believed before it is compared with the tensors or with the model; unknown keys are left alone, for
//! every PEFT version adds some.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{CONFIG_FILE, PICKLED_FILE, TENSORS_FILE};
use crate::error::{Error, Result};
use crate::files;

/// A config with thousands of target modules is below this.
const LARGEST_FILE: u64 = 4 << 20;

/// The keys of an `adapter_config.json`.
#[derive(Debug)]
pub(super) struct PeftConfig {
    file: PathBuf,
    keys: Map<String, Value>,
}

impl PeftConfig {
    /// Reads the config of a directory that PEFT wrote.
    pub(super) fn read(directory: &Path) -> Result<PeftConfig> {
        let file = directory.join(CONFIG_FILE);
        if !file.exists() {
            let message = if !directory.exists() {
                "there is no such directory; name one that PEFT's save_pretrained wrote".into()
            } else if directory.join("adapter.toml").exists() {
                "is an adapter of ptune already; 'import' reads the directories that PEFT writes".into()
            } else {
                format!("holds no {CONFIG_FILE}, so it is not an adapter of PEFT")
            };
            return Err(Error::file(directory, message));
        }
        let text = files::read_text(&file, LARGEST_FILE)?;
        let keys = serde_json::from_str(&text)
            .map_err(|wrong| Error::line(&file, wrong.line().max(1), format!("not a JSON object: {wrong}")))?;
        Ok(PeftConfig { file, keys })
    }

    /// The file of the tensors beside it.
    pub(super) fn tensors(&self) -> Result<PathBuf> {
        let tensors = self.file.with_file_name(TENSORS_FILE);
        if tensors.exists() {
            return Ok(tensors);
        }
        let directory = self.file.parent().unwrap_or(Path::new("."));
        let message = if directory.join(PICKLED_FILE).exists() {
            format!(
                "has only pickled tensors ({PICKLED_FILE}), which can run code and are not read; save it once more with \
                 PEFT 0.7 or later, which writes {TENSORS_FILE}"
            )
        } else {
            format!("holds no {TENSORS_FILE}")
        };
        Err(Error::file(directory, message))
    }

    /// An error about a key.
    pub(super) fn error(&self, key: &str, message: impl Into<String>) -> Error {
        Error::key(&self.file, key, message)
    }

    /// A text; `None` where the key is missing or null.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        self.optional(key, "a text", Value::as_str)
    }

    /// A whole number from 0 on.
    pub(super) fn number(&self, key: &str) -> Result<Option<usize>> {
        self.optional(key, "a whole number", |value| value.as_u64().and_then(|number| usize::try_from(number).ok()))
    }

    /// A whole number that must be there.
    pub(super) fn required_number(&self, key: &str) -> Result<usize> {
        self.number(key)?.ok_or_else(|| self.error(key, "is missing; a whole number was expected"))
    }

    /// All keys.
    pub(super) fn keys(&self) -> &Map<String, Value> {
        &self.keys
    }

    /// A value of some kind.
    pub(super) fn optional<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(found) => Ok(Some(found)),
                None => Err(self.error(key, format!("{} was expected", expected))),
            },
        }
    }
}
