//! The language-model head: `logits = decoder(t) + bias`, for the chosen columns only; `t = norm(activation(dense(h)))`
//! where the head has such a transform, else `h`.

use ptune_kernels::Activation;

use super::layer::{Learned, Linear, Norm, Table};
use super::load::Loader;
use super::lora::LayerLora;
use super::spec::{HeadSpec, ModelSpec};
use crate::Result;
use crate::ops::{self, NormSaved};
use crate::parameter::Parameter;
use crate::tensor::{Device, Tensor};

/// The head without its decoder's packed columns.
pub(super) struct Head {
    transform: Option<Transform>,
    /// `None` when the decoder is the word table.
    decoder: Option<Table>,
    decoder_bias: Option<Table>,
}

/// What stands in front of the decoder.
struct Transform {
    dense: Linear,
    activation: Activation,
    norm: Norm,
}

/// The columns of the decoder that a task needs, packed: its label words, or the whole vocabulary.
pub struct Columns {
    /// `None`: the rows themselves, for a classifier.
    decoder: Option<ops::Linear>,
    /// The token id of each; `None` for the whole vocabulary in order.
    ids: Option<Vec<u32>>,
    count: usize,
}

impl Columns {
    /// No columns of a decoder: what comes out are the rows behind the last block and its norm, `hidden` numbers each.
    pub(super) fn of_rows(hidden: usize) -> Columns {
        Columns { decoder: None, ids: None, count: hidden }
    }

    /// Whether the rows themselves are asked for.
    pub(super) fn are_rows(&self) -> bool {
        self.decoder.is_none()
    }

    fn packed(&self) -> &ops::Linear {
        self.decoder.as_ref().expect("rows themselves go past the head")
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// What the head's backward needs: the activation's input and the norm's rows, where there is a transform.
#[derive(Default)]
pub struct HeadSaved {
    transform: Option<(Tensor, NormSaved)>,
    /// The inputs of the head and of the decoder, of a trained head.
    inputs: Option<(Tensor, Option<Tensor>)>,
}

impl Head {
    pub(super) fn load(loader: &mut Loader<'_>, spec: &HeadSpec, model: &ModelSpec) -> Result<Self> {
        let transform = match &spec.transform {
            Some(part) => {
                let dense = loader.linear(&part.dense)?;
                Some(Transform {
                    dense,
                    activation: part.activation,
                    norm: loader.norm(&part.norm, part.dense.outputs)?,
                })
            }
            None => None,
        };
        let inputs = spec.transform.as_ref().map_or(model.hidden, |part| part.dense.outputs);
        let decoder = spec.decoder.as_ref().map(|name| loader.table(name, &[model.vocabulary, inputs]));
        let decoder = decoder.transpose()?;
        let bias = spec.decoder_bias.as_ref().map(|name| loader.bias(name, model.vocabulary)).transpose()?;
        Ok(Head { transform, decoder, decoder_bias: bias })
    }

    /// Packs the decoder's columns for these token ids, or all of them. `words` is the word table.
    pub(super) fn columns(
        &self,
        device: &Device,
        ids: Option<&[u32]>,
        gradient: bool,
        words: &Table,
        parameters: &[Parameter],
    ) -> Columns {
        let decoder = self.decoder_table(words, parameters);
        let bias = self.decoder_bias.as_ref().map(|bias| bias.value(parameters));
        let count = ids.map_or(decoder.rows(), <[u32]>::len);
        let decoder = match ids {
            Some(ids) => device.pack_linear_rows(decoder, bias, ids, gradient),
            None => {
                let (outputs, inputs) = (decoder.rows(), decoder.columns());
                device.pack_linear(decoder.read(), bias.map(Tensor::read), outputs, inputs, gradient)
            }
        };
        Columns { decoder: Some(decoder), ids: ids.map(<[u32]>::to_vec), count }
    }

    /// `h [targets, hidden] -> logits [targets, columns]`; `keep` the inputs for the gradients of trained weights.
    pub(super) fn forward(&self, device: &Device, h: Tensor, columns: &Columns, keep: bool) -> (Tensor, HeadSaved) {
        let Some(part) = &self.transform else {
            let logits = device.linear(&h, columns.packed());
            return (logits, HeadSaved { transform: None, inputs: keep.then_some((h, None)) });
        };
        let dense = part.dense.forward(device, &h, &LayerLora::default());
        let (normed, norm) = part.norm.forward_narrow(device, &device.activation(&dense, part.activation));
        let logits = device.linear(&normed, columns.packed());
        (logits, HeadSaved { transform: Some((dense, norm)), inputs: keep.then_some((h, Some(normed))) })
    }

    /// `h [targets, hidden] -> t [targets, decoder's width]`, what the decoder reads.
    pub(super) fn decoder_rows(&self, device: &Device, h: Tensor) -> Tensor {
        let Some(part) = &self.transform else { return h };
        let dense = part.dense.forward(device, &h, &LayerLora::default());
        part.norm.forward(device, &device.activation(&dense, part.activation), None).0.exact
    }

    /// The decoder's rows `[vocabulary, decoder's width]`; `words` is the word table.
    pub(super) fn decoder_table<'a>(&'a self, words: &'a Table, parameters: &'a [Parameter]) -> &'a Tensor {
        self.decoder.as_ref().unwrap_or(words).value(parameters)
    }

    /// `d_logits -> d_h`, and the gradients of trained weights, that of the decoder overwritten: also where it is the
    /// word table `words`, to which the embedding adds later.
    pub(super) fn backward(
        &self,
        device: &Device,
        d_logits: &Tensor,
        saved: &HeadSaved,
        columns: &Columns,
        words: &Table,
        learned: &mut Learned<'_>,
    ) -> Tensor {
        let (h, normed) = saved.inputs.as_ref().map(|(h, normed)| (h, normed.as_ref())).unzip();
        if let Some(h) = h {
            let input = normed.flatten().unwrap_or(h);
            self.backward_decoder(device, d_logits, input, columns, words, learned.parameters);
        }
        let d_normed = device.linear_backward(d_logits, columns.packed());
        let (Some(part), Some((dense, norm))) = (&self.transform, &saved.transform) else { return d_normed };
        let d_active = part.norm.backward(device, &d_normed, None, norm, learned.parameters).exact;
        let d_dense = device.activation_backward(d_active, dense, part.activation);
        part.dense.backward(device, &d_dense, h, &LayerLora::default(), learned)
    }

    fn backward_decoder(
        &self,
        device: &Device,
        d_logits: &Tensor,
        input: &Tensor,
        columns: &Columns,
        words: &Table,
        parameters: &mut [Parameter],
    ) {
        let ids = columns.ids.as_deref();
        if self.decoder.is_some() {
            // The word table is the embedding's alone then, which adds.
            words.gradient(parameters).into_iter().for_each(|d_words| device.fill_zero(d_words));
        }
        if let Some(d_decoder) = self.decoder.as_ref().unwrap_or(words).gradient(parameters) {
            device.decoder_backward_weight(d_logits, input, ids, d_decoder);
        }
        if let Some(d_bias) = self.decoder_bias.as_ref().and_then(|bias| bias.gradient(parameters)) {
            device.decoder_backward_bias(d_logits, ids, d_bias);
        }
    }

    /// The numbers that stay, into `all`.
    pub(super) fn frozen<'a>(&'a self, all: &mut Vec<&'a [f32]>) {
        if let Some(part) = &self.transform {
            part.dense.frozen(all);
            part.norm.frozen(all);
        }
        [&self.decoder, &self.decoder_bias].into_iter().flatten().for_each(|table| table.frozen(all));
    }

    pub(super) fn repack(&mut self, device: &Device, parameters: &[Parameter]) {
        if let Some(part) = &mut self.transform {
            part.dense.repack(device, parameters);
            part.norm.repack(device, parameters);
        }
    }

    /// Packs columns anew from trained weights.
    pub(super) fn repack_columns(
        &self,
        device: &Device,
        columns: &mut Columns,
        words: &Table,
        parameters: &[Parameter],
    ) {
        let decoder = self.decoder_table(words, parameters);
        let bias = self.decoder_bias.as_ref().map(|bias| bias.value(parameters));
        match (&mut columns.decoder, &columns.ids) {
            (Some(packed), Some(ids)) => device.repack_linear_rows(packed, decoder, bias, ids),
            (Some(packed), None) => device.repack_linear(packed, decoder, bias),
            (None, _) => {}
        }
    }
}
