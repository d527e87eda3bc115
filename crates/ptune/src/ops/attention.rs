//! Attention over the spans of a batch.

use std::ops::Range;

use ptune_kernels::{self as kernels, AttentionShape};

use super::Layout;
use crate::profile::Operation;
use crate::tensor::{Device, Tensor};

/// Keys and values of some rows, `[rows, kv_heads * head_dim]` each.
pub struct KeysValues {
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
}

/// Queries, keys and values of one attention, and what its backward needs beside them.
pub struct AttentionSaved {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_sum_exp: Tensor,
}

impl KeysValues {
    /// Bytes of a row.
    pub(crate) fn bytes_of_row(&self) -> usize {
        (self.k.columns() + self.v.columns()) * size_of::<f32>()
    }
}

impl AttentionSaved {
    /// The keys and values alone.
    pub(crate) fn into_keys_values(self) -> KeysValues {
        KeysValues { k: self.k, v: self.v }
    }
}

impl Device {
    /// Room for keys and values of `rows` rows like these; they are whatever a former tensor left there.
    pub(crate) fn room_for_keys_values(&self, like: &KeysValues, rows: usize) -> KeysValues {
        let [k, v] = [&like.k, &like.v].map(|x| self.uninitialised(rows, x.columns()));
        KeysValues { k, v }
    }

    /// Copies the rows `from` of `x` to the rows of `y` from `at` on.
    pub(crate) fn copy_keys_values(&self, y: &mut KeysValues, at: usize, x: &KeysValues, from: Range<usize>) {
        let _doing = self.doing(Operation::Rows);
        for (y, x) in [(&mut y.k, &x.k), (&mut y.v, &x.v)] {
            let columns = x.columns();
            let x = &x.data()[from.start * columns..from.end * columns];
            y.data_mut()[at * columns..][..x.len()].copy_from_slice(x);
        }
    }

    /// Attention of the queries `[queries, heads * head_dim]`, which stand in the rows `query_rows`. The spans'
    /// past rows are those of `past`. `layer` is dropout's name of it.
    pub(crate) fn attention(
        &self,
        (q, k, v): (Tensor, Tensor, Tensor),
        past: Option<&KeysValues>,
        layout: &Layout,
        query_rows: &[u32],
        shape: &AttentionShape,
        layer: u32,
    ) -> (Tensor, AttentionSaved) {
        let rows = kernels::Layout { spans: &layout.spans, positions: &layout.positions, query_rows };
        let mut out = self.uninitialised(q.rows(), q.columns());
        let mut log_sum_exp = self.uninitialised(q.rows(), shape.heads);
        let keys_values = seen(&k, &v, past);
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

    /// The gradients of queries, keys and values; the past has none.
    pub(crate) fn attention_backward(
        &self,
        d_out: &Tensor,
        saved: &AttentionSaved,
        past: Option<&KeysValues>,
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
        let keys_values = seen(&saved.k, &saved.v, past);
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

/// All keys and values that a batch can see.
fn seen<'a>(k: &'a Tensor, v: &'a Tensor, past: Option<&'a KeysValues>) -> kernels::KeysValues<'a> {
    let (past_k, past_v) = past.map_or((&[][..], &[][..]), |past| (past.k.data(), past.v.data()));
    kernels::KeysValues { k: k.data(), v: v.data(), past_k, past_v }
}
