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
    /// The keys and values.
    pub(crate) fn into_keys_values(self) -> (Tensor, Tensor) {
        (self.k, self.v)
    }
}

impl Device {
    /// Keys and values as the past of other rows: f32, whatever they were, because that is what the kernels read.
    pub(crate) fn past(&self, (k, v): (Tensor, Tensor)) -> KeysValues {
        let [k, v] = [k, v].map(|x| self.widened(&x).unwrap_or(x));
        KeysValues { k, v }
    }

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
        let wide = [&q, &k, &v].map(|x| self.widened(x));
        let [q_wide, k_wide, v_wide] = [(&wide[0], &q), (&wide[1], &k), (&wide[2], &v)].map(wide_or);
        let keys_values = seen(k_wide, v_wide, past);
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
        let AttentionSaved { q, k, v, .. } = saved;
        let wide = [d_out, q, k, v].map(|x| self.widened(x));
        let [d_out, q, k, v] = [(&wide[0], d_out), (&wide[1], q), (&wide[2], k), (&wide[3], v)].map(wide_or);
        let keys_values = seen(k, v, past);
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

/// All keys and values that a batch can see.
fn seen<'a>(k: &'a Tensor, v: &'a Tensor, past: Option<&'a KeysValues>) -> kernels::KeysValues<'a> {
    let (past_k, past_v) = past.map_or((&[][..], &[][..]), |past| (past.k.data(), past.v.data()));
    kernels::KeysValues { k: k.data(), v: v.data(), past_k, past_v }
}

/// The wide copy of a tensor, or the tensor where it is wide itself.
fn wide_or<'a>((wide, x): (&'a Option<Tensor>, &'a Tensor)) -> &'a Tensor {
    wide.as_ref().unwrap_or(x)
}
