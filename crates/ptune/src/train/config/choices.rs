//! The keys of a run file that choose by name: closed lists, as the rest of the library matches on them.
//!
//! A name that is on no list is refused with the names that are; names of features that are designed but not built are
//! recognised in [`super::read`], so that the message can say so.

use serde::{Deserialize, Serialize};

use crate::tensor::Precision;

/// Precision of the frozen model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// The fastest for a frozen model on this processor, f32 for a trained one; decided when a run file is read.
    Auto,
    /// Everything in 32-bit floats: the reference.
    F32,
    /// The frozen weights, and the rows on their way into a product, as bf16; everything else in 32-bit floats.
    Bf16,
}

/// What the training loss of a probing task compares the answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Every token of the model, as in the paper.
    Full,
    /// The tokens of the vocabulary file.
    Vocabulary,
}

/// What turns what the model computes into an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadKind {
    /// Label words.
    Verbalizer,
    /// Every token of the model, or those of a vocabulary file: probing.
    Vocabulary,
    /// A trained classifier on the first token, or in a causal model on the last one.
    Classifier,
}

/// What happens to the model's own weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackboneMode {
    /// They stay as they are.
    Frozen,
    /// All of them are trained with the prompt.
    Full,
    /// They stay, and low-rank additions to some of them are trained with the prompt.
    Lora,
}

/// The optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay, as PyTorch's `AdamW`.
    AdamW,
    /// Adam with coupled L2: the decay is added to the gradient, as PyTorch's `Adam`.
    Adam,
    /// Adam with decoupled weight decay after the step, as the `AdamW` of transformers before version 5.
    #[serde(rename = "adamw_hf")]
    AdamWHf,
}

/// How the learning rate changes, after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// It stays.
    Constant,
    /// It falls to 0 at the last step.
    Linear,
    /// It is multiplied by `decay` after every epoch.
    Exponential,
}

/// A metric that can pick the best adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Share of right labels.
    Accuracy,
    /// F1, averaged over the labels.
    #[serde(rename = "macro_f1")]
    MacroF1,
    /// Probing: share of answers that came first.
    #[serde(rename = "p_at_1")]
    PAt1,
    /// Probing: share of answers among the first ten.
    #[serde(rename = "p_at_10")]
    PAt10,
    /// Probing: mean of one over the answer's rank.
    Mrr,
    /// Texts: the exponential of the mean loss of a token.
    Perplexity,
    /// Texts: share of answers that the model writes as they are.
    #[serde(rename = "exact_match")]
    ExactMatch,
}

impl HeadKind {
    /// The name in run files and adapters.
    pub fn name(self) -> &'static str {
        match self {
            HeadKind::Verbalizer => "verbalizer",
            HeadKind::Vocabulary => "vocabulary",
            HeadKind::Classifier => "classifier",
        }
    }
}

impl BackboneMode {
    /// Whether the model's weights are trained.
    pub fn is_full(self) -> bool {
        self == BackboneMode::Full
    }

    /// Whether nothing of the model is trained, nor added to it.
    pub fn is_frozen(self) -> bool {
        self == BackboneMode::Frozen
    }
}

impl Compute {
    /// The name in run files and adapters.
    pub fn name(self) -> &'static str {
        match self {
            Compute::Auto => "auto",
            Compute::F32 => "f32",
            Compute::Bf16 => "bf16",
        }
    }

    /// What `auto` is.
    pub fn fastest(mode: BackboneMode) -> Compute {
        match (mode, Precision::fastest()) {
            (BackboneMode::Frozen | BackboneMode::Lora, Precision::Bf16) => Compute::Bf16,
            _ => Compute::F32,
        }
    }

    /// What a device packs frozen weights in.
    pub fn precision(self) -> Precision {
        match self {
            Compute::Auto | Compute::F32 => Precision::F32,
            Compute::Bf16 => Precision::Bf16,
        }
    }
}

impl Loss {
    /// The name in run files and adapters.
    pub fn name(self) -> &'static str {
        match self {
            Loss::Full => "full",
            Loss::Vocabulary => "vocabulary",
        }
    }
}

impl Metric {
    /// Whether less is better.
    pub fn is_better_small(self) -> bool {
        self == Metric::Perplexity
    }

    /// The name in run files, metrics and the output of the commands.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::MacroF1 => "macro_f1",
            Metric::PAt1 => "p_at_1",
            Metric::PAt10 => "p_at_10",
            Metric::Mrr => "mrr",
            Metric::Perplexity => "perplexity",
            Metric::ExactMatch => "exact_match",
        }
    }
}
