//! `ptune.json`: what PEFT's files have no place for, in a file of its own that PEFT does not look at.
//!
//! A key of ours in `adapter_config.json` would stop PEFT 0.7 to 0.13 from loading it. `{"format": 1, "task": ...}` is the
//! `[task]` of `adapter.toml`; `vocabulary` the token ids of the candidates, where there are any.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::adapter::Description;
use crate::error::{Error, Result};
use crate::files;

const FORMAT: u32 = 1;
/// A vocabulary of a million ids is below this.
const LARGEST_FILE: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sibling {
    format: u32,
    task: Description,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vocabulary: Option<Vec<u32>>,
}

/// The bytes of the file.
pub(super) fn bytes(description: &Description) -> Result<Vec<u8>> {
    let (task, vocabulary) = (description.clone(), description.vocabulary.clone());
    let text = serde_json::to_string_pretty(&Sibling { format: FORMAT, task, vocabulary });
    let text = text.map_err(|wrong| Error::request(format!("the task cannot be written as JSON: {wrong}")))?;
    Ok((text + "\n").into_bytes())
}

/// What the file says; `None` where there is none.
pub(super) fn read(file: &Path) -> Result<Option<Description>> {
    if !file.exists() {
        return Ok(None);
    }
    let text = files::read_text(file, LARGEST_FILE)?;
    let wrong = |wrong: serde_json::Error| Error::line(file, wrong.line().max(1), format!("cannot be read: {wrong}"));
    let Sibling { format, mut task, vocabulary } = serde_json::from_str(&text).map_err(wrong)?;
    if format != FORMAT {
        return Err(Error::key(file, "format", format!("{format}: this release reads {FORMAT}")));
    }
    task.vocabulary = vocabulary;
    Ok(Some(task))
}
