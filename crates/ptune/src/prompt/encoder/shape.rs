//! Which networks there are, and their sizes: five published prompt encoders are all called "LSTM" and differ.
//!
//! With L prompt rows and embedding width d:
//!
//! | shapes | source | `mlp` | `lstm` |
//! |---|---|---|---|
//! | `lama` | P-tuning's LAMA code | linear d,d - relu - linear d,d | 2 layers, hidden d/2 - linear d,d - relu - linear d,d |
//! | `superglue` | P-tuning's few-shot code | as `lama` | 2 layers, hidden d - linear 2d,d - relu - linear d,d |
//! | `peft` | the PEFT library, `PromptEncoder` | linear d,h - relu - linear h,h - relu - linear h,d | n layers, hidden h - linear 2h,2h - relu - linear 2h,d |
//!
//! Hidden widths are those of one direction; linear pairs are inputs,outputs. h and n are free in `peft` alone, as
//! PEFT's `encoder_hidden_size` and `encoder_num_layers`; its defaults are d and 2.

use serde::{Deserialize, Serialize};

/// Which network computes the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderKind {
    /// A plain table.
    Embedding,
    /// A table and linear layers.
    Mlp,
    /// A table, a bidirectional LSTM and linear layers.
    Lstm,
}

/// Which published implementation the encoder's sizes follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shapes {
    /// The P-tuning authors' LAMA code: half the width a direction.
    Lama,
    /// The P-tuning authors' few-shot SuperGLUE code: the whole width a direction.
    Superglue,
    /// The PEFT library's `P_TUNING`: a hidden width of its own.
    Peft,
}

/// A prompt encoder but for its rows and their width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderShape {
    /// The network.
    pub kind: EncoderKind,
    /// Whose sizes it has.
    pub shapes: Shapes,
    /// `peft`: the hidden width h; the rows' width when `None`.
    pub hidden_size: Option<usize>,
    /// `peft`: the layers of the LSTM; 2 when `None`.
    pub layers: Option<usize>,
}

impl EncoderKind {
    /// The name in run files and adapters.
    pub fn name(self) -> &'static str {
        match self {
            EncoderKind::Embedding => "embedding",
            EncoderKind::Mlp => "mlp",
            EncoderKind::Lstm => "lstm",
        }
    }
}

impl Shapes {
    /// The name in run files and adapters.
    pub fn name(self) -> &'static str {
        match self {
            Shapes::Lama => "lama",
            Shapes::Superglue => "superglue",
            Shapes::Peft => "peft",
        }
    }
}

/// Layers of every LSTM whose source has no option for them, and of PEFT's by default.
const LSTM_LAYERS: usize = 2;

impl EncoderShape {
    /// A network in the shapes of the LAMA code.
    pub fn lama(kind: EncoderKind) -> Self {
        EncoderShape { kind, shapes: Shapes::Lama, hidden_size: None, layers: None }
    }

    /// Whether it can give rows of this width: the two directions of the `lama` LSTM make half a row each.
    pub fn fits(&self, width: usize) -> bool {
        (self.kind, self.shapes) != (EncoderKind::Lstm, Shapes::Lama) || width.is_multiple_of(2)
    }

    /// Hidden width a direction and layers of the LSTM, where there is one.
    pub(super) fn lstm(&self, width: usize) -> Option<(usize, usize)> {
        (self.kind == EncoderKind::Lstm).then(|| match self.shapes {
            Shapes::Lama => (width / 2, LSTM_LAYERS),
            Shapes::Superglue => (width, LSTM_LAYERS),
            Shapes::Peft => (self.hidden_size.unwrap_or(width), self.layers.unwrap_or(LSTM_LAYERS)),
        })
    }

    /// `(inputs, outputs)` of the linear layers, a relu between each two.
    pub(super) fn linears(&self, width: usize) -> Vec<(usize, usize)> {
        let hidden = self.hidden_size.unwrap_or(width);
        match (self.kind, self.shapes) {
            (EncoderKind::Embedding, _) => vec![],
            (_, Shapes::Lama) | (EncoderKind::Mlp, Shapes::Superglue) => vec![(width, width); 2],
            (EncoderKind::Lstm, Shapes::Superglue) => vec![(2 * width, width), (width, width)],
            (EncoderKind::Mlp, Shapes::Peft) => vec![(width, hidden), (hidden, hidden), (hidden, width)],
            (EncoderKind::Lstm, Shapes::Peft) => vec![(2 * hidden, 2 * hidden), (2 * hidden, width)],
        }
    }
}
