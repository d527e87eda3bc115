//! A trained task on disk: a directory, of a few kilobytes unless the model was trained too, that any process with the same base model can use.
//!
//! | file | holds |
//! |---|---|
//! | `adapter.toml` | format version, task, labels with their words in order, base, metrics; sizes and SHA-256 of the others |
//! | `prompt.safetensors` | f32 tensors: `prompt` `[rows, width]`, the computed rows of the pseudo tokens, and `prefix` `[rows, 2 x blocks x key width]`, those of a prefix in the layout of PEFT; none for a manual or a discrete prompt (`discrete.rs`) |
//! | `backbone.safetensors`, `head.safetensors` | the trained weights of the base, with `backbone.mode = "full"`, or the matrices of its low-rank additions with `"lora"`; none over a frozen one (`tuned.rs`). Of a classifier `head.safetensors` has the layers instead |
//! | `vocabulary.bin` | the candidate answers of a probing task, one bit a token id; none without a vocabulary |
//!
//! The prompt encoder is not stored: its output is all that answering needs. The same adapter always has the same
//! bytes. What the fields mean to a template or a verbalizer is checked by those; here it is checked that the files
//! are whole, belong together and hold numbers that can be computed with.

pub mod bundle;
mod discrete;
mod files;
pub(crate) mod labels;
pub mod peft;
mod tuned;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use discrete::{Discrete, MOST_PROMPTS, WeightedPrompt};
pub(crate) use tuned::HEAD_FILE;
pub use tuned::{Tuned, Weight};

use crate::error::{Error, Result};
use crate::method::Injection;
use crate::model::Model;
use crate::prompt::CausalTail;
use crate::tensor::{Device, Tensor};

/// A trained task: what it asks, and the rows that stand in for its pseudo tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// What the task asks and where it comes from.
    pub description: Description,
    /// The rows of the pseudo tokens, `[rows, width]`, row-major; empty for a manual prompt.
    pub prompt: Vec<f32>,
    /// How many rows; 0 for a manual prompt.
    pub rows: usize,
    /// Width of a row: that of the base's word embeddings.
    pub width: usize,
    /// The rows of a prefix: keys and values for every block, layer-major (as `Past::to_rows`); none without.
    pub prefix: Matrix,
    /// The weights that were trained with it; none over a frozen model. They stay in their files.
    pub tuned: Tuned,
}

/// Numbers of a prompt, row-major.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matrix {
    /// `rows * width` of them.
    pub values: Vec<f32>,
    /// Rows.
    pub rows: usize,
    /// Numbers of a row.
    pub width: usize,
}

impl Matrix {
    /// Those of a tensor; none of nothing.
    pub fn of(tensor: Option<&Tensor>) -> Matrix {
        let Some(tensor) = tensor else { return Matrix::default() };
        Matrix { values: tensor.read().to_vec(), rows: tensor.rows(), width: tensor.columns() }
    }

    /// On a device; `None` without rows.
    fn upload(&self, device: &Device) -> Option<Tensor> {
        (self.rows > 0).then(|| device.upload(self.rows, self.width, &self.values))
    }
}

/// The words of an adapter, `[task]` in `adapter.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The template.
    pub template: String,
    /// The field with the gold label or answer.
    pub target: String,
    /// What happened to the pieces behind `[MASK]` in a causal model; written when they were left out.
    #[serde(default, skip_serializing_if = "CausalTail::is_error")]
    pub causal_tail: CausalTail,
    /// The longest row, special and pseudo tokens included.
    pub max_tokens: usize,
    /// The precision it was trained with; it is used with the same.
    pub compute: String,
    /// The prompt encoder that computed the rows; none for a manual prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// The shapes of that encoder; none for a manual prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shapes: Option<String>,
    /// Rows of the prefix; none without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_tokens: Option<usize>,
    /// What gives the scores of the labels where it is not their words: `classifier`, in `head.safetensors`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Probing: what the training loss compared the answer with; none with labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    /// Texts: the most tokens of an answer; none where the answer is a label or a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_tokens: Option<usize>,
    /// Labels with their words (none under a classifier), in the order of the classes; empty in probing, and for texts.
    #[serde(with = "labels", default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, Vec<String>)>,
    /// What stands in the place of vectors; empty unless a search found it.
    #[serde(default, skip_serializing_if = "Discrete::is_empty")]
    pub discrete: Discrete,
    /// Probing: the token ids of the candidate answers, ascending and distinct, in `vocabulary.bin`.
    #[serde(skip)]
    pub vocabulary: Option<Vec<u32>>,
    /// The model it was trained on.
    pub base: Base,
    /// What the run measured.
    #[serde(default)]
    pub metrics: Metrics,
}

/// The model an adapter was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// [`crate::checkpoint::ModelDirectory::fingerprint`], 64 hexadecimal digits.
    pub fingerprint: String,
    /// The family.
    pub model_type: String,
    /// Width of the word embeddings.
    pub width: usize,
    /// A name for people: the last part of the directory's path; for a model of the Hugging Face cache its name and commit
    /// there, which find it again when the cache has moved; that of a built-in model.
    pub name: String,
    /// Where the directory was; `built-in:` and the name for one that is part of the program.
    pub path: String,
}

/// Metrics by name (`accuracy`, `p_at_1`, ...).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// On the dev examples, of the state that was kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dev: BTreeMap<String, f64>,
    /// On the test examples.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub test: BTreeMap<String, f64>,
}

impl Adapter {
    /// What it puts into its model.
    pub fn injection(&self, device: &Device, model: &Model) -> Injection {
        let rows = (self.rows > 0).then(|| device.upload(self.rows, self.width, &self.prompt));
        Injection::new(model, rows, self.prefix.upload(device))
    }

    /// Writes the adapter into `directory`, which is created if need be, replacing an older adapter.
    ///
    /// All files are written and synced before the first is renamed, so that a full disk damages nothing, and
    /// [`Adapter::load`] finds a whole adapter, the older or the new one, whenever a crash interrupts it.
    ///
    /// # Errors
    /// [`Error::Write`]; [`Error::Key`] when the adapter is one that `load` would refuse.
    pub fn save(&self, directory: &Path) -> Result<()> {
        files::save(self, directory)
    }

    /// Reads an adapter.
    ///
    /// # Errors
    /// A missing or damaged file, files that do not belong together, a newer format, sizes that disagree, values that
    /// are not finite: each with the file, and the key or the tensor.
    pub fn load(directory: &Path) -> Result<Adapter> {
        files::load(directory)
    }

    /// Refuses a base other than the one it was trained on: another model gives the rows another meaning. `model` is
    /// the directory that `fingerprint` was computed from.
    ///
    /// # Errors
    /// [`Error::File`] naming both models.
    pub fn check_base(&self, fingerprint: &str, model: &Path) -> Result<()> {
        let base = &self.description.base;
        if base.fingerprint == fingerprint {
            return Ok(());
        }
        let message = format!(
            "is not the model of this adapter, which was trained on '{}' ({}, width {}, fingerprint {}); this one has \
             fingerprint {}. Config, tokenizer and embedding table must be the same",
            base.name,
            base.model_type,
            base.width,
            beginning(&base.fingerprint),
            beginning(fingerprint)
        );
        Err(Error::file(model, message))
    }
}

/// Enough of a fingerprint to tell two apart.
fn beginning(fingerprint: &str) -> String {
    fingerprint.chars().take(16).collect()
}

#[cfg(test)]
mod tests;
