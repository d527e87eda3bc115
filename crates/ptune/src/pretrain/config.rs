//! The run file of `ptune pretrain`. `docs/pretrain.md` is its manual; a test keeps the two alike.
//!
//! Every default is in the `Default` implementations below and nowhere else. [`PretrainConfig::read`] decides what
//! depends on other keys, makes paths absolute and checks every value (`check.rs`), so that nothing after it asks again.

mod check;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::hub;
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::train::config::ScheduleKind;

/// The longest row where the file gives none and the model has as many positions.
const USUAL_TOKENS: usize = 128;

/// A run file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// Where all randomness of the run comes from.
    pub seed: u64,
    /// Threads; without it, as many as the process may use. Results do not depend on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// The text.
    pub data: DataConfig,
    /// How text becomes tokens.
    pub tokenizer: TokenizerConfig,
    /// The model's shape, or the checkpoint it begins from.
    pub model: ModelConfig,
    /// Optimisation, evaluation and saves.
    pub train: TrainConfig,
}

/// `[data]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Plain UTF-8 text, a sentence or document a line. Required.
    pub text: Vec<PathBuf>,
    /// Share of the distinct lines that are not trained on, but measured; 0 for none.
    pub held_out: f64,
    /// The longest row, special tokens included; longer lines become several rows. There after reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
}

/// `[tokenizer]`: only where the model does not come with one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerConfig {
    /// Its kind; `wordpiece` for `bert` and `bpe` for `gpt2` where the file gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<TokenizerKind>,
    /// The most tokens it may have.
    pub vocabulary: usize,
    /// Whether upper case becomes lower case.
    pub lowercase: bool,
    /// A file of words that must be single tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<PathBuf>,
}

/// `[model]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// The family whose shape the model has. Required unless there is a checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// A Hugging Face directory, or a model by name, to begin from, tokenizer included, in place of a shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    /// Blocks.
    pub layers: usize,
    /// Width of a row.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the feed-forward part; four times `hidden` where the file gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner: Option<usize>,
    /// Positions that a row can have.
    pub positions: usize,
    /// The precision of the saved weights.
    pub dtype: Dtype,
}

/// `[train]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Length of the run in batches. Required.
    pub steps: usize,
    /// Tokens a batch, about: whole rows up to so many.
    pub batch_tokens: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Weight decay; biases and norms are left alone.
    pub weight_decay: f64,
    /// How the learning rate changes after the warm-up.
    pub schedule: ScheduleKind,
    /// Steps over which the learning rate rises from 0; a twentieth of the steps where the file gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<usize>,
    /// Largest norm of the gradient; 0 switches clipping off.
    pub clip_norm: f64,
    /// Masked models: the share of the words that is predicted.
    pub masked: f64,
    /// Steps between evaluations; a tenth of the steps where the file gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_every: Option<usize>,
    /// Steps between two saves of the state, from which `--resume` goes on.
    pub save_every: usize,
}

/// How a tokenizer cuts words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// The longest pieces of a word from its start, `##` before a continuation, as BERT.
    WordPiece,
    /// Merged pairs of bytes, as GPT-2.
    Bpe,
}

/// The family whose shape a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Masked.
    Bert,
    /// Causal.
    Gpt2,
}

/// The precision of saved weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 16 bits, rounded to the nearest, ties to even.
    Bf16,
    /// 32 bits: what was trained.
    F32,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig { text: Vec::new(), held_out: 0.01, max_tokens: None }
    }
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        TokenizerConfig { kind: None, vocabulary: 4000, lowercase: false, words: None }
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            layout: None,
            checkpoint: None,
            layers: 4,
            hidden: 192,
            heads: 4,
            inner: None,
            positions: 128,
            dtype: Dtype::Bf16,
        }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            steps: 0,
            batch_tokens: 1024,
            learning_rate: 1e-3,
            weight_decay: 0.01,
            schedule: ScheduleKind::Linear,
            warmup_steps: None,
            clip_norm: 1.0,
            masked: 0.15,
            eval_every: None,
            save_every: 500,
        }
    }
}

impl PretrainConfig {
    /// Reads a run file, applies `overrides` (`--set key=value`) as if they stood in the file, decides what depends on
    /// other keys and checks everything. Relative paths are taken from the run file's directory and come back absolute.
    ///
    /// # Errors
    /// Syntax and unknown keys with the file, the line and the closest key; a wrong type or value with its key; a wrong
    /// override by its key.
    pub fn read(path: &Path, overrides: &[(String, String)]) -> Result<PretrainConfig> {
        let mut config: PretrainConfig = Self::keys()?.read(path, overrides)?;
        // Before the defaults of a shape are filled in: then it is seen whether the file gives one.
        config.check_beginning(path)?;
        config.resolve(path)?;
        config.check(path)?;
        Ok(config)
    }

    /// The file as TOML; what [`PretrainConfig::read`] returned reads back as the same.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|wrong| Error::request(format!("the run cannot be written as TOML: {wrong}")))
    }

    /// The same with the longest row decided for a model with so many positions.
    pub(super) fn with_positions(&self, positions: usize) -> PretrainConfig {
        let max_tokens = Some(self.data.max_tokens.unwrap_or(positions.min(USUAL_TOKENS)));
        PretrainConfig { data: DataConfig { max_tokens, ..self.data.clone() }, ..self.clone() }
    }

    /// The keys of a run file.
    fn keys() -> Result<Keys> {
        Keys::of(&PretrainConfig {
            threads: Some(1),
            data: DataConfig { max_tokens: Some(1), ..DataConfig::default() },
            tokenizer: TokenizerConfig {
                kind: Some(TokenizerKind::Bpe),
                words: Some(PathBuf::new()),
                ..TokenizerConfig::default()
            },
            model: ModelConfig {
                layout: Some(Layout::Bert),
                checkpoint: Some(PathBuf::new()),
                inner: Some(1),
                ..ModelConfig::default()
            },
            train: TrainConfig { warmup_steps: Some(1), eval_every: Some(1), ..TrainConfig::default() },
            ..PretrainConfig::default()
        })
    }

    fn resolve(&mut self, file: &Path) -> Result<()> {
        let directory = file.parent().unwrap_or(Path::new(""));
        let absolute = |path: &mut PathBuf| -> Result<()> {
            // An empty path stays empty: the check says that the key is missing.
            if !path.as_os_str().is_empty() {
                *path = std::path::absolute(directory.join(&*path)).map_err(|source| Error::read(file, source))?;
            }
            Ok(())
        };
        self.data.text.iter_mut().try_for_each(absolute)?;
        let checkpoint = self.model.checkpoint.as_mut().filter(|path| !hub::is_name(path, directory));
        for path in [self.tokenizer.words.as_mut(), checkpoint].into_iter().flatten() {
            absolute(path)?;
        }
        let (steps, model) = (self.train.steps, &mut self.model);
        if let Some(layout) = model.layout {
            self.tokenizer.kind.get_or_insert(match layout {
                Layout::Bert => TokenizerKind::WordPiece,
                Layout::Gpt2 => TokenizerKind::Bpe,
            });
            model.inner.get_or_insert(model.hidden.saturating_mul(4));
        }
        self.train.warmup_steps.get_or_insert(steps / 20);
        self.train.eval_every.get_or_insert(steps.div_ceil(10).max(1));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
