//! The run file: one training run as TOML. `docs/train.md` is its manual; a test keeps the two alike.
//!
//! [`RunConfig::read`] parses a file, applies the `--set key=value` overrides of the command line, fills in what
//! depends on other keys, resolves paths against the file's directory and checks every value. What comes out can be
//! used as it stands. Every default is in the `Default` implementations below and nowhere else; a key that has none
//! there is either optional (`Option`) or required (empty until the file gives it, and refused when it stays so).
//! A key or a value whose feature is not built is refused by name, never ignored.

mod changes;
mod check;
mod choices;
mod read;
mod search;
mod sensitivity;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use choices::{BackboneMode, Compute, HeadKind, Loss, Metric, OptimizerKind, ScheduleKind};

pub use search::{Combine, SearchConfig};
pub use sensitivity::SensitivityConfig;

use crate::adapter::labels;
use crate::error::{Error, Result};
use crate::model::{Lora, Projection};
use crate::prompt::encoder::{EncoderKind, EncoderShape, Shapes};
use crate::prompt::initial::{Init, PrefixInit};
use crate::prompt::{AnswerKind, CausalTail};

/// Adam's decay rates of the gradient's first and second moments. They are no keys: nobody tunes them for prompts.
pub const ADAM_BETAS: (f64, f64) = (0.9, 0.999);
/// What Adam adds to the root of the second moment.
pub const ADAM_EPSILON: f64 = 1e-8;

/// The learning rate of a trained model where the file gives none.
const BACKBONE_LEARNING_RATE: f64 = 1e-5;
/// The same of low-rank additions: what their authors took for RoBERTa.
const LORA_LEARNING_RATE: f64 = 5e-4;

/// The most tokens of a text where the file does not say.
pub(super) const ANSWER_TOKENS: usize = 32;

/// The integers of TOML end here.
pub const LARGEST_SEED: u64 = i64::MAX as u64;

/// A run file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// The Hugging Face model directory, or the name of a built-in model or of one in the Hugging Face cache. Required.
    pub model: PathBuf,
    /// The precision of the frozen model; never `auto` after reading.
    pub compute: Compute,
    /// Where all randomness of the run comes from; at most [`LARGEST_SEED`].
    pub seed: u64,
    /// Threads; without it, as many as the process may use. Results do not depend on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// The examples.
    pub data: DataConfig,
    /// What is asked of the model.
    pub task: TaskConfig,
    /// The trained prompt.
    pub prompt: PromptConfig,
    /// What happens to the model's own weights.
    pub backbone: BackboneConfig,
    /// Optimisation, evaluation and selection.
    pub train: TrainConfig,
    /// How a discrete prompt is looked for.
    #[serde(skip_serializing_if = "SearchConfig::is_default")]
    pub search: SearchConfig,
    /// Which prompts are compared.
    #[serde(skip_serializing_if = "SensitivityConfig::is_default")]
    pub sensitivity: SensitivityConfig,
}

/// `[data]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Training examples, a JSON object a line. Required.
    pub train: PathBuf,
    /// Examples that pick the best adapter; without them the last state is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev: Option<PathBuf>,
    /// Examples for the final evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<PathBuf>,
    /// The longest row, special and pseudo tokens included; without it 256, or the model's positions if fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Whether every epoch visits the training examples in a new order; `false` keeps the order of the file.
    pub shuffle: bool,
}

/// `[task]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskConfig {
    /// The template. Required.
    pub template: String,
    /// The field with the gold label, or with the gold answer when there is no verbalizer.
    pub target: String,
    /// What the answer is; without it a label, or a word where there is no verbalizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerKind>,
    /// Texts: the most tokens of an answer; there after reading exactly when the answers are texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_tokens: Option<usize>,
    /// Probing: the file with the candidate answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<PathBuf>,
    /// Probing: which list of a vocabulary file that is an object of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocabulary_key: Option<String>,
    /// Probing: which words the training loss compares the answer with.
    pub loss: Loss,
    /// What happens to the pieces behind `[MASK]` in a causal model.
    pub causal_tail: CausalTail,
    /// What turns what the model computes into an answer; without it, a verbalizer where there is one, else the vocabulary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadKind>,
    /// The labels of a classifier, in the order of the classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Labels and their words in the order of the file. Empty means probing, texts, or a classifier.
    #[serde(with = "labels", skip_serializing_if = "Vec::is_empty")]
    pub verbalizer: Vec<(String, Vec<String>)>,
}

/// `[prompt]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptConfig {
    /// The prompt encoder.
    pub encoder: EncoderKind,
    /// Which published implementation the encoder's shapes follow.
    pub shapes: Shapes,
    /// `peft`: the encoder's hidden width; without it, that of the model's word embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_size: Option<usize>,
    /// `peft`: layers of the LSTM; without it, 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Where the rows of the pseudo tokens start.
    pub init: Init,
    /// Rows of a prefix: trained keys and values in every block, before those of the text. Without it there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_tokens: Option<usize>,
    /// The hidden width of what the prefix is computed with; without it, it is a plain table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_hidden_size: Option<usize>,
    /// Where the prefix starts; without it, at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_init: Option<PrefixInit>,
    /// A text whose keys and values the prefix starts from; it has as many tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_text: Option<String>,
}

/// `[backbone]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackboneConfig {
    /// Whether the model's weights are trained.
    pub mode: BackboneMode,
    /// Dropout of the model while training: embeddings, attention probabilities, and what attention and MLP give.
    pub dropout: f64,
    /// LoRA: rows of A and columns of B; there after reading exactly with `lora`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_rank: Option<usize>,
    /// LoRA: the addition is multiplied by this over the rank; there as the rank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_alpha: Option<f64>,
    /// LoRA: the addition is multiplied by alpha over the root of the rank instead; there as the rank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_rslora: Option<bool>,
    /// LoRA: the projections that get an addition; there as the rank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_targets: Option<Vec<Projection>>,
}

/// `[train]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Length of the run in batches. Exactly one of `steps` and `epochs` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Length of the run in passes over the training examples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// Examples a step.
    pub batch_size: usize,
    /// Learning rate of the prompt.
    pub learning_rate: f64,
    /// Learning rate of the model's weights; there after reading exactly when they are trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backbone_learning_rate: Option<f64>,
    /// Learning rate of what only the language-model head has; there as the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_learning_rate: Option<f64>,
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Weight decay of the prompt, and of the model unless that has its own: decoupled for `adamw` and `adamw_hf`, added
    /// to the gradient for `adam`.
    pub weight_decay: f64,
    /// Weight decay of the model's weights, biases and norms excepted; there after reading exactly when they are trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backbone_weight_decay: Option<f64>,
    /// How the learning rate changes.
    pub schedule: ScheduleKind,
    /// `exponential`: what the learning rate is multiplied by after every epoch.
    pub decay: f64,
    /// Steps over which the learning rate rises from 0.
    pub warmup_steps: usize,
    /// Largest norm of the gradient; 0 switches clipping off.
    pub clip_norm: f64,
    /// Steps between evaluations on `dev`; without it, one at the end of every epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_every: Option<usize>,
    /// Steps between two saves of the state, from which `--resume` goes on.
    pub save_every: usize,
    /// A frozen causal model: megabytes in which keys and values of the text before the first pseudo token are kept.
    pub keep_mb: usize,
    /// Evaluations without improvement before the run stops; 0 never stops it.
    pub patience: usize,
    /// The metric that picks the best adapter; always there after reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select: Option<Metric>,
}

impl Default for RunConfig {
    fn default() -> Self {
        RunConfig {
            model: PathBuf::new(),
            compute: Compute::Auto,
            seed: 0,
            threads: None,
            data: DataConfig::default(),
            task: TaskConfig::default(),
            prompt: PromptConfig::default(),
            backbone: BackboneConfig::default(),
            train: TrainConfig::default(),
            search: SearchConfig::default(),
            sensitivity: SensitivityConfig::default(),
        }
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig { train: PathBuf::new(), dev: None, test: None, max_tokens: None, shuffle: true }
    }
}

impl Default for TaskConfig {
    fn default() -> Self {
        TaskConfig {
            template: String::new(),
            target: "label".into(),
            answer: None,
            answer_tokens: None,
            vocabulary: None,
            vocabulary_key: None,
            loss: Loss::Full,
            causal_tail: CausalTail::Error,
            head: None,
            labels: None,
            verbalizer: Vec::new(),
        }
    }
}

impl Default for PromptConfig {
    fn default() -> Self {
        PromptConfig {
            encoder: EncoderKind::Lstm,
            shapes: Shapes::Lama,
            hidden_size: None,
            layers: None,
            init: Init::Random,
            prefix_tokens: None,
            prefix_hidden_size: None,
            prefix_init: None,
            prefix_text: None,
        }
    }
}

impl Default for BackboneConfig {
    fn default() -> Self {
        BackboneConfig {
            mode: BackboneMode::Frozen,
            dropout: 0.0,
            lora_rank: None,
            lora_alpha: None,
            lora_rslora: None,
            lora_targets: None,
        }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            steps: None,
            epochs: None,
            batch_size: 8,
            learning_rate: 1e-3,
            backbone_learning_rate: None,
            head_learning_rate: None,
            optimizer: OptimizerKind::AdamW,
            weight_decay: 0.0,
            backbone_weight_decay: None,
            schedule: ScheduleKind::Constant,
            decay: 0.98,
            warmup_steps: 0,
            clip_norm: 1.0,
            eval_every: None,
            save_every: 200,
            keep_mb: 1024,
            patience: 0,
            select: None,
        }
    }
}

impl PromptConfig {
    /// The prompt encoder.
    pub fn shape(&self) -> EncoderShape {
        EncoderShape { kind: self.encoder, shapes: self.shapes, hidden_size: self.hidden_size, layers: self.layers }
    }
}

impl BackboneConfig {
    /// The low-rank additions, after reading; none with another mode.
    pub fn lora(&self) -> Option<Lora> {
        let (rank, alpha, targets) = (self.lora_rank?, self.lora_alpha?, self.lora_targets.clone()?);
        let lora = Lora { rank, alpha, rslora: self.lora_rslora.unwrap_or_default(), targets };
        (self.mode == BackboneMode::Lora).then_some(lora)
    }
}

impl DataConfig {
    /// The same with the longest row decided.
    pub fn with_max_tokens(&self, max_tokens: usize) -> DataConfig {
        DataConfig { max_tokens: Some(max_tokens), ..self.clone() }
    }
}

impl RunConfig {
    /// What turns what the model computes into an answer: `task.head`, or what follows from the verbalizer.
    pub fn head(&self) -> HeadKind {
        let without = if self.task.verbalizer.is_empty() { HeadKind::Vocabulary } else { HeadKind::Verbalizer };
        self.task.head.unwrap_or(without)
    }

    /// Whether the answer is any word, or any word of the vocabulary.
    pub fn is_probing(&self) -> bool {
        self.head() == HeadKind::Vocabulary && !self.is_text()
    }

    /// Whether the answer is any text.
    pub fn is_text(&self) -> bool {
        self.task.answer == Some(AnswerKind::Text)
    }

    /// The metric that picks the best adapter: `train.select`, or else the first metric of the task.
    pub fn select(&self) -> Metric {
        self.train.select.unwrap_or(match () {
            () if self.is_text() => Metric::Perplexity,
            () if self.is_probing() => Metric::PAt1,
            () => Metric::Accuracy,
        })
    }

    /// The file as TOML; what [`RunConfig::read`] returned reads back as the same.
    ///
    /// # Errors
    /// A seed above [`LARGEST_SEED`], or a path that is not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        if self.seed > LARGEST_SEED {
            let message = format!("seed {}: must be at most {LARGEST_SEED}, the largest integer of TOML", self.seed);
            return Err(Error::request(message));
        }
        toml::to_string(self).map_err(|wrong| Error::request(format!("the run cannot be written as TOML: {wrong}")))
    }
}

#[cfg(test)]
mod tests;
