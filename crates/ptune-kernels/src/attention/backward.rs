//! The backward of one unit: d_q and delta of a block of queries (lanes are queries, as in the forward), or d_k and d_v
//! of a block of keys (lanes are keys).
#![allow(unsafe_code)] // Each unit writes its own part of the outputs.

use std::ops::Range;

use super::blocks::{Hidden, gradients_of_keys, gradients_of_queries, hide, take, transpose};
use super::dropout::Mask;
use super::forward::Block;
use super::product::{Left, Sizes, product};
use super::work::{KEY_BLOCK, QUERY_BLOCK};
use super::{AttentionShape, Problem};
use crate::context::Disjoint;

/// Queries that a block of keys takes at a time.
const QUERY_ROWS: usize = 64;

/// What the gradients of keys read besides the problem.
pub(super) struct Saved<'a> {
    pub(super) d_out: &'a [f32],
    pub(super) log_sum_exp: &'a [f32],
    pub(super) delta: &'a [f32],
}

/// Scratch of a unit of either kind, when spans see up to `keys` keys.
pub(super) fn scratch_len(keys: usize, shape: &AttentionShape) -> usize {
    let (head_dim, whole) = (shape.head_dim, shape.head_dim.next_multiple_of(16));
    let of_queries = (2 * head_dim + 2 * keys + whole + 4) * QUERY_BLOCK;
    let of_keys = 2 * (head_dim * KEY_BLOCK + 16) + 3 * QUERY_ROWS * KEY_BLOCK + 2 * whole * KEY_BLOCK + 2 * KEY_BLOCK;
    of_queries.max(of_keys)
}

/// d_q and delta of one unit.
pub(super) fn queries(
    problem: &Problem,
    d_q: &Disjoint,
    delta: &Disjoint,
    d_out: &[f32],
    log_sum_exp: &[f32],
    span: usize,
    queries: Range<usize>,
    head: usize,
    mut scratch: &mut [f32],
) {
    let AttentionShape { heads, head_dim, scale, .. } = problem.shape;
    let block = Block::new(problem, span, queries.clone(), head, &mut scratch);
    let (sums, deltas) = (take(&mut scratch, QUERY_BLOCK), take(&mut scratch, QUERY_BLOCK));
    let q = take(&mut scratch, head_dim * QUERY_BLOCK);
    let d = take(&mut scratch, head_dim * QUERY_BLOCK);
    let y = take(&mut scratch, head_dim.next_multiple_of(16) * QUERY_BLOCK);
    let scores = take(&mut scratch, problem.layout.keys(span) * QUERY_BLOCK);
    let d_scores = scratch;
    let (columns, n) = (problem.query_columns(), queries.len());
    transpose(problem.isa, q, QUERY_BLOCK, problem.queries(problem.q, queries.start, head), columns, n, head_dim);
    transpose(problem.isa, d, QUERY_BLOCK, problem.queries(d_out, queries.start, head), columns, n, head_dim);
    for (sum, query) in sums.iter_mut().zip(queries.clone()) {
        *sum = log_sum_exp[query * heads + head];
    }

    let keys = block.scores(problem, scores, q);
    for segment in block.segments(problem) {
        let part = &mut d_scores[segment.ordinal * QUERY_BLOCK..];
        block.dot_products(problem, part, d, problem.values(&segment, head), segment.keys.len());
    }
    block.drop_out(problem, d_scores, keys);
    gradients_of_queries(problem.isa, scores, d_scores, deltas, sums, QUERY_BLOCK, block.width, keys, scale);
    for segment in block.segments(problem) {
        block.weigh(problem, y, d_scores, problem.keys(&segment, head), &segment);
    }
    for (i, query) in queries.enumerate() {
        let at = query * columns + head * head_dim;
        // SAFETY: this unit alone writes its queries' numbers of this head.
        let (d_q, delta) =
            unsafe { (d_q.slice(at..at + head_dim), delta.slice(query * heads + head..query * heads + head + 1)) };
        for (d_q, y) in d_q.iter_mut().zip(&y[i * head_dim.next_multiple_of(16)..]) {
            *d_q = y * scale;
        }
        delta[0] = deltas[i];
    }
}

/// d_k and d_v of one unit: the rows `keys` of the span `owner` or, without one, of the past; key head `key_head`.
pub(super) fn keys(
    problem: &Problem,
    d_k: &Disjoint,
    d_v: &Disjoint,
    saved: &Saved,
    owner: Option<usize>,
    keys: Range<usize>,
    key_head: usize,
    mut scratch: &mut [f32],
) {
    let AttentionShape { heads, kv_heads, head_dim, scale, .. } = problem.shape;
    let (columns, whole) = (problem.key_columns(), head_dim.next_multiple_of(16));
    // A part of the block may start in the middle of a vector: whole vectors from there must be readable.
    let k = take(&mut scratch, head_dim * KEY_BLOCK + 16);
    let v = take(&mut scratch, head_dim * KEY_BLOCK + 16);
    let sum_k = take(&mut scratch, whole * KEY_BLOCK);
    let sum_v = take(&mut scratch, whole * KEY_BLOCK);
    let (all_k, all_v) = match owner {
        Some(_) => (problem.kv.k, problem.kv.v),
        None => (problem.kv.past_k, problem.kv.past_v),
    };
    let first = keys.start * columns + key_head * head_dim;
    transpose(problem.isa, k, KEY_BLOCK, &all_k[first..], columns, keys.len(), head_dim);
    transpose(problem.isa, v, KEY_BLOCK, &all_v[first..], columns, keys.len(), head_dim);
    sum_k[..whole * keys.len()].fill(0.0);
    sum_v[..whole * keys.len()].fill(0.0);

    let group = heads / kv_heads;
    for head in key_head * group..(key_head + 1) * group {
        for_each_part(problem, owner, &keys, |part| {
            let at = part.keys.start - keys.start;
            let (sum_k, sum_v) = (&mut sum_k[at * whole..], &mut sum_v[at * whole..]);
            part.add_gradients(problem, sum_k, sum_v, &k[at..], &v[at..], saved, head, scratch);
        });
    }
    for (i, key) in keys.enumerate() {
        let at = key * columns + key_head * head_dim;
        // SAFETY: this unit alone writes its keys' numbers of this head.
        let (d_k, d_v) = unsafe { (d_k.slice(at..at + head_dim), d_v.slice(at..at + head_dim)) };
        for d in 0..head_dim {
            d_k[d] = sum_k[i * whole + d] * scale;
            d_v[d] = sum_v[i * whole + d];
        }
    }
}

/// Keys of a block, and queries of one span that see them.
struct Part {
    /// The owner of the keys; none for the past.
    owner: Option<usize>,
    keys: Range<usize>,
    span: usize,
    queries: Range<usize>,
    /// The ordinal of the first key in that span.
    ordinal: usize,
}

/// Calls `f` for every span that sees some of the keys, in order, with blocks of its queries.
fn for_each_part(problem: &Problem, owner: Option<usize>, keys: &Range<usize>, mut f: impl FnMut(Part)) {
    let layout = &problem.layout;
    let end = owner.map_or(layout.positions.len(), |owner| layout.spans[owner].end);
    for (span, at) in layout.spans.iter().enumerate().skip(owner.unwrap_or(0)).take_while(|(_, s)| s.rows.start < end) {
        let mut rows = at.rows.clone();
        let (seen, ordinal) = match owner {
            Some(owner) => {
                if owner == span && problem.shape.causal {
                    rows.start = keys.start;
                }
                let before = at.past.len() + layout.keys_before(owner);
                (keys.clone(), before + keys.start - layout.spans[owner].rows.start)
            }
            None => {
                let start = keys.start.max(at.past.start);
                (start..keys.end.min(at.past.end), start - at.past.start)
            }
        };
        if seen.is_empty() {
            continue;
        }
        let queries = layout.queries(rows);
        for start in queries.clone().step_by(QUERY_ROWS) {
            let queries = start..queries.end.min(start + QUERY_ROWS);
            f(Part { owner, keys: seen.clone(), span, queries, ordinal });
        }
    }
}

impl Part {
    /// Adds what these queries contribute to the sums over queries of `dS q` and `P m d_out`. `k` and `v` are
    /// transposed and start at the first key.
    fn add_gradients(
        &self,
        problem: &Problem,
        sum_k: &mut [f32],
        sum_v: &mut [f32],
        k: &[f32],
        v: &[f32],
        saved: &Saved,
        head: usize,
        mut scratch: &mut [f32],
    ) {
        let AttentionShape { heads, head_dim, scale, .. } = problem.shape;
        let scores = take(&mut scratch, QUERY_ROWS * KEY_BLOCK);
        let d_scores = take(&mut scratch, QUERY_ROWS * KEY_BLOCK);
        let multipliers = take(&mut scratch, QUERY_ROWS * KEY_BLOCK);
        let (isa, start, n) = (problem.isa, self.queries.start, self.queries.len());
        let width = self.keys.len().next_multiple_of(isa.lanes());
        let q = problem.queries(problem.q, start, head);
        let d_out = problem.queries(saved.d_out, start, head);
        let columns = problem.query_columns();

        let sizes = Sizes { rows: n, columns: width, depth: head_dim };
        product(isa, scores, KEY_BLOCK, Left { data: q, row: columns, step: 1 }, k, KEY_BLOCK, sizes, false);
        product(isa, d_scores, KEY_BLOCK, Left { data: d_out, row: columns, step: 1 }, v, KEY_BLOCK, sizes, false);
        self.hide(problem, scores, width, scratch);
        let multipliers = self.multipliers(problem, multipliers, head);
        let query = |r: usize| {
            let at = (start + r) * heads + head;
            (saved.log_sum_exp[at], saved.delta[at])
        };
        gradients_of_keys(isa, scores, d_scores, multipliers, &query, KEY_BLOCK, width, n, scale);
        let sizes = Sizes { rows: self.keys.len(), columns: head_dim, depth: n };
        let whole = head_dim.next_multiple_of(16);
        let weights = |data| Left { data, row: 1, step: KEY_BLOCK };
        product(isa, sum_k, whole, weights(d_scores), q, columns, sizes, true);
        product(isa, sum_v, whole, weights(scores), d_out, columns, sizes, true);
    }

    /// Hides as the forward does. Distances are "query minus key" there and "lane minus row" here, where lanes are keys:
    /// so lanes and rows are taken negative.
    fn hide(&self, problem: &Problem, scores: &mut [f32], width: usize, mut scratch: &mut [f32]) {
        let lanes = take(&mut scratch, KEY_BLOCK);
        let layout = &problem.layout;
        let query_row = |r: usize| layout.query_rows[self.queries.start + r] as usize;
        let mut apply = |lanes: &[f32], row: &dyn Fn(usize) -> f32, hidden| {
            hide(problem.isa, scores, KEY_BLOCK, width, self.queries.len(), lanes, row, hidden);
        };
        if problem.shape.causal && self.owner == Some(self.span) && query_row(0) + 1 < self.keys.end {
            lanes.iter_mut().zip(self.keys.clone()).for_each(|(lane, key)| *lane = -(key as f32));
            apply(lanes, &|r| -(query_row(r) as f32), Hidden::Later);
        }
        if let Some(hidden) = problem.window() {
            let past = layout.spans[self.span].past.start;
            for (lane, key) in lanes.iter_mut().zip(self.keys.clone()) {
                let position = if self.owner.is_some() { layout.positions[key] as usize } else { key - past };
                *lane = -(position as f32);
            }
            apply(lanes, &|r| -(layout.positions[query_row(r)] as f32), hidden);
        }
    }

    /// The dropout multipliers of queries (rows) and keys (lanes), when there is dropout.
    fn multipliers<'a>(&self, problem: &Problem, multipliers: &'a mut [f32], head: usize) -> Option<&'a [f32]> {
        let mask = Mask::new(problem.dropout.as_ref()?, self.span, head);
        let first = problem.layout.spans[self.span].rows.start;
        for (r, query) in self.queries.clone().enumerate() {
            let row = problem.layout.query_rows[query] as usize - first;
            let multipliers = &mut multipliers[r * KEY_BLOCK..];
            mask.multipliers(row, self.ordinal, self.keys.len(), |i, m| multipliers[i] = m);
        }
        Some(multipliers)
    }
}
