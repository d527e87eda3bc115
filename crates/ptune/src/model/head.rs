//! The language-model head: `logits = decoder(t) + bias`, for the chosen columns only; `t = norm(activation(dense(h)))`
//! where the head has such a transform, else `h`.

use ptune_kernels::Activation;

use super::load::Loader;
use super::spec::{HeadSpec, ModelSpec};
use crate::Result;
use crate::ops::{LayerNorm, Linear, NormSaved};
use crate::tensor::{Device, Tensor};

/// The head without its decoder's packed columns.
pub(super) struct Head {
    transform: Option<Transform>,
    /// `None` when the decoder is the word table.
    pub(super) decoder: Option<Tensor>,
    pub(super) decoder_bias: Option<Tensor>,
}

/// What stands in front of the decoder.
struct Transform {
    dense: Linear,
    activation: Activation,
    norm: LayerNorm,
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

/// What the head's backward needs: the activation's input and the norm's rows, where there is a transform.
pub struct HeadSaved(Option<(Tensor, NormSaved)>);

impl Head {
    pub(super) fn load(loader: &mut Loader<'_>, spec: &HeadSpec, model: &ModelSpec) -> Result<Self> {
        let transform = match &spec.transform {
            Some(part) => {
                let dense = loader.linear(&part.dense)?;
                Some(Transform { dense, activation: part.activation, norm: loader.norm(&part.norm, model.hidden)? })
            }
            None => None,
        };
        let mut tensor =
            |name: &Option<String>, shape: &[usize]| name.as_ref().map(|name| loader.matrix(name, shape)).transpose();
        Ok(Head {
            transform,
            decoder: tensor(&spec.decoder, &[model.vocabulary, model.hidden])?,
            decoder_bias: tensor(&spec.decoder_bias, &[model.vocabulary])?,
        })
    }

    /// `h [targets, hidden] -> logits [targets, columns]`.
    pub(super) fn forward(&self, device: &Device, h: &Tensor, columns: &Columns) -> (Tensor, HeadSaved) {
        let Some(part) = &self.transform else { return (device.linear(h, &columns.decoder), HeadSaved(None)) };
        let dense = device.linear(h, &part.dense);
        let (normed, norm) = device.layer_norm(&device.activation(&dense, part.activation), None, &part.norm);
        (device.linear(&normed, &columns.decoder), HeadSaved(Some((dense, norm))))
    }

    /// `d_logits -> d_h`.
    pub(super) fn backward(&self, device: &Device, d_logits: &Tensor, saved: &HeadSaved, columns: &Columns) -> Tensor {
        let d_normed = device.linear_backward(d_logits, &columns.decoder);
        let (Some(part), Some((dense, norm))) = (&self.transform, &saved.0) else { return d_normed };
        let d_act = device.layer_norm_backward(&d_normed, norm, &part.norm);
        let d_dense = device.activation_backward(&d_act, dense, part.activation);
        device.linear_backward(&d_dense, &part.dense)
    }
}
