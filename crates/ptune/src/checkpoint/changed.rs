//! A copy of a checkpoint with some of its tensors changed: one `model.safetensors`, its configuration and its tokenizer.
//!
//! Changed tensors are f32, all others keep their bytes; they stand in the order of their names. Everything goes through
//! piece by piece, so no tensor but a changed one is in memory. The header says what the copy was made with, so that
//! its fingerprint is not that of the original.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{CONFIG_FILE, ModelDirectory, TOKENIZER_FILES, Weights};
use crate::error::{Error, Result};
use crate::files::{self, StagedFile};

/// How a causal model is asked to write.
const GENERATION_FILE: &str = "generation_config.json";
const LARGEST_FILE: u64 = 256 << 20;

/// The tensors that change.
pub(crate) trait Change {
    /// Whether this one does.
    fn changes(&self, name: &str) -> bool;
    /// Its numbers, row by row, into `out`.
    fn numbers(&self, name: &str, out: &mut Vec<f32>) -> Result<()>;
}

/// Writes the copy into `out`, which is there and empty; `made_with` is what its header says. `progress(done, total)` counts
/// tensors.
///
/// # Errors
/// A file that cannot be read or written; whatever [`Change::numbers`] says. `config.json` comes last: without it `out` is
/// no model.
pub(crate) fn write(
    directory: &ModelDirectory,
    out: &Path,
    change: &dyn Change,
    made_with: &str,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<()> {
    let mut staged =
        vec![stage_weights(&out.join("model.safetensors"), directory.weights(), change, made_with, progress)?];
    for name in TOKENIZER_FILES.into_iter().chain([GENERATION_FILE]) {
        let file = directory.path().join(name);
        if files::exists(&file) {
            staged.push(StagedFile::write(&out.join(name), &files::read_bytes(&file, LARGEST_FILE)?)?);
        }
    }
    staged.push(StagedFile::write(&out.join(CONFIG_FILE), &config(directory)?)?);
    staged.into_iter().try_for_each(StagedFile::commit)
}

/// `config.json` with the dtype that readers should load: f32, or they would round what has changed.
fn config(directory: &ModelDirectory) -> Result<Vec<u8>> {
    let file = directory.path().join(CONFIG_FILE);
    let mut config: Map<String, Value> = serde_json::from_slice(&files::read_bytes(&file, LARGEST_FILE)?)
        .map_err(|wrong| Error::file(&file, format!("is no JSON object any more: {wrong}")))?;
    config.remove("torch_dtype"); // the older name of the next
    config.insert("dtype".into(), json!("float32"));
    serde_json::to_vec_pretty(&config).map_err(|wrong| Error::file(&file, wrong.to_string()))
}

fn stage_weights(
    path: &Path,
    weights: &Weights,
    change: &dyn Change,
    made_with: &str,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<StagedFile> {
    let header = header(weights, change, made_with);
    let total = weights.names().count();
    let mut failed = None;
    let staged = StagedFile::write_with(path, |file| {
        let mut file = BufWriter::new(file);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        let mut numbers = Vec::new();
        for (done, name) in weights.names().enumerate() {
            progress(done, total);
            if let Err(error) = write_tensor(&mut file, path, weights, change, name, &mut numbers) {
                failed = Some(error);
                return Err(io::Error::other("a tensor failed"));
            }
        }
        progress(total, total);
        file.flush()
    });
    match failed {
        Some(error) => Err(error),
        None => staged,
    }
}

fn write_tensor(
    file: &mut BufWriter<&mut File>,
    path: &Path,
    weights: &Weights,
    change: &dyn Change,
    name: &str,
    numbers: &mut Vec<f32>,
) -> Result<()> {
    let failed = |source| Error::write(path, source);
    if !change.changes(name) {
        return weights.for_each_piece(name, |piece| file.write_all(piece).map_err(failed));
    }
    change.numbers(name, numbers)?;
    numbers.iter().try_for_each(|number| file.write_all(&number.to_le_bytes())).map_err(failed)
}

/// The header, padded with spaces to whole words as the format's own writer does.
fn header(weights: &Weights, change: &dyn Change, made_with: &str) -> String {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt", "ptune": made_with}));
    let mut end = 0;
    for name in weights.names() {
        let (shape, start) = (weights.shape(name).unwrap_or(&[]), end);
        let own = (weights.dtype(name).unwrap_or_default(), weights.bytes(name));
        let (dtype, bytes) =
            if change.changes(name) { ("F32".into(), 4 * shape.iter().product::<usize>()) } else { own };
        end += bytes;
        header.insert(name.into(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}));
    }
    let mut text = Value::Object(header).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    text
}
