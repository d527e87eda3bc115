//! Attention over the spans of a batch. Queries, keys, values and what comes of them have one dtype.

use std::ops::Range;

use ptune_kernels::{self as kernels, AttentionShape, Dtype, Rows};

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

/// What the backward of an attention gives.
pub(crate) struct AttentionGradients {
    pub(crate) d_q: Tensor,
    pub(crate) d_k: Tensor,
    pub(crate) d_v: Tensor,
    /// Of the past, when it was asked for.
    pub(crate) d_past: Option<KeysValues>,
}

impl KeysValues {
    /// Bytes of a row.
    pub(crate) fn bytes_of_row(&self) -> usize {
        (self.k.stride() + self.v.stride()) * size_of::<f32>()
    }

    /// How many rows.
    pub(crate) fn rows(&self) -> usize {
        self.k.rows()
    }

    /// Numbers of a key, and of a value.
    pub(crate) fn columns(&self) -> usize {
        self.k.columns()
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

    /// Keys and values that stand in f32 rows: in `columns` numbers each from the column `at` on, keys before values.
    pub(crate) fn keys_values_from(&self, x: &Tensor, at: usize, columns: usize, dtype: Dtype) -> KeysValues {
        let part = |at: usize| {
            let mut y = self.uninitialised(x.rows(), columns);
            for (x, y) in x.data().chunks_exact(x.columns()).zip(y.data_mut().chunks_exact_mut(columns)) {
                y.copy_from_slice(&x[at..at + columns]);
            }
            if dtype == Dtype::Bf16 { self.rounded(&y) } else { y }
        };
        KeysValues { k: part(at), v: part(at + columns) }
    }

    /// Writes keys and values to where [`Device::keys_values_from`] reads them.
    pub(crate) fn put_keys_values(&self, y: &mut Tensor, at: usize, x: &KeysValues) {
        let stride = y.columns();
        for (x, at) in [(&x.k, at), (&x.v, at + x.k.columns())] {
            let wide = (x.dtype() == Dtype::Bf16).then(|| self.widened(x));
            let (x, columns) = (wide.as_ref().unwrap_or(x).data(), x.columns());
            for (x, y) in x.chunks_exact(columns).zip(y.data_mut().chunks_exact_mut(stride)) {
                y[at..at + columns].copy_from_slice(x);
            }
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

    /// The gradients of queries, keys and values, and of the past when asked for: summed up over all rows that see it.
    pub(crate) fn attention_backward(
        &self,
        d_out: &Tensor,
        saved: &AttentionSaved,
        past: Option<&KeysValues>,
        past_gradient: bool,
        layout: &Layout,
        query_rows: &[u32],
        shape: &AttentionShape,
        layer: u32,
    ) -> AttentionGradients {
        let rows = kernels::Layout { spans: &layout.spans, positions: &layout.positions, query_rows };
        let AttentionSaved { q, kv, log_sum_exp } = saved;
        let like = |x: &Tensor| self.uninitialised_as(x.dtype(), x.rows(), x.columns());
        let [mut d_q, mut d_k, mut d_v] = [q, &kv.k, &kv.v].map(like);
        let mut d_past = past.filter(|_| past_gradient).map(|past| KeysValues { k: like(&past.k), v: like(&past.v) });
        let work = kernels::attention_backward_work_len(&rows, shape, q.dtype(), d_past.is_some());
        let mut work = self.uninitialised(1, work);
        let (ctx, dropout) = (self.doing(Operation::AttentionBackward), layout.dropout_at(layer));
        ctx.reserve(kernels::attention_scratch_len(&ctx, &rows, shape, q.dtype(), dropout.is_some()));
        kernels::attention_backward(
            &ctx,
            d_q.view_mut(),
            d_k.view_mut(),
            d_v.view_mut(),
            d_past.as_mut().map(|past| (past.k.view_mut(), past.v.view_mut())),
            work.data_mut(),
            d_out.view(),
            q.view(),
            kv.after(past),
            log_sum_exp.data(),
            rows,
            *shape,
            dropout,
        );
        AttentionGradients { d_q, d_k, d_v, d_past }
    }
}
