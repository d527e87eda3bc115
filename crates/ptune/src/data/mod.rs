//! Data: JSON-lines files, examples as token rows, packed batches.
//!
//! A [`Dataset`] is read whole before anything starts, so that a bad line is found at once; `predict` streams over
//! [`jsonl::Lines`] instead. What a target is (the index of a label, a token of the vocabulary) is the caller's choice.

mod batch;
pub mod encode;
pub mod jsonl;

use std::path::Path;

pub use batch::{Beginning, pack, pack_from};
pub use encode::{Encoded, Encoder, RowForm, Token, TokenSpan};
pub use jsonl::Example;

use crate::{Error, Result};

/// A data file as token rows with their targets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dataset {
    /// The kept rows in the order of the file.
    pub examples: Vec<Labelled>,
    /// How many rows were kept.
    pub kept: usize,
    /// How many rows were dropped because their answer is not in the vocabulary.
    pub dropped: usize,
}

/// A row with its targets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labelled {
    /// The row.
    pub encoded: Encoded,
    /// What `gold` of [`Dataset::read`] made of the target field: one for all its answer rows together, or where the
    /// answer is a text one for each.
    pub targets: Vec<u32>,
}

impl Dataset {
    /// Reads and encodes a whole file. `target` is the field with the gold label or answer; `gold` turns its text into
    /// targets, into `None` (drop and count the row), or into a sentence that says what is wrong.
    ///
    /// Errors: as [`jsonl::read`] and [`Encoder::encode`]; a field of the template that the first row lacks (caret); a
    /// line without the target; a sentence of `gold`, with its line; a file of which no row is kept.
    pub fn read(
        file: &Path,
        encoder: &Encoder<'_>,
        target: &str,
        gold: impl Fn(&str) -> std::result::Result<Option<Vec<u32>>, String>,
    ) -> Result<Dataset> {
        let data = Dataset::encode(&jsonl::read(file)?, encoder, target, gold)?;
        if data.kept == 0 {
            let message = format!("none of its {} rows has an answer in the vocabulary: nothing is left", data.dropped);
            return Err(Error::file(file, message));
        }
        Ok(data)
    }

    /// The same of examples that are in memory; none need be kept.
    ///
    /// Errors: as [`Dataset::read`].
    pub fn encode(
        rows: &[Example],
        encoder: &Encoder<'_>,
        target: &str,
        gold: impl Fn(&str) -> std::result::Result<Option<Vec<u32>>, String>,
    ) -> Result<Dataset> {
        if let Some(first) = rows.first() {
            encoder.check_fields(&first.field_names())?;
        }
        let mut examples = Vec::with_capacity(rows.len());
        for example in rows {
            let targets = gold(&example.text(target)?).map_err(|message| example.error(message))?;
            // A dropped row is encoded all the same: a file is either right or not, whatever the vocabulary.
            let encoded = encoder.encode_for(example, targets.as_deref().unwrap_or_default())?;
            if let Some(targets) = targets {
                examples.push(Labelled { encoded, targets });
            }
        }
        let (kept, dropped) = (examples.len(), rows.len() - examples.len());
        Ok(Dataset { examples, kept, dropped })
    }
}
