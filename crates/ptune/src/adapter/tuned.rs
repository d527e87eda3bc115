//! Trained weights of an adapter: `backbone.safetensors`, and `head.safetensors` for what only the language-model head has,
//! or for a classifier (`classifier.weight`, ...: the names of [`Classifier`]).
//!
//! Tensors stand under the names and in the layouts of the base's checkpoint, f32, sorted by name, so that whatever reads
//! the checkpoint can read them. With LoRA `backbone.safetensors` holds the low-rank matrices alone ([`Lora::tensor_names`]),
//! and `[tuned.lora]` of `adapter.toml` says what they are. A file is written tensor by tensor. `adapter.toml` holds its SHA-256: as with the other
//! parts, a new file waits as `NAME.next` until `adapter.toml` is renamed, and is found under either name.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::files::{ADAPTER_FILE, next, tuned_of};
use crate::checkpoint::{ModelDirectory, Weights};
use crate::error::{Error, Result};
use crate::files::{self, StagedFile};
use crate::keys::check;
use crate::method::Classifier;
use crate::model::spec::ModelSpec;
use crate::model::{Additions, Gradients, Lora, Model, TrainedTensor};
use crate::parameter::Group;
use crate::tensor::Device;

const BACKBONE_FILE: &str = "backbone.safetensors";
pub(crate) const HEAD_FILE: &str = "head.safetensors";
/// Files are hashed in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// Which trained weights stand beside a prompt, by the SHA-256 of their files; none of a frozen model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    /// Of `backbone.safetensors`.
    #[serde(skip_serializing_if = "Option::is_none")]
    backbone: Option<String>,
    /// Of `head.safetensors`.
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    /// What the low-rank matrices of `backbone.safetensors` are added to, where it holds those.
    #[serde(skip_serializing_if = "Option::is_none")]
    lora: Option<Lora>,
}

/// A tensor for a file of trained weights, f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, row-major.
    pub numbers: Vec<f32>,
}

/// What a file of trained weights is written from, tensor by tensor.
trait Stored {
    fn name(&self) -> &str;
    fn shape(&self) -> &[usize];
    /// Its numbers, perhaps put into `room`.
    fn numbers<'a>(&'a self, room: &'a mut Vec<f32>) -> &'a [f32];
}

impl Stored for Weight {
    fn name(&self) -> &str {
        &self.name
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn numbers<'a>(&'a self, _: &'a mut Vec<f32>) -> &'a [f32] {
        &self.numbers
    }
}

impl Stored for TrainedTensor<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn numbers<'a>(&'a self, room: &'a mut Vec<f32>) -> &'a [f32] {
        self.read_into(room);
        room
    }
}

impl Tuned {
    /// Writes what is trained of `model` or the additions to it, and the classifier on it, beside the adapter in
    /// `directory`, where they wait for [`super::Adapter::save`].
    ///
    /// # Errors
    /// [`Error::Write`]; the adapter that was there is still whole.
    pub fn write(
        directory: &Path,
        model: &Model,
        classifier: Option<&Classifier>,
        additions: Option<&Additions>,
    ) -> Result<Tuned> {
        let head = match classifier {
            Some(classifier) => TrainedTensor::of_parameters(classifier.parameters()),
            None => model.trained_tensors(Group::Head),
        };
        let backbone = match additions {
            Some(additions) => TrainedTensor::of_parameters(additions.parameters()),
            None => model.trained_tensors(Group::Backbone),
        };
        Self::write_tensors(directory, &backbone, &head, additions.map(|additions| additions.lora().clone()))
    }

    /// The same of weights that no model holds, sorted by name: `backbone` the matrices of `lora`, `head` a classifier.
    ///
    /// # Errors
    /// As [`Tuned::write`].
    pub fn write_weights(directory: &Path, backbone: &[Weight], head: &[Weight], lora: Option<Lora>) -> Result<Tuned> {
        Self::write_tensors(directory, backbone, head, lora)
    }

    fn write_tensors<T: Stored>(directory: &Path, backbone: &[T], head: &[T], lora: Option<Lora>) -> Result<Tuned> {
        files::create_directory(directory)?;
        if let Some(older) = tuned_of(directory) {
            older.settle(directory)?;
        }
        let stage = |name: &str, tensors: &[T]| -> Result<Option<String>> {
            if tensors.is_empty() {
                return Ok(None);
            }
            let (staged, sha256) = stage(&next(&directory.join(name)), tensors)?;
            staged.commit()?;
            Ok(Some(sha256))
        };
        Ok(Tuned { backbone: stage(BACKBONE_FILE, backbone)?, head: stage(HEAD_FILE, head)?, lora })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Tuned::default()
    }

    /// Whether weights of the model itself were trained: what stands beside it is not meant.
    pub fn changes_model(&self) -> bool {
        self.backbone.is_some() && self.lora.is_none()
    }

    /// Whether weights of the base, or additions to them, are among them.
    pub fn has_backbone(&self) -> bool {
        self.backbone.is_some()
    }

    /// What the low-rank matrices are added to, where there are any.
    pub fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    /// The model of the adapter in `adapter`, whose `files` were opened: its base with what was trained of it, to answer
    /// with; [`Tuned::additions`] stand beside it.
    ///
    /// # Errors
    /// As [`Tuned::check`] and [`Model::load`].
    pub fn load_model(
        &self,
        adapter: &Path,
        files: &[Weights],
        base: &ModelDirectory,
        device: &Device,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Model> {
        self.check(adapter, &ModelSpec::read(base)?)?;
        // Matrices stand beside the model.
        Model::load(base, if self.lora.is_some() { &[] } else { files }, device, Gradients::None, progress)
    }

    /// The low-rank additions to `model`, from the files that were opened; `None` where there are none.
    ///
    /// # Errors
    /// As [`Additions::load`].
    pub fn additions(&self, files: &[Weights], model: &Model) -> Result<Option<Additions>> {
        let (Some(lora), [matrices, ..]) = (&self.lora, files) else { return Ok(None) };
        Additions::load(model, lora, matrices).map(Some)
    }

    /// The head alone: what is left where the backbone was merged into its base.
    pub fn head_alone(&self) -> Tuned {
        Tuned { head: self.head.clone(), ..Tuned::default() }
    }

    /// Refuses low-rank additions that the base cannot have.
    ///
    /// # Errors
    /// [`Error::Key`] of `adapter.toml` in `adapter`.
    pub fn check(&self, adapter: &Path, base: &ModelSpec) -> Result<()> {
        let Some(lora) = &self.lora else { return Ok(()) };
        let has_file =
            check(self.backbone.is_some(), "tuned.backbone", "is missing; it holds the matrices of tuned.lora");
        let checked = has_file.and_then(|()| lora.check("tuned.lora."));
        let checked = checked.and_then(|()| lora.check_targets(base, "tuned.lora.targets"));
        checked.map_err(|(key, message)| Error::key(&adapter.join(ADAPTER_FILE), key, message))
    }

    /// Opens the files in `directory`, having checked every byte.
    ///
    /// # Errors
    /// [`Error::File`] for one that is missing, damaged, or not of this adapter.
    pub fn open(&self, directory: &Path) -> Result<Vec<Weights>> {
        let mut opened = Vec::new();
        for (path, sha256) in self.parts(directory) {
            let Some(sha256) = sha256 else { continue };
            let found = [path.clone(), next(&path)].into_iter().find(|path| has_sha256(path, sha256));
            let Some(found) = found else {
                let message = if path.exists() {
                    "does not have the SHA-256 that adapter.toml gives: it is damaged, or belongs to another adapter"
                } else {
                    "is missing; the adapter cannot be used without it"
                };
                return Err(Error::file(&path, message));
            };
            opened.push(Weights::open_file(&found)?);
        }
        Ok(opened)
    }

    /// Gives the files of the adapter that is there their names, and removes others: after `adapter.toml` was renamed,
    /// and before new files are written, in case an earlier process was stopped between the two.
    pub(super) fn settle(&self, directory: &Path) -> Result<()> {
        for (path, sha256) in self.parts(directory) {
            let waiting = next(&path);
            match sha256 {
                Some(sha256) if has_sha256(&waiting, sha256) => files::rename(&waiting, &path)?,
                Some(_) => files::remove_if_present(&waiting)?,
                None => {
                    files::remove_if_present(&waiting)?;
                    files::remove_if_present(&path)?;
                }
            }
        }
        Ok(())
    }

    /// The files and what each must hash to.
    fn parts(&self, directory: &Path) -> [(PathBuf, Option<&str>); 2] {
        [(BACKBONE_FILE, &self.backbone), (HEAD_FILE, &self.head)]
            .map(|(name, sha256)| (directory.join(name), sha256.as_deref()))
    }
}

/// Writes tensors under a temporary name; the file's SHA-256.
fn stage<T: Stored>(path: &Path, tensors: &[T]) -> Result<(StagedFile, String)> {
    let header = header(tensors);
    let mut hash = Sha256::new();
    let staged = StagedFile::write_with(path, |file| {
        let mut file = BufWriter::new(file);
        let mut put = |bytes: &[u8]| {
            hash.update(bytes);
            file.write_all(bytes)
        };
        put(&(header.len() as u64).to_le_bytes())?;
        put(header.as_bytes())?;
        let (mut numbers, mut bytes) = (Vec::new(), Vec::with_capacity(PIECE_BYTES));
        for tensor in tensors {
            for piece in tensor.numbers(&mut numbers).chunks(PIECE_BYTES / 4) {
                bytes.clear();
                bytes.extend(piece.iter().flat_map(|number: &f32| number.to_le_bytes()));
                put(&bytes)?;
            }
        }
        file.flush()
    })?;
    Ok((staged, hex(hash)))
}

/// The safetensors header, padded with spaces to whole words as the format's own writer does.
fn header<T: Stored>(tensors: &[T]) -> String {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += 4 * tensor.shape().iter().product::<usize>();
        let about = json!({"dtype": "F32", "shape": tensor.shape(), "data_offsets": [start, end]});
        header.insert(tensor.name().into(), about);
    }
    let mut text = Value::Object(header).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    text
}

/// Whether a file is there and hashes to this.
fn has_sha256(path: &Path, sha256: &str) -> bool {
    // Before opening: a pipe that nobody writes to would wait for ever, and a device has no end.
    if !path.is_file() {
        return false;
    }
    let Ok(mut file) = File::open(path) else { return false };
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return hex(hash).eq_ignore_ascii_case(sha256),
            Ok(read) => hash.update(&piece[..read]),
            Err(wrong) if wrong.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
