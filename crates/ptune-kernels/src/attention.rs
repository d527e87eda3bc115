//! Attention over the spans of a packed batch, causal or bidirectional, forward and backward.
//!
//! For query row i and head h: `P_ij = exp(scale q_i k_j - L_i)` over the rows j it sees, `L_i` the log-sum-exp, and
//! `out_i = sum_j P_ij m_ij v_j` with the dropout multiplier m (1 without dropout). Backward, probabilities recomputed:
//! `dP_ij = m_ij (d_out_i v_j)`, `delta_i = sum_j P_ij dP_ij`, `dS_ij = P_ij (dP_ij - delta_i)`,
//! `d_q_i = scale sum_j dS_ij k_j`, `d_k_j = scale sum_i dS_ij q_i`, `d_v_j = sum_i P_ij m_ij d_out_i`.
//! (Dao et al., "FlashAttention", 2022, appendix B, has the same formulas.)
//!
//! Spans form trees. A row sees its past rows, all rows of its span's ancestors, and of its own span either all rows
//! (bidirectional) or those at or before it (causal): with depth-first rows, `j <= i < end[j]`. The keys of a row are
//! ordered past, ancestors from the root, own span; that place is the key's *ordinal*, and every sum over keys runs in
//! this order. Gradients are gathered: d_q by query block, d_k and d_v by key block over the queries that see it, in
//! row order. So results have the same bits for any number of threads, and those of a row do not depend on rows that it
//! does not see (d_k of a row: on those that do not see it).
//!
//! One work unit is a block of queries (or keys) of one span and one head; small spans share an item. In a unit, lanes
//! are queries (forward, d_q) or keys (d_k, d_v), so that softmax needs no horizontal sums. What this does not do: skip
//! blocks outside the window, or keep probabilities in bf16.

mod backward;
mod blocks;
mod dropout;
mod forward;
mod layout;
mod product;
mod work;

use std::ops::Range;

use crate::Context;
use crate::context::Disjoint;
use crate::isa::Isa;

/// Consecutive rows of a batch that belong together: a text, or the shared beginning of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its rows. Spans stand in depth-first order and cover all rows without gaps.
    pub rows: Range<usize>,
    /// The span that this one continues (causal only): an index into the spans, smaller than the own.
    pub parent: Option<usize>,
    /// Where the rows of its last descendant end; `rows.end` without descendants.
    pub end: usize,
    /// The rows of the past keys and values that it sees.
    pub past: Range<usize>,
}

/// Sizes and kind of an attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`. Query head h reads key head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Factor of the scores, above 0; usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Whether a row sees only rows at or before it.
    pub causal: bool,
    /// Positions that a row sees: causal `position_i - position_j < window`, bidirectional
    /// `|position_i - position_j| <= window / 2`. The position of a past row is its index in the span's past.
    pub window: Option<u32>,
}

/// Which rows there are and which of them ask.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    /// The spans, in row order.
    pub spans: &'a [Span],
    /// The position of every row.
    pub positions: &'a [u32],
    /// The rows that have a query, ascending: all rows, or only the target rows in the last block.
    pub query_rows: &'a [u32],
}

/// Keys and values of the batch's rows (`[rows, kv_heads * head_dim]`) and of the past (`[past rows, the same]`).
#[derive(Clone, Copy, Debug)]
pub struct KeysValues<'a> {
    /// Keys of the batch.
    pub k: &'a [f32],
    /// Values of the batch.
    pub v: &'a [f32],
    /// Keys of the past.
    pub past_k: &'a [f32],
    /// Values of the past.
    pub past_v: &'a [f32],
}

/// Dropout of attention probabilities; those that stay are divided by `1 - probability`. What is dropped follows from
/// layer, span key, row within the span, head and key ordinal alone.
#[derive(Clone, Copy, Debug)]
pub struct Dropout<'a> {
    /// Share of the probabilities that is set to zero, in 0..1.
    pub probability: f32,
    /// The layer.
    pub layer: u32,
    /// The key of each span.
    pub span_keys: &'a [SpanKey],
}

/// What a span's dropout follows from: never its place in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanKey {
    /// Of the run and the step that the span belongs to; a batch may hold spans of several runs.
    pub seed: u64,
    /// A number that goes with the span's content.
    pub key: u64,
}

/// What every unit of work reads.
struct Problem<'a> {
    isa: Isa,
    q: &'a [f32],
    kv: KeysValues<'a>,
    layout: Layout<'a>,
    shape: AttentionShape,
    dropout: Option<Dropout<'a>>,
}

impl Problem<'_> {
    /// Columns of q and of the output.
    fn query_columns(&self) -> usize {
        self.shape.heads * self.shape.head_dim
    }

    /// Columns of keys and values.
    fn key_columns(&self) -> usize {
        self.shape.kv_heads * self.shape.head_dim
    }

    /// The key head that a query head reads.
    fn key_head(&self, head: usize) -> usize {
        head / (self.shape.heads / self.shape.kv_heads)
    }

    fn check(&self) {
        let AttentionShape { heads, kv_heads, head_dim, scale, causal, window } = self.shape;
        assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads) && head_dim > 0);
        assert!(scale > 0.0, "the scale of attention is above 0");
        assert!(window.is_none_or(|w| w > 0));
        let (rows, columns) = (self.layout.positions.len(), self.key_columns());
        assert_eq!(self.q.len(), self.layout.query_rows.len() * self.query_columns());
        assert_eq!((self.kv.k.len(), self.kv.v.len()), (rows * columns, rows * columns));
        assert_eq!(self.kv.past_k.len(), self.kv.past_v.len());
        self.layout.check(causal, self.kv.past_k.len() / columns);
        // Masks compare rows and positions as f32.
        assert!(rows < 1 << 24);
        assert!(window.is_none() || self.layout.positions.iter().all(|p| *p < 1 << 24));
        if let Some(dropout) = self.dropout {
            assert!((0.0..1.0).contains(&dropout.probability));
            assert_eq!(dropout.span_keys.len(), self.layout.spans.len());
        }
    }
}

/// Scratch that [`attention`] and [`attention_backward`] need, for [`Context::reserve`].
pub fn attention_scratch_len(layout: &Layout, shape: &AttentionShape) -> usize {
    let keys = (0..layout.spans.len()).map(|span| layout.keys(span)).max().unwrap_or(0);
    forward::scratch_len(keys, shape).max(backward::scratch_len(keys, shape))
}

/// `out` `[queries, heads * head_dim]` and `log_sum_exp` `[queries, heads]` from `q` (like `out`) and `kv`. Scratch:
/// [`attention_scratch_len`].
pub fn attention(
    ctx: &Context,
    out: &mut [f32],
    log_sum_exp: &mut [f32],
    q: &[f32],
    kv: KeysValues,
    layout: Layout,
    shape: AttentionShape,
    dropout: Option<Dropout>,
) {
    let problem = Problem { isa: ctx.isa(), q, kv, layout, shape, dropout };
    problem.check();
    assert_eq!(out.len(), q.len());
    assert_eq!(log_sum_exp.len(), layout.query_rows.len() * shape.heads);
    let (out, log_sum_exp) = (Disjoint::new(out), Disjoint::new(log_sum_exp));
    let measure = |span| work::of_queries(&layout, &shape, span);
    ctx.run(work::items(layout.spans.len(), measure), |item, scratch| {
        work::visit(item, layout.spans.len(), measure, |span, unit| {
            let (head, queries) = work::queries_of(&layout, span, unit);
            forward::queries(&problem, &out, &log_sum_exp, span, queries, head, scratch);
        });
    });
}

/// Gradients of [`attention`]: `d_q` like `q`, `d_k` and `d_v` like `k`, and `d_past` (of `past_k` and `past_v`) when
/// asked for. `delta` (`[queries, heads]`) is work space, `log_sum_exp` what the forward gave, `d_out` the gradient of
/// its output. Rows that nobody sees get zeros.
pub fn attention_backward(
    ctx: &Context,
    d_q: &mut [f32],
    d_k: &mut [f32],
    d_v: &mut [f32],
    d_past: Option<(&mut [f32], &mut [f32])>,
    delta: &mut [f32],
    d_out: &[f32],
    q: &[f32],
    kv: KeysValues,
    log_sum_exp: &[f32],
    layout: Layout,
    shape: AttentionShape,
    dropout: Option<Dropout>,
) {
    let problem = Problem { isa: ctx.isa(), q, kv, layout, shape, dropout };
    problem.check();
    let queries = layout.query_rows.len();
    assert_eq!((d_q.len(), d_out.len()), (q.len(), q.len()));
    assert_eq!((d_k.len(), d_v.len()), (kv.k.len(), kv.v.len()));
    assert_eq!((delta.len(), log_sum_exp.len()), (queries * shape.heads, queries * shape.heads));
    let spans = layout.spans.len();
    {
        let (d_q, delta) = (Disjoint::new(d_q), Disjoint::new(delta));
        let measure = |span| work::of_queries(&layout, &shape, span);
        ctx.run(work::items(spans, measure), |item, scratch| {
            work::visit(item, spans, measure, |span, unit| {
                let (head, queries) = work::queries_of(&layout, span, unit);
                backward::queries(&problem, &d_q, &delta, d_out, log_sum_exp, span, queries, head, scratch);
            });
        });
    }
    let saved = backward::Saved { d_out, log_sum_exp, delta };
    // The keys' owners: the spans, and after them the past.
    let past = d_past.as_ref().map_or(0, |(d_k, d_v)| {
        assert_eq!((d_k.len(), d_v.len()), (kv.past_k.len(), kv.past_v.len()));
        d_k.len() / (shape.kv_heads * shape.head_dim)
    });
    let (d_past_k, d_past_v) = d_past.unwrap_or_default();
    let batch = (Disjoint::new(d_k), Disjoint::new(d_v));
    let of_past = (Disjoint::new(d_past_k), Disjoint::new(d_past_v));
    let measure = |owner| work::of_keys(&layout, &shape, owner, past);
    ctx.run(work::items(spans + 1, measure), |item, scratch| {
        work::visit(item, spans + 1, measure, |owner, unit| {
            let (head, keys) = work::keys_of(&layout, owner, past, unit);
            let (owner, (d_k, d_v)) = if owner < spans { (Some(owner), &batch) } else { (None, &of_past) };
            backward::keys(&problem, d_k, d_v, &saved, owner, keys, head, scratch);
        });
    });
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;
