//! From logits at the answer rows to a loss and to answers.
//!
//! With a verbalizer the logits have one column a label word; a label's score is the mean of its words' raw logits and
//! the loss is the cross-entropy over labels (spec: P-tuning section 4.2). Probing scores the words of the whole
//! vocabulary; candidates restrict evaluation, and training too with `loss = "vocabulary"`.

use crate::prompt::{Verbalizer, Vocabulary};
use crate::tensor::{Device, Tensor};

/// What turns logits into answers.
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
}

/// A loss and its gradient.
pub struct Loss {
    /// Mean over the rows.
    pub mean: f64,
    /// Its gradient `[rows, columns]`.
    pub d_logits: Tensor,
}

impl Head {
    /// The token ids of the logits' columns; `None` for the whole vocabulary in order. `training` needs the columns of
    /// the loss, otherwise those of the answers are enough.
    pub fn columns(&self, training: bool) -> Option<&[u32]> {
        match self {
            Head::Verbalizer(verbalizer) => Some(verbalizer.columns()),
            Head::Vocabulary { restrict_loss: false, .. } if training => None,
            Head::Vocabulary { candidates, .. } => candidates.as_ref().map(Vocabulary::tokens),
        }
    }

    /// The mean cross-entropy of `logits [rows, columns(training)]` against `targets` (label indices, or token ids
    /// which must be candidates where the loss is restricted), and its gradient.
    pub fn loss(&self, device: &Device, logits: &Tensor, targets: &[u32]) -> Loss {
        match self {
            Head::Verbalizer(verbalizer) => {
                let scores = label_scores(device, verbalizer, logits);
                let loss = cross_entropy(device, &scores, targets);
                let mut d_logits = device.uninitialised(logits.rows(), logits.columns());
                verbalizer.label_scores_backward(d_logits.data_mut(), loss.d_logits.read());
                Loss { mean: loss.mean, d_logits }
            }
            Head::Vocabulary { candidates: Some(vocabulary), restrict_loss: true } => {
                // Targets outside the candidates are dropped when data is read.
                let column = |token: &u32| vocabulary.column(*token).expect("targets are candidates") as u32;
                cross_entropy(device, logits, &targets.iter().map(column).collect::<Vec<_>>())
            }
            Head::Vocabulary { .. } => cross_entropy(device, logits, targets),
        }
    }

    /// The scores of the answers: `[rows, labels]` (the mean of each label's words), or `[rows, candidates]`.
    /// `columns` are the token ids of the logits' columns, `None` for the whole vocabulary.
    pub fn scores(&self, device: &Device, logits: &Tensor, columns: Option<&[u32]>) -> Tensor {
        match self {
            Head::Verbalizer(verbalizer) => label_scores(device, verbalizer, logits),
            Head::Vocabulary { candidates: Some(vocabulary), .. } if columns.is_none() => {
                let ids = vocabulary.tokens();
                let rows = logits.read().chunks_exact(logits.columns());
                let chosen: Vec<f32> = rows.flat_map(|row| ids.iter().map(|&id| row[id as usize])).collect();
                device.upload(logits.rows(), ids.len(), &chosen)
            }
            Head::Vocabulary { .. } => device.copy(logits),
        }
    }
}

/// `[rows, labels]`: the mean of each label's words.
fn label_scores(device: &Device, verbalizer: &Verbalizer, logits: &Tensor) -> Tensor {
    let mut scores = device.uninitialised(logits.rows(), verbalizer.labels().len());
    verbalizer.label_scores(scores.data_mut(), logits.read());
    scores
}

fn cross_entropy(device: &Device, logits: &Tensor, targets: &[u32]) -> Loss {
    let (losses, saved) = device.cross_entropy(logits, targets);
    let rows = logits.rows();
    let mean = losses.read().iter().map(|&l| f64::from(l)).sum::<f64>() / rows as f64;
    Loss { mean, d_logits: device.cross_entropy_backward(logits, &saved, 1.0 / rows as f32) }
}
