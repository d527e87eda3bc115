//! Attention over the spans of a batch.

use ptune_kernels::{self as kernels, AttentionShape, KeysValues};

use super::Layout;
use crate::profile::Operation;
use crate::tensor::{Device, Tensor};

/// Queries, keys and values of one attention, and what its backward needs beside them.
pub struct AttentionSaved {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_sum_exp: Tensor,
}

impl Device {
    /// Attention of the queries `[queries, heads * head_dim]`, which stand in the rows `query_rows`. `layer` is dropout's
    /// name of it.
    pub(crate) fn attention(
        &self,
        (q, k, v): (Tensor, Tensor, Tensor),
        layout: &Layout,
        query_rows: &[u32],
        shape: &AttentionShape,
        layer: u32,
    ) -> (Tensor, AttentionSaved) {
        let rows = kernels::Layout { spans: &layout.spans, positions: &layout.positions, query_rows };
        let mut out = self.uninitialised(q.rows(), q.columns());
        let mut log_sum_exp = self.uninitialised(q.rows(), shape.heads);
        let keys_values = KeysValues { k: k.data(), v: v.data(), past_k: &[], past_v: &[] };
        self.reserve(kernels::attention_scratch_len(&rows, shape));
        kernels::attention(
            &self.doing(Operation::Attention),
            out.data_mut(),
            log_sum_exp.data_mut(),
            q.data(),
            keys_values,
            rows,
            *shape,
            layout.dropout_at(layer),
        );
        (out, AttentionSaved { q, k, v, log_sum_exp })
    }

    /// The gradients of queries, keys and values.
    pub(crate) fn attention_backward(
        &self,
        d_out: &Tensor,
        saved: &AttentionSaved,
        layout: &Layout,
        query_rows: &[u32],
        shape: &AttentionShape,
        layer: u32,
    ) -> (Tensor, Tensor, Tensor) {
        let rows = kernels::Layout { spans: &layout.spans, positions: &layout.positions, query_rows };
        let mut d_q = self.uninitialised(saved.q.rows(), saved.q.columns());
        let mut d_k = self.uninitialised(saved.k.rows(), saved.k.columns());
        let mut d_v = self.uninitialised(saved.v.rows(), saved.v.columns());
        let mut delta = self.uninitialised(saved.q.rows(), shape.heads);
        let keys_values = KeysValues { k: saved.k.data(), v: saved.v.data(), past_k: &[], past_v: &[] };
        self.reserve(kernels::attention_scratch_len(&rows, shape));
        kernels::attention_backward(
            &self.doing(Operation::AttentionBackward),
            d_q.data_mut(),
            d_k.data_mut(),
            d_v.data_mut(),
            None,
            delta.data_mut(),
            d_out.data(),
            saved.q.data(),
            keys_values,
            saved.log_sum_exp.data(),
            rows,
            *shape,
            layout.dropout_at(layer),
        );
        (d_q, d_k, d_v)
    }
}
