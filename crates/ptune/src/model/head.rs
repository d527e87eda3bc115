//! The language-model head: `logits = decoder(norm(activation(dense(h)))) + bias`, for the chosen columns only.

use ptune_kernels::Activation;

use super::load::Loader;
use super::spec::{HeadSpec, ModelSpec};
use crate::Result;
use crate::ops::{LayerNorm, Linear, NormSaved};
use crate::tensor::{Device, Tensor};

/// The head without its decoder.
pub(super) struct Head {
    dense: Linear,
    activation: Activation,
    norm: LayerNorm,
    /// `None` when the decoder is the word table.
    pub(super) decoder: Option<Tensor>,
    pub(super) decoder_bias: Tensor,
}

/// The columns of the decoder that a task needs, packed: its label words, or the whole vocabulary.
pub struct Columns {
    pub(super) decoder: Linear,
    count: usize,
}

impl Columns {
    pub(super) fn new(decoder: Linear, count: usize) -> Self {
        Columns { decoder, count }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// What the head's backward needs.
pub struct HeadSaved {
    dense: Tensor,
    norm: NormSaved,
}

impl Head {
    pub(super) fn load(loader: &mut Loader<'_>, spec: &HeadSpec, model: &ModelSpec) -> Result<Self> {
        let shape = [model.vocabulary, model.hidden];
        Ok(Head {
            dense: loader.linear(&spec.dense)?,
            activation: spec.activation,
            norm: loader.norm(&spec.norm, model.hidden)?,
            decoder: spec.decoder.as_ref().map(|name| loader.matrix(name, &shape)).transpose()?,
            decoder_bias: loader.matrix(&spec.decoder_bias, &[model.vocabulary])?,
        })
    }

    /// `h [targets, hidden] -> logits [targets, columns]`.
    pub(super) fn forward(&self, device: &Device, h: &Tensor, columns: &Columns) -> (Tensor, HeadSaved) {
        let dense = device.linear(h, &self.dense);
        let (normed, norm) = device.layer_norm(&device.activation(&dense, self.activation), None, &self.norm);
        (device.linear(&normed, &columns.decoder), HeadSaved { dense, norm })
    }

    /// `d_logits -> d_h`.
    pub(super) fn backward(&self, device: &Device, d_logits: &Tensor, saved: &HeadSaved, columns: &Columns) -> Tensor {
        let d_normed = device.linear_backward(d_logits, &columns.decoder);
        let d_act = device.layer_norm_backward(&d_normed, &saved.norm, &self.norm);
        let d_dense = device.activation_backward(&d_act, &saved.dense, self.activation);
        device.linear_backward(&d_dense, &self.dense)
    }
}
