//! Attention over the spans of a batch. Queries, keys, values and what comes of them have one dtype.

use std::ops::Range;

use ptune_kernels::{self as kernels, AttentionShape, Rows};

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
    kv: KeysValues,
    log_sum_exp: Tensor,
}

impl KeysValues {
    /// Bytes of a row.
    pub(crate) fn bytes_of_row(&self) -> usize {
        (self.k.stride() + self.v.stride()) * size_of::<f32>()
    }

    /// All keys and values that a batch can see.
    fn after<'a>(&'a self, past: Option<&'a KeysValues>) -> kernels::KeysValues<'a> {
        let none = Rows::new(self.k.dtype(), &[]);
        let (past_k, past_v) = past.map_or((none, none), |past| (past.k.view(), past.v.view()));
        kernels::KeysValues { k: self.k.view(), v: self.v.view(), past_k, past_v }
    }
}

impl AttentionSaved {
    /// The keys and values.
    pub(crate) fn into_keys_values(self) -> KeysValues {
        self.kv
    }
}

impl Device {
    /// Room for keys and values of `rows` rows like these; they are whatever a former tensor left there.
    pub(crate) fn room_for_keys_values(&self, like: &KeysValues, rows: usize) -> KeysValues {
        let [k, v] = [&like.k, &like.v].map(|x| self.uninitialised_as(x.dtype(), rows, x.columns()));
        KeysValues { k, v }
    }

    /// Copies the rows `from` of `x` to the rows of `y` from `at` on.
    pub(crate) fn copy_keys_values(&self, y: &mut KeysValues, at: usize, x: &KeysValues, from: Range<usize>) {
        let _doing = self.doing(Operation::Rows);
        for (y, x) in [(&mut y.k, &x.k), (&mut y.v, &x.v)] {
            assert_eq!(y.dtype(), x.dtype());
            let stride = x.stride();
            let x = &x.memory()[from.start * stride..from.end * stride];
            y.memory_mut()[at * stride..][..x.len()].copy_from_slice(x);
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
        let mut out = self.uninitialised_as(q.dtype(), q.rows(), q.columns());
        let mut log_sum_exp = self.uninitialised(q.rows(), shape.heads);
        let (kv, dropout) = (KeysValues { k, v }, layout.dropout_at(layer));
        let ctx = self.doing(Operation::Attention);
        ctx.reserve(kernels::attention_scratch_len(&ctx, &rows, shape, q.dtype(), dropout.is_some()));
        kernels::attention(
            &ctx,
            out.view_mut(),
            log_sum_exp.data_mut(),
            q.view(),
            kv.after(past),
            rows,
            *shape,
            dropout,
        );
        (out, AttentionSaved { q, kv, log_sum_exp })
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
        let AttentionSaved { q, kv, log_sum_exp } = saved;
        let like = |x: &Tensor| self.uninitialised_as(x.dtype(), x.rows(), x.columns());
        let [mut d_q, mut d_k, mut d_v] = [q, &kv.k, &kv.v].map(like);
        let mut work = self.uninitialised(1, kernels::attention_backward_work_len(&rows, shape, q.dtype(), false));
        let (ctx, dropout) = (self.doing(Operation::AttentionBackward), layout.dropout_at(layer));
        ctx.reserve(kernels::attention_scratch_len(&ctx, &rows, shape, q.dtype(), dropout.is_some()));
        kernels::attention_backward(
            &ctx,
            d_q.view_mut(),
            d_k.view_mut(),
            d_v.view_mut(),
            None,
            work.data_mut(),
            d_out.view(),
            q.view(),
            kv.after(past),
            log_sum_exp.data(),
            rows,
            *shape,
            dropout,
        );
        (d_q, d_k, d_v)
    }
}
