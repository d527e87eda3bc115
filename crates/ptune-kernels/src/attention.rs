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
//! this order. Sums over queries (d_k, d_v) run in row order, head after head of those that read one key head; those of
//! keys that several units see are added up afterwards (`group.rs`). So results have the same bits for any number of
//! threads, and those of a row do not depend on rows that it does not see (d_k of a row: on those that do not see it).
//!
//! A unit of work is a span (backward: a tree of spans) and one key head, taken in blocks of queries; small ones share an
//! item. Lanes are queries, so that softmax needs no horizontal sums. What this does not do: skip blocks outside the
//! window, or keep probabilities.

mod backward;
mod block;
mod dropout;
mod forward;
mod group;
mod layout;
mod operands;
mod product;
mod scores;
mod work;

use std::ops::Range;

use self::backward::Gradients;
use self::operands::Numbers;
use crate::context::Disjoint;
use crate::{Context, Dtype, Isa, Rows, RowsMut};

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

/// Keys and values of the batch's rows (`[rows, kv_heads * head_dim]`) and of the past (`[past rows, the same]`), all of
/// the same dtype.
#[derive(Clone, Copy)]
pub struct KeysValues<'a> {
    /// Keys of the batch.
    pub k: Rows<'a>,
    /// Values of the batch.
    pub v: Rows<'a>,
    /// Keys of the past.
    pub past_k: Rows<'a>,
    /// Values of the past.
    pub past_v: Rows<'a>,
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
    numbers: Numbers,
    q: Rows<'a>,
    kv: KeysValues<'a>,
    layout: Layout<'a>,
    shape: AttentionShape,
    dropout: Option<Dropout<'a>>,
}

impl Problem<'_> {
    /// Places of a row of q and of the output.
    fn query_row(&self) -> usize {
        self.numbers.dtype.stride(self.shape.heads * self.shape.head_dim)
    }

    /// Places of a row of keys and values.
    fn key_row(&self) -> usize {
        self.numbers.dtype.stride(self.shape.kv_heads * self.shape.head_dim)
    }

    /// Where a head begins in a row, in places.
    fn place(&self, head: usize) -> usize {
        self.numbers.dtype.stride(head * self.shape.head_dim)
    }

    /// The query heads that read a key head.
    fn heads_of(&self, key_head: usize) -> Range<usize> {
        let heads = self.shape.heads / self.shape.kv_heads;
        key_head * heads..(key_head + 1) * heads
    }

    fn check(&self) {
        let AttentionShape { heads, kv_heads, head_dim, scale, causal, window } = self.shape;
        assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads) && head_dim > 0);
        assert!(scale > 0.0, "the scale of attention is above 0");
        assert!(window.is_none_or(|w| w > 0));
        let (dtype, KeysValues { k, v, past_k, past_v }) = (self.numbers.dtype, self.kv);
        assert!([k, v, past_k, past_v].iter().all(|x| x.dtype() == dtype), "queries, keys and values of one dtype");
        assert!(dtype == Dtype::F32 || head_dim.is_multiple_of(2), "in bf16 a head begins with a pair");
        let rows = self.layout.positions.len();
        let [k, v, past_k, past_v] = [k, v, past_k, past_v].map(|x| x.memory().len());
        assert_eq!(self.q.memory().len(), self.layout.query_rows.len() * self.query_row());
        assert_eq!((k, v), (rows * self.key_row(), rows * self.key_row()));
        assert_eq!(past_k, past_v);
        self.layout.check(causal, past_k / self.key_row());
        // Masks compare rows and positions as f32.
        assert!(rows < 1 << 24);
        assert!(window.is_none() || self.layout.positions.iter().all(|p| *p < 1 << 24));
        if let Some(dropout) = self.dropout {
            assert!((0.0..1.0).contains(&dropout.probability));
            assert_eq!(dropout.span_keys.len(), self.layout.spans.len());
        }
    }
}

/// Scratch that [`attention`] and [`attention_backward`] need for queries, keys and values of that dtype, for
/// [`Context::reserve`].
pub fn attention_scratch_len(
    ctx: &Context,
    layout: &Layout,
    shape: &AttentionShape,
    dtype: Dtype,
    dropout: bool,
) -> usize {
    let numbers = Numbers { isa: ctx.isa(), dtype, head_dim: shape.head_dim };
    let keys = (0..layout.spans.len()).map(|span| layout.keys(span)).max().unwrap_or(0);
    let backward = backward::scratch_len(numbers, keys, group::most_keys(layout, true), dropout);
    forward::scratch_len(numbers, keys, dropout).max(backward)
}

/// Numbers of the work space that [`attention_backward`] needs; with `past` it gives the gradients of the past, too.
pub fn attention_backward_work_len(layout: &Layout, shape: &AttentionShape, dtype: Dtype, past: bool) -> usize {
    let numbers = Numbers { isa: Isa::detect(), dtype, head_dim: shape.head_dim };
    group::parts_len(layout, numbers.columns(), shape.kv_heads, past)
}

/// `out` `[queries, heads * head_dim]` and `log_sum_exp` `[queries, heads]` from `q` (like `out`) and `kv`, all rows of
/// the same dtype. In bf16 what is multiplied is rounded, sums and softmax are f32; the numbers of a head are even.
/// Scratch: [`attention_scratch_len`].
pub fn attention(
    ctx: &Context,
    out: RowsMut,
    log_sum_exp: &mut [f32],
    q: Rows,
    kv: KeysValues,
    layout: Layout,
    shape: AttentionShape,
    dropout: Option<Dropout>,
) {
    let numbers = Numbers { isa: ctx.isa(), dtype: q.dtype(), head_dim: shape.head_dim };
    let problem = Problem { numbers, q, kv, layout, shape, dropout };
    problem.check();
    let out = written(out, q);
    assert_eq!(log_sum_exp.len(), layout.query_rows.len() * shape.heads);
    let log_sum_exp = Disjoint::new(log_sum_exp);
    ctx.run(work::items(work::of_spans(&layout, &shape)), |item, scratch| {
        work::visit(item, work::of_spans(&layout, &shape), |span, unit| {
            let (key_head, queries) = work::queries_of(&layout, *span, unit);
            forward::queries(&problem, &out, &log_sum_exp, *span, queries, key_head, scratch);
        });
    });
}

/// Gradients of [`attention`]: `d_q` like `q`, `d_k` and `d_v` like `k`, and `d_past` (of `past_k` and `past_v`) when
/// asked for. `log_sum_exp` is what the forward gave, `d_out` the gradient of its output, `work` has
/// [`attention_backward_work_len`] numbers. Rows that nobody sees get zeros.
pub fn attention_backward(
    ctx: &Context,
    d_q: RowsMut,
    d_k: RowsMut,
    d_v: RowsMut,
    d_past: Option<(RowsMut, RowsMut)>,
    work: &mut [f32],
    d_out: Rows,
    q: Rows,
    kv: KeysValues,
    log_sum_exp: &[f32],
    layout: Layout,
    shape: AttentionShape,
    dropout: Option<Dropout>,
) {
    let numbers = Numbers { isa: ctx.isa(), dtype: q.dtype(), head_dim: shape.head_dim };
    let problem = Problem { numbers, q, kv, layout, shape, dropout };
    problem.check();
    assert_eq!((d_out.dtype(), d_out.memory().len()), (q.dtype(), q.memory().len()));
    assert_eq!(log_sum_exp.len(), layout.query_rows.len() * shape.heads);
    let saved = backward::Saved { d_out, log_sum_exp };
    let d_past = d_past.map(|(d_k, d_v)| (written(d_k, kv.past_k), written(d_v, kv.past_v)));
    let past = d_past.as_ref().map_or(0, |_| kv.past_k.memory().len() / problem.key_row());
    let parts = group::parts_len(&layout, numbers.columns(), shape.kv_heads, past > 0);
    let to = Gradients {
        d_q: written(d_q, q),
        d_k: written(d_k, kv.k),
        d_v: written(d_v, kv.v),
        parts: Disjoint::new(&mut work[..parts]),
    };
    let sources = || work::of_groups(&layout, &shape, past > 0);
    ctx.run(work::items(sources()), |item, scratch| {
        work::visit(item, sources(), |group, key_head| {
            backward::group(&problem, &to, &saved, group, key_head, scratch);
        });
    });
    if parts > 0 || past > 0 {
        ctx.run(shape.kv_heads, |key_head, scratch| {
            group::add_parts(&problem, &to, d_past.as_ref(), past, key_head, scratch);
        });
    }
}

/// A matrix to write that is like `x`.
fn written<'a>(to: RowsMut<'a>, x: Rows) -> Disjoint<'a> {
    assert_eq!(to.dtype(), x.dtype(), "what goes in and what comes out has one dtype");
    let to = to.memory();
    assert_eq!(to.len(), x.memory().len());
    Disjoint::new(to)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;
