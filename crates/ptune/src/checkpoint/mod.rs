//! A Hugging Face model directory: `config.json`, weights in safetensors, a tokenizer.
//!
//! Everything here is checked before it is believed, and what is not implemented is refused by name. This module
//! knows files and tensors; what a key or a tensor *means* is the business of the model family that reads it.
//! Pickled weights (`pytorch_model.bin`) are never read: they can run code.

mod changed;
mod config;
mod fingerprint;
pub mod hub;
mod shard;
pub mod special_tokens;
pub mod tokenizer;
mod weights;

use std::path::{Path, PathBuf};

pub(crate) use changed::{Change, write as write_changed};
pub use config::Config;
pub(crate) use fingerprint::{hexadecimal, sha256};
pub(crate) use shard::Shard;
pub use tokenizer::{Glue, Tokenizer};
pub use weights::Weights;

use crate::error::{Error, Result};
use crate::files::{self, built_in};

const CONFIG_FILE: &str = "config.json";
const PICKLED_FILE: &str = "pytorch_model.bin";
const PICKLED_INDEX: &str = "pytorch_model.bin.index.json";

/// What a tokenizer may consist of, and what it may have been converted from.
pub const TOKENIZER_FILES: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
];

/// An opened model directory: its configuration and its weights' headers; tensors are read when asked for.
#[derive(Debug)]
pub struct ModelDirectory {
    path: PathBuf,
    config: Config,
    weights: Weights,
}

impl ModelDirectory {
    /// Opens a directory that holds `config.json` and `model.safetensors` (or `model.safetensors.index.json` with its
    /// shards). Only headers are read.
    ///
    /// # Errors
    /// A missing directory or file, by name; a directory with pickled weights only, with the way to convert them;
    /// everything that [`Config::open`] and [`Weights::open`] refuse.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() && built_in::name_of(path).is_none() {
            let message = if path.exists() {
                "is not a directory; name the directory that holds config.json, model.safetensors and the tokenizer"
            } else {
                "there is no such directory; name a Hugging Face model directory (config.json, model.safetensors, tokenizer)"
            };
            return Err(Error::file(path, message));
        }
        let config_file = path.join(CONFIG_FILE);
        if !files::exists(&config_file) {
            return Err(Error::file(path, "holds no config.json, so it is not a Hugging Face model directory"));
        }
        if !Weights::present(path) {
            return Err(missing_weights(path));
        }
        Ok(ModelDirectory { path: path.into(), config: Config::open(&config_file)?, weights: Weights::open(path)? })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path from the root of the file system, which finds it again from anywhere; a built-in one is everywhere.
    ///
    /// # Errors
    /// [`Error::Read`] when the directory is gone.
    pub fn place(&self) -> Result<PathBuf> {
        match built_in::name_of(&self.path) {
            Some(_) => Ok(self.path.clone()),
            None => std::fs::canonicalize(&self.path).map_err(|source| Error::read(&self.path, source)),
        }
    }

    /// The checked `config.json`.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tensors.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The base fingerprint: SHA-256 in hexadecimal over the configuration, the tokenizer, the weights' headers and
    /// the bytes of `embedding_tensor`. An adapter carries it and refuses another base.
    ///
    /// # Errors
    /// A file that cannot be read, a missing tokenizer, a missing tensor.
    pub fn fingerprint(&self, embedding_tensor: &str) -> Result<String> {
        fingerprint::fingerprint(&self.path, &self.weights, embedding_tensor)
    }
}

/// Why a directory without safetensors cannot be used, and what to do about it.
fn missing_weights(path: &Path) -> Error {
    if path.join(PICKLED_FILE).exists() || path.join(PICKLED_INDEX).exists() {
        let directory = path.display();
        return Error::file(
            path,
            format!(
                "has only pickled weights ({PICKLED_FILE}), which can run code and are not read; convert them once, \
                 in Python (a causal model with AutoModelForCausalLM):\n  from transformers import AutoModelForMaskedLM\n  \
                 AutoModelForMaskedLM.from_pretrained({directory:?}).save_pretrained({directory:?})",
                directory = directory.to_string()
            ),
        );
    }
    Error::file(path, "holds no weights; model.safetensors or model.safetensors.index.json was expected")
}

#[cfg(test)]
mod tests;
