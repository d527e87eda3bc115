//! A run's state on disk: all that is needed to go on as if it had never stopped.
//!
//! One safetensors file, `state/state.safetensors` in the run directory:
//!
//! ```text
//! __metadata__.run        JSON: format, what the run is (identity.rs), how far it is (run/progress.rs), steps of Adam;
//!                         the summary when the run is finished, and then no parameters
//! NAME                    a parameter [rows, columns], f32; then its moments, NAME.moment1 and NAME.moment2
//! sha256                  u8 [32], the last: over every byte of the file before it
//! ```
//! It is written under a temporary name, synced, and renamed over the older one: whenever the process dies or the disk
//! fills up, one of the two is there and whole. Values go straight from the tensors to the file and back, so that a
//! tuned backbone needs no second copy in memory. What the numbers mean is not known here: anything that training
//! changes and that has a name goes in.

mod identity;

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

pub(crate) use identity::{Identity, digest};

use crate::checkpoint::Shard;
use crate::error::{Error, Result};
use crate::files::StagedFile;
use crate::tensor::Tensor;
use crate::train::Summary;
use crate::train::run::Progress;

/// The version that this release writes and reads.
const FORMAT: u32 = 1;
const ABOUT: &str = "run";
const DIGEST: &str = "sha256";
const DIGEST_BYTES: usize = 32;
/// Values are turned into bytes, and bytes into values, in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// What a run is and how far it is; the parameters stand beside it in the file. `S` is what a finished run came to.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedState<S> {
    format: u32,
    pub(crate) identity: Identity,
    pub(crate) progress: Progress,
    /// Steps of the optimiser: Adam's `t`.
    pub(crate) optimizer_steps: u64,
    /// What a finished run came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finished: Option<S>,
}

impl<S: Serialize> SavedState<S> {
    pub(crate) fn new(identity: Identity, progress: Progress, optimizer_steps: u64) -> Self {
        SavedState { format: FORMAT, identity, progress, optimizer_steps, finished: None }
    }

    /// The state of a finished run: what it came to, in the place of what was needed to go on.
    pub(crate) fn finished(self, summary: S) -> Self {
        SavedState { finished: Some(summary), ..self }
    }

    /// Writes the state with the tensors of a run, replacing an older one.
    ///
    /// # Errors
    /// [`Error::Write`]; the older state is still whole.
    pub(crate) fn write(&self, path: &Path, tensors: &[(String, &Tensor)]) -> Result<()> {
        let header = self.header(tensors).map_err(|wrong| Error::file(path, wrong.to_string()))?;
        let staged = StagedFile::write_with(path, |file| {
            let (mut file, mut hash) = (BufWriter::new(file), Sha256::new());
            let mut put = |bytes: &[u8]| {
                hash.update(bytes);
                file.write_all(bytes)
            };
            put(&(header.len() as u64).to_le_bytes())?;
            put(header.as_bytes())?;
            let mut bytes = Vec::with_capacity(PIECE_BYTES);
            for (_, tensor) in tensors {
                for piece in tensor.read().chunks(PIECE_BYTES / 4) {
                    bytes.clear();
                    piece.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
                    put(&bytes)?;
                }
            }
            file.write_all(&hash.finalize())?;
            file.flush()
        })?;
        staged.commit()
    }

    /// The safetensors header, padded with spaces to whole words as the format's own writer does.
    fn header(&self, tensors: &[(String, &Tensor)]) -> serde_json::Result<String> {
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({ABOUT: serde_json::to_string(self)?}));
        let mut end = 0;
        for (name, tensor) in tensors {
            let (rows, columns) = (tensor.rows(), tensor.columns());
            let start = end;
            end += rows * columns * 4;
            header
                .insert(name.clone(), json!({"dtype": "F32", "shape": [rows, columns], "data_offsets": [start, end]}));
        }
        let digest = json!({"dtype": "U8", "shape": [DIGEST_BYTES], "data_offsets": [end, end + DIGEST_BYTES]});
        header.insert(DIGEST.into(), digest);
        let mut text = Value::Object(header).to_string();
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        Ok(text)
    }
}

/// The state of a run that trains a prompt.
pub(crate) type State = SavedState<Summary>;
/// Its file.
pub(crate) type StateFile = SavedFile<Summary>;

/// A state file whose description has been read; the tensors are still in the file.
pub(crate) struct SavedFile<S> {
    shard: Shard,
    metadata: Metadata,
    pub(crate) state: SavedState<S>,
}

impl<S: DeserializeOwned> SavedFile<S> {
    /// Opens a state file; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::File`] when it is damaged or of another release.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let (shard, metadata) = Shard::open(path).map_err(|wrong| unusable(path, &wrong.to_string()))?;
        let about = metadata.metadata().as_ref().and_then(|about| about.get(ABOUT));
        let about = about.ok_or_else(|| unusable(path, "it does not say what run it belongs to"))?;
        // The format is looked at first: a newer one may have other keys.
        let value: Value = serde_json::from_str(about).map_err(|wrong| unusable(path, &wrong.to_string()))?;
        match value["format"].as_u64() {
            Some(format) if format == u64::from(FORMAT) => {}
            format => {
                let found = format.map_or("none".into(), |format| format.to_string());
                return Err(unusable(path, &format!("its format is {found}, and this release reads {FORMAT}")));
            }
        }
        let state = serde_json::from_value(value).map_err(|wrong| unusable(path, &wrong.to_string()))?;
        Ok(Some(SavedFile { shard, metadata, state }))
    }

    /// Fills the tensors of a run, which must be exactly those of the file, and checks the whole file.
    ///
    /// # Errors
    /// [`Error::File`] when the file is damaged or holds other tensors; the tensors are of no use then.
    pub(crate) fn read_tensors(&self, tensors: Vec<(String, &mut Tensor)>) -> Result<()> {
        let mut wanted: BTreeMap<String, &mut Tensor> = tensors.into_iter().collect();
        let mut hash = Sha256::new();
        let header = self.shard.header()?;
        hash.update((header.len() as u64).to_le_bytes());
        hash.update(&header);
        let mut intact = false;
        for name in self.metadata.offset_keys() {
            let Some(info) = self.metadata.info(&name) else { continue };
            let (start, end) = info.data_offsets;
            if name == DIGEST && info.dtype == Dtype::U8 && info.shape == [DIGEST_BYTES] {
                let mut digest = [0; DIGEST_BYTES];
                self.read_at(start, &mut digest)?;
                intact = digest[..] == hash.clone().finalize()[..] && end == self.metadata.data_len();
                continue;
            }
            let place = wanted.remove(&name);
            let Some(tensor) = place.filter(|tensor| info.shape == [tensor.rows(), tensor.columns()]) else {
                return Err(
                    self.wrong(&format!("its tensor '{name}' of shape {:?} is not one of this run", info.shape))
                );
            };
            if info.dtype != Dtype::F32 {
                return Err(self.wrong(&format!("its tensor '{name}' has dtype {:?}; F32 was expected", info.dtype)));
            }
            self.read_tensor(start, tensor, &mut hash)?;
        }
        match wanted.first_key_value() {
            Some((name, _)) => Err(self.wrong(&format!("the tensor '{name}' is missing"))),
            None if intact => Ok(()),
            None => Err(self.wrong("its bytes do not agree with their SHA-256")),
        }
    }

    fn read_tensor(&self, start: usize, tensor: &mut Tensor, hash: &mut Sha256) -> Result<()> {
        let mut bytes = vec![0; PIECE_BYTES];
        let mut at = start;
        for values in tensor.data_mut().chunks_mut(PIECE_BYTES / 4) {
            let bytes = &mut bytes[..values.len() * 4];
            self.read_at(at, bytes)?;
            hash.update(&*bytes);
            at += bytes.len();
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        Ok(())
    }

    /// Bytes from an offset among the tensors.
    fn read_at(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.shard.read_at(self.shard.data_start() + offset as u64, bytes)
    }

    pub(crate) fn wrong(&self, reason: &str) -> Error {
        unusable(self.shard.path(), reason)
    }
}

fn unusable(path: &Path, reason: &str) -> Error {
    let message = format!(
        "the saved state cannot be used: {reason}; remove this file, and --resume begins the run again from its start"
    );
    Error::file(path, message)
}

#[cfg(test)]
mod tests;
