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
        let wide = [&q, &k, &v].map(|x| self.widened(x));
        let [q_wide, k_wide, v_wide] = [(&wide[0], &q), (&wide[1], &k), (&wide[2], &v)].map(wide_or);
        let keys_values = KeysValues { k: k_wide.data(), v: v_wide.data(), past_k: &[], past_v: &[] };
        self.reserve(kernels::attention_scratch_len(&rows, shape));
        kernels::attention(
            &self.doing(Operation::Attention),
            out.data_mut(),
            log_sum_exp.data_mut(),
            q_wide.data(),
            keys_values,
            rows,
            *shape,
            layout.dropout_at(layer),
        );
        let out = self.narrowed(out);
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
        let AttentionSaved { q, k, v, .. } = saved;
        let wide = [d_out, q, k, v].map(|x| self.widened(x));
        let [d_out, q, k, v] = [(&wide[0], d_out), (&wide[1], q), (&wide[2], k), (&wide[3], v)].map(wide_or);
        let keys_values = KeysValues { k: k.data(), v: v.data(), past_k: &[], past_v: &[] };
        self.reserve(kernels::attention_scratch_len(&rows, shape));
        kernels::attention_backward(
            &self.doing(Operation::AttentionBackward),
            d_q.data_mut(),
            d_k.data_mut(),
            d_v.data_mut(),
            None,
            delta.data_mut(),
            d_out.data(),
            q.data(),
            keys_values,
            saved.log_sum_exp.data(),
            rows,
            *shape,
            layout.dropout_at(layer),
        );
        (self.narrowed(d_q), self.narrowed(d_k), self.narrowed(d_v))
    }

    /// `x` in the device's narrow dtype.
    fn narrowed(&self, x: Tensor) -> Tensor {
        if x.dtype() == self.narrow() { x } else { self.rounded(&x) }
    }
}

/// The wide copy of a tensor, or the tensor where it is wide itself.
fn wide_or<'a>((wide, x): (&'a Option<Tensor>, &'a Tensor)) -> &'a Tensor {
    wide.as_ref().unwrap_or(x)
}
