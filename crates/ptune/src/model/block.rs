//! One transformer block: attention and MLP joined by residuals and norms.
//!
//! A block reads all rows of the batch but may be asked for some of them only: the last block computes its queries,
//! MLP and output for the answer rows alone, and the first block's backward gives the gradient of the pseudo-token
//! rows alone.

use super::attention::Attention;
use super::load::Loader;
use super::mlp::Mlp;
use super::spec::{BlockSpec, Join};
use crate::Result;
use crate::ops::{AttentionSaved, LayerNorm, Layout, NormSaved};
use crate::tensor::{Device, Tensor};

pub(super) struct Block {
    join: Join,
    attention: Attention,
    attention_norm: LayerNorm,
    mlp: Mlp,
    mlp_norm: LayerNorm,
}

/// What a block's backward needs.
pub(super) struct BlockSaved {
    attention: AttentionSaved,
    attention_norm: NormSaved,
    mlp_up: Tensor,
    mlp_norm: NormSaved,
    /// The rows that were computed; `None` for all.
    queries: Option<Vec<u32>>,
}

impl Block {
    pub(super) fn load(loader: &mut Loader<'_>, spec: &BlockSpec, hidden: usize) -> Result<Self> {
        Ok(Block {
            join: spec.join,
            attention: Attention::load(loader, &spec.attention)?,
            attention_norm: loader.norm(&spec.attention_norm, hidden)?,
            mlp: Mlp::load(loader, &spec.mlp)?,
            mlp_norm: loader.norm(&spec.mlp_norm, hidden)?,
        })
    }

    /// `x [rows, hidden]` -> the block's output at `queries` (at all rows when `None`).
    pub(super) fn forward(
        &self,
        device: &Device,
        x: &Tensor,
        layout: &Layout,
        all_rows: &[u32],
        queries: Option<&[u32]>,
    ) -> (Tensor, BlockSaved) {
        let chosen = queries.map(|rows| device.gather_rows(x, rows));
        let x_queries = chosen.as_ref().unwrap_or(x);
        let query_rows = queries.unwrap_or(all_rows);
        let queries = queries.map(<[u32]>::to_vec);
        match self.join {
            Join::Post => {
                let (a, attention) = self.attention.forward(device, x, x_queries, layout, query_rows);
                let (h, attention_norm) = device.layer_norm(&a, Some(x_queries), &self.attention_norm);
                let (m, mlp_up) = self.mlp.forward(device, &h);
                let (y, mlp_norm) = device.layer_norm(&m, Some(&h), &self.mlp_norm);
                (y, BlockSaved { attention, attention_norm, mlp_up, mlp_norm, queries })
            }
            Join::Pre => {
                let (n, attention_norm) = device.layer_norm(x, None, &self.attention_norm);
                let chosen = queries.as_ref().map(|rows| device.gather_rows(&n, rows));
                let n_queries = chosen.as_ref().unwrap_or(&n);
                let (mut h, attention) = self.attention.forward(device, &n, n_queries, layout, query_rows);
                device.add(&mut h, x_queries);
                let (n, mlp_norm) = device.layer_norm(&h, None, &self.mlp_norm);
                let (mut y, mlp_up) = self.mlp.forward(device, &n);
                device.add(&mut y, &h);
                (y, BlockSaved { attention, attention_norm, mlp_up, mlp_norm, queries })
            }
        }
    }

    /// `d_y [queries, hidden]` -> `d_x` at the rows `wanted` (at all rows when `None`).
    pub(super) fn backward(
        &self,
        device: &Device,
        d_y: &Tensor,
        saved: &BlockSaved,
        layout: &Layout,
        all_rows: &[u32],
        wanted: Option<&[u32]>,
    ) -> Tensor {
        let queries = saved.queries.as_deref();
        let query_rows = queries.unwrap_or(all_rows);
        let attention_backward =
            |d_a: &Tensor| self.attention.backward(device, d_a, &saved.attention, layout, query_rows, wanted);
        match self.join {
            Join::Post => {
                let d_m = device.layer_norm_backward(d_y, &saved.mlp_norm, &self.mlp_norm);
                let mut d_h = self.mlp.backward(device, &d_m, &saved.mlp_up);
                device.add(&mut d_h, &d_m);
                // The gradient of the attention's output and of the residual x.
                let d_a = device.layer_norm_backward(&d_h, &saved.attention_norm, &self.attention_norm);
                let (mut d_queries, mut d_x) = attention_backward(&d_a);
                device.add(&mut d_queries, &d_a);
                add_queries(device, &mut d_x, &d_queries, queries, wanted, layout.rows());
                d_x
            }
            Join::Pre => {
                let d_n = self.mlp.backward(device, d_y, &saved.mlp_up);
                let mut d_h = device.layer_norm_backward(&d_n, &saved.mlp_norm, &self.mlp_norm);
                device.add(&mut d_h, d_y);
                let (d_queries, mut d_n) = attention_backward(&d_h);
                add_queries(device, &mut d_n, &d_queries, queries, wanted, layout.rows());
                let chosen = wanted.map(|rows| device.gather_saved(&saved.attention_norm, rows));
                let norm = chosen.as_ref().unwrap_or(&saved.attention_norm);
                let mut d_x = device.layer_norm_backward(&d_n, norm, &self.attention_norm);
                // The residual.
                add_queries(device, &mut d_x, &d_h, queries, wanted, layout.rows());
                d_x
            }
        }
    }
}

/// Adds `d_queries`, which stand at `queries`, to `d_x`, which stands at `wanted`; `None` means all of the `rows` rows.
fn add_queries(
    device: &Device,
    d_x: &mut Tensor,
    d_queries: &Tensor,
    queries: Option<&[u32]>,
    wanted: Option<&[u32]>,
    rows: usize,
) {
    match (queries, wanted) {
        (None, None) => device.add(d_x, d_queries),
        (Some(queries), None) => device.scatter_rows_add(d_x, d_queries, queries),
        (None, Some(wanted)) => device.add(d_x, &device.gather_rows(d_queries, wanted)),
        (Some(queries), Some(wanted)) => {
            let spread = device.scatter_rows(d_queries, queries, rows);
            device.add(d_x, &device.gather_rows(&spread, wanted));
        }
    }
}
