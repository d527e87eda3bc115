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
        let (a, attention) = self.attention.forward(device, x, x_queries, layout, queries.unwrap_or(all_rows));
        match self.join {
            Join::Post => {
                let (h, attention_norm) = device.layer_norm(&a, Some(x_queries), &self.attention_norm);
                let (m, mlp_up) = self.mlp.forward(device, &h);
                let (y, mlp_norm) = device.layer_norm(&m, Some(&h), &self.mlp_norm);
                let queries = queries.map(<[u32]>::to_vec);
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
        // d_r is the gradient of `a` and of the residual `x_queries`.
        let d_r = match self.join {
            Join::Post => {
                let d_m = device.layer_norm_backward(d_y, &saved.mlp_norm, &self.mlp_norm);
                let mut d_h = self.mlp.backward(device, &d_m, &saved.mlp_up);
                device.add(&mut d_h, &d_m);
                device.layer_norm_backward(&d_h, &saved.attention_norm, &self.attention_norm)
            }
        };
        let query_rows = queries.unwrap_or(all_rows);
        let (mut d_queries, mut d_x) =
            self.attention.backward(device, &d_r, &saved.attention, layout, query_rows, wanted);
        device.add(&mut d_queries, &d_r);
        match (queries, wanted) {
            (None, None) => device.add(&mut d_x, &d_queries),
            (Some(rows), None) => device.scatter_rows_add(&mut d_x, &d_queries, rows),
            (None, Some(rows)) => device.add(&mut d_x, &device.gather_rows(&d_queries, rows)),
            (Some(rows), Some(wanted)) => {
                let spread = device.scatter_rows(&d_queries, rows, layout.rows());
                device.add(&mut d_x, &device.gather_rows(&spread, wanted));
            }
        }
        d_x
    }
}
