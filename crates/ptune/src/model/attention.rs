//! Multi-head attention: `out = output(softmax(scale q k^T) v)`, each row over the rows that it sees. What may happen to
//! queries and keys before, by head and by position, is in `heads.rs`.

use std::borrow::Cow;
use std::sync::Arc;

use ptune_kernels::{AttentionShape, Dtype};

use super::heads::Heads;
use super::layer::{Learned, Linear};
use super::load::Loader;
use super::lora::{BlockLora, LayerLora, Projection};
use super::past::BlockPast;
use super::spec::AttentionSpec;
use crate::Result;
use crate::ops::{self, AttentionGradients, KeysValues, Layout, NormSaved, Rotary};
use crate::parameter::Parameter;
use crate::tensor::{Device, Tensor};

pub(super) struct Attention {
    shape: AttentionShape,
    query: Linear,
    key: Linear,
    query_heads: Heads,
    key_heads: Heads,
    value: Linear,
    output: Linear,
}

/// What the backward needs.
pub(super) struct AttentionSaved {
    rows: ops::AttentionSaved,
    /// Of the norms over the heads of queries and keys.
    norms: [Option<NormSaved>; 2],
    /// The input of the output projection, where that is trained.
    heads: Option<Tensor>,
}

/// The inputs of the projections: `x` of keys and values, `queries` of the queries where they are only some of the rows.
/// Kept where one of these is trained.
pub(super) struct AttentionInputs {
    pub(super) x: Tensor,
    pub(super) queries: Option<Tensor>,
}

impl AttentionSaved {
    pub(super) fn into_keys_values(self) -> KeysValues {
        self.rows.into_keys_values()
    }
}

/// The dtype of queries, keys and values. In bf16 each head begins with a pair of numbers; one of an odd width does not:
/// then all is f32 between the projections.
pub(super) fn attention_dtype(device: &Device, head_dim: usize) -> Dtype {
    if head_dim.is_multiple_of(2) { device.narrow() } else { Dtype::F32 }
}

impl Attention {
    pub(super) fn load(loader: &mut Loader<'_>, spec: &AttentionSpec, rotary: Option<Arc<Rotary>>) -> Result<Self> {
        let shape = AttentionShape {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            scale: spec.scale,
            causal: spec.causal,
            window: spec.window,
        };
        let (query, key) = (loader.linear(&spec.query)?, loader.linear(&spec.key)?);
        let (value, output) = (loader.linear(&spec.value)?, loader.linear(&spec.output)?);
        let [query_heads, key_heads] = Heads::load(loader, spec, rotary)?;
        Ok(Attention { shape, query, key, query_heads, key_heads, value, output })
    }

    /// `x [rows, hidden]`; queries `x_queries [queries, hidden]` stand in the rows `query_rows` -> `[queries, hidden]`.
    /// `past` is what stands before the batch's rows; `layer` names the probabilities that dropout drops.
    pub(super) fn forward(
        &self,
        device: &Device,
        layer: usize,
        x: &Tensor,
        x_queries: &Tensor,
        past: Option<&KeysValues>,
        layout: &Layout,
        [all_rows, query_rows]: [&[u32]; 2],
        lora: BlockLora<'_>,
    ) -> (Tensor, AttentionSaved) {
        let (exact, to_query) = (self.query_heads.reads_exact(), lora.to(Projection::Query, query_rows));
        let q = self.project(device, &self.query, x_queries, &to_query, exact);
        let (q, q_norm) = self.query_heads.forward(device, q, &positions_of(layout, query_rows));
        let (kv, k_norm) = self.project_keys_values(device, x, layout, all_rows, lora);
        let (k, v) = (kv.k, kv.v);
        let (heads, rows) = device.attention((q, k, v), past, layout, query_rows, &self.shape, layer as u32);
        let to_output = lora.to(Projection::Output, query_rows);
        let y = self.output.forward(device, &heads, &to_output);
        let heads = self.output.needs_input(&to_output).then_some(heads);
        (y, AttentionSaved { rows, norms: [q_norm, k_norm], heads })
    }

    /// The gradients of `x_queries [queries, hidden]` and of `x` through keys and values, the latter only at
    /// `wanted` (all rows when `None`; neither where no row is wanted), and that of the past when it is trained.
    pub(super) fn backward(
        &self,
        device: &Device,
        layer: usize,
        d_out: &Tensor,
        (saved, inputs): (&AttentionSaved, Option<&AttentionInputs>),
        past: BlockPast<'_>,
        layout: &Layout,
        [all_rows, query_rows]: [&[u32]; 2],
        wanted: Option<&[u32]>,
        lora: BlockLora<'_>,
        learned: &mut Learned<'_>,
    ) -> (Option<(Tensor, Tensor)>, Option<KeysValues>) {
        let back = if self.is_narrow(device) { Linear::backward_narrow } else { Linear::backward };
        let to_output = lora.to(Projection::Output, query_rows);
        let d_heads = back(&self.output, device, d_out, saved.heads.as_ref(), &to_output, learned);
        let (shape, layer) = (&self.shape, layer as u32);
        let AttentionGradients { d_q, d_k, mut d_v, d_past } =
            device.attention_backward(&d_heads, &saved.rows, past.rows, past.trained, layout, query_rows, shape, layer);
        let [q_norm, k_norm] = saved.norms.each_ref().map(Option::as_ref);
        let at = positions_of(layout, query_rows);
        let d_q = self.query_heads.backward(device, d_q, &at, q_norm, learned.parameters);
        let mut d_k = self.key_heads.backward(device, d_k, &layout.positions, k_norm, learned.parameters);
        let x = inputs.map(|inputs| &inputs.x);
        let x_queries = inputs.map(|inputs| inputs.queries.as_ref().unwrap_or(&inputs.x));
        let to_query = lora.to(Projection::Query, query_rows);
        let to_keys_values = |rows: &[u32]| [Projection::Key, Projection::Value].map(|which| lora.to(which, rows));
        let [to_key, to_value] = to_keys_values(all_rows);
        self.query.backward_weight(device, &d_q, x_queries, &to_query, learned);
        self.key.backward_weight(device, &d_k, x, &to_key, learned);
        self.value.backward_weight(device, &d_v, x, &to_value, learned);
        if let Some(rows) = wanted {
            if rows.is_empty() {
                return (None, d_past);
            }
            d_k = device.gather_rows(&d_k, rows);
            d_v = device.gather_rows(&d_v, rows);
        }
        let [to_key, to_value] = to_keys_values(wanted.unwrap_or(all_rows));
        let mut d_x = self.key.backward_input(device, &d_k, &to_key);
        self.value.backward_input_add(device, &mut d_x, &d_v, &to_value);
        (Some((self.query.backward_input(device, &d_q, &to_query), d_x)), d_past)
    }

    /// The keys and values of `x [rows, hidden]` alone.
    pub(super) fn keys_values(
        &self,
        device: &Device,
        x: &Tensor,
        layout: &Layout,
        all_rows: &[u32],
        lora: BlockLora<'_>,
    ) -> KeysValues {
        self.project_keys_values(device, x, layout, all_rows, lora).0
    }

    fn project_keys_values(
        &self,
        device: &Device,
        x: &Tensor,
        layout: &Layout,
        all_rows: &[u32],
        lora: BlockLora<'_>,
    ) -> (KeysValues, Option<NormSaved>) {
        let [to_key, to_value] = [Projection::Key, Projection::Value].map(|which| lora.to(which, all_rows));
        let k = self.project(device, &self.key, x, &to_key, self.key_heads.reads_exact());
        let (k, norm) = self.key_heads.forward(device, k, &layout.positions);
        (KeysValues { k, v: self.project(device, &self.value, x, &to_value, false) }, norm)
    }

    /// `exact` asks for f32 whatever the attention reads.
    fn project(&self, device: &Device, layer: &Linear, x: &Tensor, lora: &LayerLora<'_>, exact: bool) -> Tensor {
        if self.is_narrow(device) && !exact {
            layer.forward_narrow(device, x, lora)
        } else {
            layer.forward(device, x, lora)
        }
    }

    /// Whether queries, keys and values are bf16.
    fn is_narrow(&self, device: &Device) -> bool {
        attention_dtype(device, self.shape.head_dim) == Dtype::Bf16
    }

    pub(super) fn repack(&mut self, device: &Device, parameters: &[Parameter]) {
        for layer in [&mut self.query, &mut self.key, &mut self.value, &mut self.output] {
            layer.repack(device, parameters);
        }
        for heads in [&mut self.query_heads, &mut self.key_heads] {
            heads.repack(device, parameters);
        }
    }

    /// The numbers that stay, into `all`.
    pub(super) fn frozen<'a>(&'a self, all: &mut Vec<&'a [f32]>) {
        [&self.query, &self.key, &self.value, &self.output].iter().for_each(|layer| layer.frozen(all));
        [&self.query_heads, &self.key_heads].iter().for_each(|heads| heads.frozen(all));
    }

    /// Whether the inputs of queries, keys and values must be kept.
    pub(super) fn needs_inputs(&self, lora: BlockLora<'_>, all_rows: &[u32]) -> bool {
        let layers = [(Projection::Query, &self.query), (Projection::Key, &self.key), (Projection::Value, &self.value)];
        layers.into_iter().any(|(which, layer)| layer.needs_input(&lora.to(which, all_rows)))
    }
}

/// The positions of the rows that have a query.
fn positions_of<'a>(layout: &'a Layout, query_rows: &[u32]) -> Cow<'a, [u32]> {
    if query_rows.len() == layout.rows() {
        return Cow::Borrowed(&layout.positions);
    }
    query_rows.iter().map(|row| layout.positions[*row as usize]).collect()
}
