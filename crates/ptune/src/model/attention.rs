//! Multi-head attention: `out = output(softmax(scale q k^T) v)`, each row over the rows that it sees.

use ptune_kernels::AttentionShape;

use super::load::Loader;
use super::spec::AttentionSpec;
use crate::Result;
use crate::ops::{AttentionSaved, Layout, Linear};
use crate::tensor::{Device, Tensor};

pub(super) struct Attention {
    shape: AttentionShape,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl Attention {
    pub(super) fn load(loader: &mut Loader<'_>, spec: &AttentionSpec) -> Result<Self> {
        let shape = AttentionShape {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            scale: spec.scale,
            causal: spec.causal,
            window: None,
        };
        Ok(Attention {
            shape,
            query: loader.linear(&spec.query)?,
            key: loader.linear(&spec.key)?,
            value: loader.linear(&spec.value)?,
            output: loader.linear(&spec.output)?,
        })
    }

    /// `x [rows, hidden]`; queries `x_queries [queries, hidden]` stand in the rows `query_rows` -> `[queries, hidden]`.
    pub(super) fn forward(
        &self,
        device: &Device,
        x: &Tensor,
        x_queries: &Tensor,
        layout: &Layout,
        query_rows: &[u32],
    ) -> (Tensor, AttentionSaved) {
        let q = device.linear(x_queries, &self.query);
        let k = device.linear(x, &self.key);
        let v = device.linear(x, &self.value);
        let (heads, saved) = device.attention((q, k, v), layout, query_rows, &self.shape);
        (device.linear(&heads, &self.output), saved)
    }

    /// The gradients of `x_queries [queries, hidden]` and of `x` through keys and values, the latter only at
    /// `wanted` (all rows when `None`).
    pub(super) fn backward(
        &self,
        device: &Device,
        d_out: &Tensor,
        saved: &AttentionSaved,
        layout: &Layout,
        query_rows: &[u32],
        wanted: Option<&[u32]>,
    ) -> (Tensor, Tensor) {
        let d_heads = device.linear_backward(d_out, &self.output);
        let (d_q, mut d_k, mut d_v) = device.attention_backward(&d_heads, saved, layout, query_rows, &self.shape);
        if let Some(rows) = wanted {
            d_k = device.gather_rows(&d_k, rows);
            d_v = device.gather_rows(&d_v, rows);
        }
        let mut d_x = device.linear_backward(&d_k, &self.key);
        device.linear_backward_add(&mut d_x, &d_v, &self.value);
        (device.linear_backward(&d_q, &self.query), d_x)
    }
}
