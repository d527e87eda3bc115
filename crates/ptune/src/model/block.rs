//! One transformer block: attention and MLP joined by residuals and norms.
//!
//! A block reads all rows of the batch but may be asked for some of them only: the last block computes its queries,
//! MLP and output for the answer rows alone, and the first block's backward gives the gradient of the pseudo-token
//! rows alone. What attention and MLP add to the residual goes through dropout, when the batch asks for it.

use super::attention::{Attention, AttentionInputs, AttentionSaved};
use super::layer::Norm;
use super::load::Loader;
use super::mlp::{Mlp, MlpSaved};
use super::spec::{BlockSpec, Join};
use crate::Result;
use crate::ops::{KeysValues, Layout, NormSaved};
use crate::parameter::Parameter;
use crate::tensor::{Device, Tensor};

pub(super) struct Block {
    join: Join,
    /// Dropout's names of what the attention and the MLP give.
    sites: [u32; 2],
    attention: Attention,
    attention_norm: Norm,
    mlp: Mlp,
    mlp_norm: Norm,
}

/// What a block's backward needs.
pub(super) struct BlockSaved {
    attention: AttentionSaved,
    /// Of a trained block.
    inputs: Option<AttentionInputs>,
    attention_norm: NormSaved,
    mlp: MlpSaved,
    mlp_norm: NormSaved,
    /// The rows that were computed; `None` for all.
    queries: Option<Vec<u32>>,
}

impl BlockSaved {
    pub(super) fn into_keys_values(self) -> KeysValues {
        self.attention.into_keys_values()
    }
}

impl Block {
    /// Block `index` of the model.
    pub(super) fn load(loader: &mut Loader<'_>, spec: &BlockSpec, index: usize, hidden: usize) -> Result<Self> {
        let index = index as u32;
        Ok(Block {
            join: spec.join,
            sites: [1 + 2 * index, 2 + 2 * index], // 0 is the embedding's
            attention: Attention::load(loader, &spec.attention, index)?,
            attention_norm: loader.norm(&spec.attention_norm, hidden)?,
            mlp: Mlp::load(loader, &spec.mlp)?,
            mlp_norm: loader.norm(&spec.mlp_norm, hidden)?,
        })
    }

    /// `x [rows, hidden]`, behind the rows of `past` -> the block's output at `queries` (at all rows when `None`).
    pub(super) fn forward(
        &self,
        device: &Device,
        x: Tensor,
        past: Option<&KeysValues>,
        layout: &Layout,
        all_rows: &[u32],
        queries: Option<&[u32]>,
    ) -> (Tensor, BlockSaved) {
        let query_rows = queries.unwrap_or(all_rows);
        let gathered = |x: &Tensor| queries.map(|rows| device.gather_rows(x, rows));
        let chosen = gathered(&x);
        match self.join {
            Join::Post => {
                let x_queries = chosen.as_ref().unwrap_or(&x);
                let (mut a, attention) = self.attention.forward(device, &x, x_queries, past, layout, query_rows);
                device.dropout(&mut a, query_rows, layout, self.sites[0]);
                let (h, attention_norm) = self.attention_norm.forward(device, &a, Some(x_queries));
                let (mut m, mlp) = self.mlp.forward(device, &h);
                device.dropout(&mut m, query_rows, layout, self.sites[1]);
                let (y, mlp_norm) = self.mlp_norm.forward(device, &m, Some(&h));
                let inputs = self.attention.is_trained().then_some(AttentionInputs { x, queries: chosen });
                let mlp = mlp.with_input(self.mlp.is_trained().then_some(h));
                let queries = queries.map(<[u32]>::to_vec);
                (y, BlockSaved { attention, inputs, attention_norm, mlp, mlp_norm, queries })
            }
            Join::Pre => {
                let (n, attention_norm) = self.attention_norm.forward(device, &x, None);
                let n_chosen = gathered(&n);
                let n_queries = n_chosen.as_ref().unwrap_or(&n);
                let (mut h, attention) = self.attention.forward(device, &n, n_queries, past, layout, query_rows);
                device.dropout(&mut h, query_rows, layout, self.sites[0]);
                device.add(&mut h, chosen.as_ref().unwrap_or(&x));
                let inputs = self.attention.is_trained().then_some(AttentionInputs { x: n, queries: n_chosen });
                let (n, mlp_norm) = self.mlp_norm.forward(device, &h, None);
                let (mut y, mlp) = self.mlp.forward(device, &n);
                device.dropout(&mut y, query_rows, layout, self.sites[1]);
                device.add(&mut y, &h);
                let mlp = mlp.with_input(self.mlp.is_trained().then_some(n));
                let queries = queries.map(<[u32]>::to_vec);
                (y, BlockSaved { attention, inputs, attention_norm, mlp, mlp_norm, queries })
            }
        }
    }

    /// `d_y [queries, hidden]` -> `d_x` at the rows `wanted` (at all rows when `None`), and the gradients of trained
    /// weights.
    pub(super) fn backward(
        &self,
        device: &Device,
        d_y: &Tensor,
        saved: &BlockSaved,
        past: Option<&KeysValues>,
        layout: &Layout,
        all_rows: &[u32],
        wanted: Option<&[u32]>,
        parameters: &mut [Parameter],
    ) -> Tensor {
        let queries = saved.queries.as_deref();
        let query_rows = queries.unwrap_or(all_rows);
        // The gradient of what was dropped out, where it is not the same.
        let through_dropout =
            |d: &Tensor, site: usize| device.dropout_backward(d, query_rows, layout, self.sites[site]);
        let attention_backward = |d_a: &Tensor, parameters: &mut [Parameter]| {
            let d_dropped = through_dropout(d_a, 0);
            let (d_a, kept) = (d_dropped.as_ref().unwrap_or(d_a), (&saved.attention, saved.inputs.as_ref()));
            self.attention.backward(device, d_a, kept, past, layout, query_rows, wanted, parameters)
        };
        match self.join {
            Join::Post => {
                let d_m = self.mlp_norm.backward(device, d_y, &saved.mlp_norm, parameters);
                let d_dropped = through_dropout(&d_m, 1);
                let mut d_h = self.mlp.backward(device, d_dropped.as_ref().unwrap_or(&d_m), &saved.mlp, parameters);
                device.add(&mut d_h, &d_m);
                // The gradient of the attention's output and of the residual x.
                let d_a = self.attention_norm.backward(device, &d_h, &saved.attention_norm, parameters);
                let (mut d_queries, mut d_x) = attention_backward(&d_a, parameters);
                device.add(&mut d_queries, &d_a);
                add_queries(device, &mut d_x, &d_queries, queries, wanted, layout.rows());
                d_x
            }
            Join::Pre => {
                let d_dropped = through_dropout(d_y, 1);
                let d_n = self.mlp.backward(device, d_dropped.as_ref().unwrap_or(d_y), &saved.mlp, parameters);
                let mut d_h = self.mlp_norm.backward(device, &d_n, &saved.mlp_norm, parameters);
                device.add(&mut d_h, d_y);
                let (d_queries, mut d_n) = attention_backward(&d_h, parameters);
                add_queries(device, &mut d_n, &d_queries, queries, wanted, layout.rows());
                let chosen = wanted.map(|rows| device.gather_saved(&saved.attention_norm, rows));
                let norm = chosen.as_ref().unwrap_or(&saved.attention_norm);
                let mut d_x = self.attention_norm.backward(device, &d_n, norm, parameters);
                // The residual.
                add_queries(device, &mut d_x, &d_h, queries, wanted, layout.rows());
                d_x
            }
        }
    }

    /// The keys and values of `x [rows, hidden]` alone.
    pub(super) fn keys_values(&self, device: &Device, x: &Tensor) -> KeysValues {
        match self.join {
            Join::Post => self.attention.keys_values(device, x),
            Join::Pre => self.attention.keys_values(device, &self.attention_norm.forward(device, x, None).0),
        }
    }

    pub(super) fn repack(&mut self, device: &Device, parameters: &[Parameter]) {
        self.attention.repack(device, parameters);
        self.attention_norm.repack(device, parameters);
        self.mlp.repack(device, parameters);
        self.mlp_norm.repack(device, parameters);
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
