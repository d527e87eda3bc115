//! Multi-head attention: `out = output(softmax(scale q k^T) v)`, each row over the rows that it sees. What may happen to
//! queries and keys before, by head and by position, is in `heads.rs`.

use std::borrow::Cow;
use std::sync::Arc;

use ptune_kernels::{AttentionShape, Dtype};

use super::heads::Heads;
use super::layer::Linear;
use super::load::Loader;
use super::lora::{Additions, Projection};
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
        query_rows: &[u32],
    ) -> (Tensor, AttentionSaved) {
        let q = self.project(device, &self.query, x_queries, self.query_heads.reads_exact());
        let (q, q_norm) = self.query_heads.forward(device, q, &positions_of(layout, query_rows));
        let (kv, k_norm) = self.project_keys_values(device, x, layout);
        let (k, v) = (kv.k, kv.v);
        let (heads, rows) = device.attention((q, k, v), past, layout, query_rows, &self.shape, layer as u32);
        let y = self.output.forward(device, &heads);
        (y, AttentionSaved { rows, norms: [q_norm, k_norm], heads: self.output.needs_input().then_some(heads) })
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
        query_rows: &[u32],
        wanted: Option<&[u32]>,
        parameters: &mut [Parameter],
    ) -> (Option<(Tensor, Tensor)>, Option<KeysValues>) {
        let back = if self.is_narrow(device) { Linear::backward_narrow } else { Linear::backward };
        let d_heads = back(&self.output, device, d_out, saved.heads.as_ref(), parameters);
        let (shape, layer) = (&self.shape, layer as u32);
        let AttentionGradients { d_q, d_k, mut d_v, d_past } =
            device.attention_backward(&d_heads, &saved.rows, past.rows, past.trained, layout, query_rows, shape, layer);
        let [q_norm, k_norm] = saved.norms.each_ref().map(Option::as_ref);
        let at = positions_of(layout, query_rows);
        let d_q = self.query_heads.backward(device, d_q, &at, q_norm, parameters);
        let mut d_k = self.key_heads.backward(device, d_k, &layout.positions, k_norm, parameters);
        let x = inputs.map(|inputs| &inputs.x);
        let x_queries = inputs.map(|inputs| inputs.queries.as_ref().unwrap_or(&inputs.x));
        self.query.backward_weight(device, &d_q, x_queries, parameters);
        self.key.backward_weight(device, &d_k, x, parameters);
        self.value.backward_weight(device, &d_v, x, parameters);
        if let Some(rows) = wanted {
            if rows.is_empty() {
                return (None, d_past);
            }
            d_k = device.gather_rows(&d_k, rows);
            d_v = device.gather_rows(&d_v, rows);
        }
        let mut d_x = self.key.backward_input(device, &d_k);
        self.value.backward_input_add(device, &mut d_x, &d_v);
        (Some((self.query.backward_input(device, &d_q), d_x)), d_past)
    }

    /// The keys and values of `x [rows, hidden]` alone.
    pub(super) fn keys_values(&self, device: &Device, x: &Tensor, layout: &Layout) -> KeysValues {
        self.project_keys_values(device, x, layout).0
    }

    fn project_keys_values(&self, device: &Device, x: &Tensor, layout: &Layout) -> (KeysValues, Option<NormSaved>) {
        let k = self.project(device, &self.key, x, self.key_heads.reads_exact());
        let (k, norm) = self.key_heads.forward(device, k, &layout.positions);
        (KeysValues { k, v: self.project(device, &self.value, x, false) }, norm)
    }

    /// `exact` asks for f32 whatever the attention reads.
    fn project(&self, device: &Device, layer: &Linear, x: &Tensor, exact: bool) -> Tensor {
        if self.is_narrow(device) && !exact { layer.forward_narrow(device, x) } else { layer.forward(device, x) }
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
    pub(super) fn needs_inputs(&self) -> bool {
        [&self.query, &self.key, &self.value].iter().any(|layer| layer.needs_input())
    }

    /// Gives the projections their low-rank additions.
    pub(super) fn add_low_rank(&mut self, additions: &mut Additions<'_>, spec: &AttentionSpec) -> Result<()> {
        additions.add(Projection::Query, &mut self.query, &spec.query)?;
        additions.add(Projection::Key, &mut self.key, &spec.key)?;
        additions.add(Projection::Value, &mut self.value, &spec.value)?;
        additions.add(Projection::Output, &mut self.output, &spec.output)
    }
}

/// The positions of the rows that have a query.
fn positions_of<'a>(layout: &'a Layout, query_rows: &[u32]) -> Cow<'a, [u32]> {
    if query_rows.len() == layout.rows() {
        return Cow::Borrowed(&layout.positions);
    }
    query_rows.iter().map(|row| layout.positions[*row as usize]).collect()
}
