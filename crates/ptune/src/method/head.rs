//! From logits at the answer rows to a loss and to answers.
//!
//! With a verbalizer a label's score is the mean over its words, and the loss is the cross-entropy over labels. Words of
//! one token are scored by their raw logits, for which the logits have one column a word (spec: P-tuning section 4.2);
//! where a word has several tokens, all are scored by log-probabilities over the whole vocabulary
//! ([`crate::prompt::verbalizer`] says why), and an example has several answer rows. Probing scores the words of the whole
//! vocabulary; candidates restrict evaluation, and training too with `loss = "vocabulary"`. A text is scored token by token
//! over the whole vocabulary, and the loss is the mean over all tokens of the batch, ends of texts included (the mean that
//! transformers and PEFT take of labels that are not -100): a long answer weighs more than a short one. Of a
//! classifier (`classifier.rs`) the scores of the labels come as they are.

use std::sync::Arc;

use crate::checkpoint::Tokenizer;
use crate::model::spec::{ModelSpec, Pooling};
use crate::model::{Columns, Model};
use crate::ops::LogProbabilitiesSaved;
use crate::prompt::{AnswerForm, Verbalizer, Vocabulary};
use crate::tensor::{Device, Tensor};

/// What turns logits into answers.
#[derive(Clone)]
pub enum Head {
    /// Label words.
    Verbalizer(Verbalizer),
    /// Words of the vocabulary.
    Vocabulary {
        /// The tokens that may be answers; `None` for all.
        candidates: Option<Vocabulary>,
        /// Whether the loss sees the candidates only.
        restrict_loss: bool,
    },
    /// A trained classifier: these labels, whose scores stand in the place of logits.
    Classifier(Vec<String>),
    /// Any text, of a causal model.
    Text {
        /// The token that ends it.
        end: u32,
        /// Its most tokens, without that one.
        longest: usize,
        /// What its tokens mean.
        tokenizer: Arc<Tokenizer>,
    },
}

/// A loss and its gradient.
pub struct Loss {
    /// Mean over the examples, or over the tokens of their texts.
    pub mean: f64,
    /// Its gradient `[answer rows, columns]`.
    pub d_logits: Tensor,
}

impl Head {
    /// The rows that an example has for its answer.
    pub fn answer_form(&self, spec: &ModelSpec) -> AnswerForm {
        match self {
            Head::Verbalizer(verbalizer) => verbalizer.form().clone(),
            Head::Classifier(_) => match spec.classifier.pooling {
                Pooling::First => AnswerForm::First,
                Pooling::Last => AnswerForm::one_token(true),
                Pooling::Mean => AnswerForm::Every,
            },
            Head::Vocabulary { .. } => AnswerForm::one_token(spec.causal),
            Head::Text { longest, .. } => AnswerForm::Text { longest: *longest },
        }
    }

    /// The token ids of the logits' columns; `None` for the whole vocabulary in order. `training` needs the columns of
    /// the loss, otherwise those of the answers are enough.
    pub fn columns(&self, training: bool) -> Option<&[u32]> {
        match self {
            Head::Verbalizer(verbalizer) => verbalizer.columns(),
            Head::Vocabulary { restrict_loss: false, .. } if training => None,
            Head::Vocabulary { candidates, .. } => candidates.as_ref().map(Vocabulary::tokens),
            Head::Classifier(_) | Head::Text { .. } => None,
        }
    }

    /// The columns that it needs of a model; as [`Head::columns`].
    pub fn columns_of(&self, model: &Model, training: bool) -> Columns {
        match self {
            Head::Classifier(_) => model.row_columns(),
            _ => model.columns(self.columns(training), false),
        }
    }

    /// The labels of a classification, in order; `None` in probing, and of texts.
    pub fn labels(&self) -> Option<Vec<&str>> {
        match self {
            Head::Verbalizer(verbalizer) => Some(verbalizer.labels().iter().map(|label| label.name.as_str()).collect()),
            Head::Classifier(labels) => Some(labels.iter().map(String::as_str).collect()),
            Head::Vocabulary { .. } | Head::Text { .. } => None,
        }
    }

    /// The mean cross-entropy of `logits [answer rows, columns(training)]` against the `targets` of the examples (label
    /// indices, or token ids which must be candidates where the loss is restricted; of texts one for each answer row), and its
    /// gradient.
    pub fn loss(&self, device: &Device, logits: &Tensor, targets: &[u32]) -> Loss {
        match self {
            Head::Verbalizer(verbalizer) => {
                let read = read_words(device, verbalizer, logits);
                let scores = label_scores(device, verbalizer, read.values());
                let loss = cross_entropy(device, &scores, targets);
                let mut d_read = device.uninitialised(scores.rows(), verbalizer.reads().len());
                verbalizer.label_scores_backward(d_read.data_mut(), loss.d_logits.read());
                let d_logits = match &read {
                    Words::Logits(_) => d_read,
                    Words::LogProbabilities(_, saved) => device.log_probabilities_backward(&d_read, logits, saved),
                };
                Loss { mean: loss.mean, d_logits }
            }
            Head::Vocabulary { candidates: Some(vocabulary), restrict_loss: true } => {
                // Targets outside the candidates are dropped when data is read.
                let column = |token: &u32| vocabulary.column(*token).expect("targets are candidates") as u32;
                cross_entropy(device, logits, &targets.iter().map(column).collect::<Vec<_>>())
            }
            Head::Vocabulary { .. } | Head::Text { .. } | Head::Classifier(_) => cross_entropy(device, logits, targets),
        }
    }

    /// The scores of the answers: `[examples, labels]` (the mean of each label's words), or `[examples, candidates]`.
    /// `columns` are the token ids of the logits' columns, `None` for the whole vocabulary. Of texts: those of the next
    /// token.
    pub fn scores(&self, device: &Device, logits: &Tensor, columns: Option<&[u32]>) -> Tensor {
        match self {
            Head::Verbalizer(verbalizer) => {
                label_scores(device, verbalizer, read_words(device, verbalizer, logits).values())
            }
            Head::Vocabulary { candidates: Some(vocabulary), .. } if columns.is_none() => {
                let ids = vocabulary.tokens();
                let rows = logits.read().chunks_exact(logits.columns());
                let chosen: Vec<f32> = rows.flat_map(|row| ids.iter().map(|&id| row[id as usize])).collect();
                device.upload(logits.rows(), ids.len(), &chosen)
            }
            Head::Vocabulary { .. } | Head::Text { .. } | Head::Classifier(_) => device.copy(logits),
        }
    }
}

/// What a verbalizer reads, `[examples, reads]`.
enum Words<'a> {
    /// The logits themselves: every word is one token.
    Logits(&'a Tensor),
    /// Log-probabilities, and what their backward needs.
    LogProbabilities(Tensor, LogProbabilitiesSaved),
}

impl Words<'_> {
    fn values(&self) -> &Tensor {
        match self {
            Words::Logits(logits) => logits,
            Words::LogProbabilities(values, _) => values,
        }
    }
}

fn read_words<'a>(device: &Device, verbalizer: &Verbalizer, logits: &'a Tensor) -> Words<'a> {
    if verbalizer.columns().is_some() {
        return Words::Logits(logits);
    }
    let rows = verbalizer.form().rows();
    let examples = logits.rows() / rows;
    let reads_of = |example| {
        let first_row = (example * rows) as u32;
        verbalizer.reads().iter().map(move |read| (first_row + read.row, read.token))
    };
    let places = (0..examples).flat_map(reads_of).collect();
    let (values, saved) = device.log_probabilities(logits, places, verbalizer.reads().len());
    Words::LogProbabilities(values, saved)
}

/// `[examples, labels]`: the mean of each label's words.
fn label_scores(device: &Device, verbalizer: &Verbalizer, read: &Tensor) -> Tensor {
    let mut scores = device.uninitialised(read.rows(), verbalizer.labels().len());
    verbalizer.label_scores(scores.data_mut(), read.read());
    scores
}

fn cross_entropy(device: &Device, logits: &Tensor, targets: &[u32]) -> Loss {
    let (losses, saved) = device.cross_entropy(logits, targets);
    let rows = logits.rows();
    let mean = losses.read().iter().map(|&l| f64::from(l)).sum::<f64>() / rows as f64;
    Loss { mean, d_logits: device.cross_entropy_backward(logits, &saved, 1.0 / rows as f32) }
}

#[cfg(test)]
mod tests;
