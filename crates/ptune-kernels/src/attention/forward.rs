//! The forward of one unit: a block of queries of one span and one head. Lanes are queries, rows of scores are keys.
#![allow(unsafe_code)] // Each unit writes its own part of the outputs.

use std::ops::Range;

use super::blocks::{Hidden, hide, softmax, take, transpose};
use super::dropout::Mask;
use super::layout::{Kind, Segment};
use super::product::{Left, Sizes, product};
use super::work::QUERY_BLOCK;
use super::{AttentionShape, Problem};
use crate::context::Disjoint;

/// Scratch of a unit whose queries see up to `keys` keys.
pub(super) fn scratch_len(keys: usize, shape: &AttentionShape) -> usize {
    (shape.head_dim + keys + shape.head_dim.next_multiple_of(16) + 4) * QUERY_BLOCK
}

/// A block of queries, and what hiding needs to know of each.
pub(super) struct Block<'a> {
    pub(super) span: usize,
    pub(super) head: usize,
    pub(super) queries: Range<usize>,
    /// Lanes in use, whole vectors.
    pub(super) width: usize,
    /// Their own rows up to here are seen by at least one query.
    pub(super) end: usize,
    rows: &'a [f32],
    positions: &'a [f32],
}

impl<'a> Block<'a> {
    /// Takes `2 * QUERY_BLOCK` numbers of scratch.
    pub(super) fn new(
        problem: &Problem,
        span: usize,
        queries: Range<usize>,
        head: usize,
        scratch: &mut &'a mut [f32],
    ) -> Self {
        let layout = &problem.layout;
        let (rows, positions) = (take(scratch, QUERY_BLOCK), take(scratch, QUERY_BLOCK));
        let mut end = layout.spans[span].rows.end;
        for (i, row) in layout.query_rows[queries.clone()].iter().enumerate() {
            rows[i] = *row as f32;
            positions[i] = layout.positions[*row as usize] as f32;
            if problem.shape.causal {
                end = *row as usize + 1;
            }
        }
        let width = queries.len().next_multiple_of(problem.isa.lanes());
        Block { span, head, queries, width, end, rows, positions }
    }

    /// The row of the i-th query.
    fn row(&self, problem: &Problem, i: usize) -> usize {
        problem.layout.query_rows[self.queries.start + i] as usize
    }

    /// The keys that the block sees, in order.
    pub(super) fn segments(&self, problem: &Problem) -> impl Iterator<Item = Segment> {
        problem.layout.segments(self.span, self.end).filter(|segment| !segment.keys.is_empty())
    }

    /// `scores[j, i] = k_j q_i` over all keys j that the block sees, hidden ones minus infinity. `q` is transposed.
    /// Returns the number of keys.
    pub(super) fn scores(&self, problem: &Problem, scores: &mut [f32], q: &[f32]) -> usize {
        let mut keys = 0;
        for segment in self.segments(problem) {
            let part = &mut scores[segment.ordinal * QUERY_BLOCK..];
            self.dot_products(problem, part, q, problem.keys(&segment, self.head), segment.keys.len());
            self.hide(problem, part, &segment);
            keys = segment.ordinal + segment.keys.len();
        }
        keys
    }

    /// `y[j, i] = x_j q_i` for `rows` rows of x; `q` is transposed.
    pub(super) fn dot_products(&self, problem: &Problem, y: &mut [f32], q: &[f32], x: &[f32], rows: usize) {
        let left = Left { data: x, row: problem.key_columns(), step: 1 };
        let sizes = Sizes { rows, columns: self.width, depth: problem.shape.head_dim };
        product(problem.isa, y, QUERY_BLOCK, left, q, QUERY_BLOCK, sizes, false);
    }

    /// `y[i] += sum_j weights[j, i] x_j` over the keys of a segment, or `y[i] =` for the first.
    pub(super) fn weigh(&self, problem: &Problem, y: &mut [f32], weights: &[f32], x: &[f32], segment: &Segment) {
        let head_dim = problem.shape.head_dim;
        let left = Left { data: &weights[segment.ordinal * QUERY_BLOCK..], row: 1, step: QUERY_BLOCK };
        let sizes = Sizes { rows: self.queries.len(), columns: head_dim, depth: segment.keys.len() };
        let y_row = head_dim.next_multiple_of(16);
        product(problem.isa, y, y_row, left, x, problem.key_columns(), sizes, segment.ordinal > 0);
    }

    fn hide(&self, problem: &Problem, scores: &mut [f32], segment: &Segment) {
        let Segment { kind, keys, .. } = segment;
        if *kind == Kind::Own && problem.shape.causal {
            // Keys up to the first query are seen by all.
            let first = self.row(problem, 0) + 1;
            let later = &mut scores[(first - keys.start) * QUERY_BLOCK..];
            let rows = keys.end - first;
            let row = |r: usize| (first + r) as f32;
            hide(problem.isa, later, QUERY_BLOCK, self.width, rows, self.rows, &row, Hidden::Later);
        }
        if let Some(hidden) = problem.window() {
            let positions = problem.layout.positions;
            let row = |r: usize| match kind {
                Kind::Past => r as f32,
                _ => positions[keys.start + r] as f32,
            };
            hide(problem.isa, scores, QUERY_BLOCK, self.width, keys.len(), self.positions, &row, hidden);
        }
    }

    /// Multiplies `x[j, i]` by the dropout multiplier of key j and query i.
    pub(super) fn drop_out(&self, problem: &Problem, x: &mut [f32], keys: usize) {
        let Some(dropout) = &problem.dropout else { return };
        let mask = Mask::new(dropout, self.span, self.head);
        for i in 0..self.queries.len() {
            let row = self.row(problem, i) - problem.layout.spans[self.span].rows.start;
            mask.multipliers(row, 0, keys, |j, m| x[j * QUERY_BLOCK + i] *= m);
        }
    }
}

impl Problem<'_> {
    /// What the window hides.
    pub(super) fn window(&self) -> Option<Hidden> {
        let hidden = |w| if self.shape.causal { Hidden::Far(w as f32) } else { Hidden::Apart((w / 2) as f32) };
        self.shape.window.map(hidden)
    }

    /// The keys of a segment from the first on, of the key head that `head` reads.
    pub(super) fn keys(&self, segment: &Segment, head: usize) -> &[f32] {
        let k = if segment.kind == Kind::Past { self.kv.past_k } else { self.kv.k };
        &k[segment.keys.start * self.key_columns() + self.key_head(head) * self.shape.head_dim..]
    }

    /// The values, likewise.
    pub(super) fn values(&self, segment: &Segment, head: usize) -> &[f32] {
        let v = if segment.kind == Kind::Past { self.kv.past_v } else { self.kv.v };
        &v[segment.keys.start * self.key_columns() + self.key_head(head) * self.shape.head_dim..]
    }

    /// A matrix like q from a query on, of one head.
    pub(super) fn queries<'a>(&self, x: &'a [f32], query: usize, head: usize) -> &'a [f32] {
        &x[query * self.query_columns() + head * self.shape.head_dim..]
    }
}

/// Output and log-sum-exp of one unit.
pub(super) fn queries(
    problem: &Problem,
    out: &Disjoint,
    log_sum_exp: &Disjoint,
    span: usize,
    queries: Range<usize>,
    head: usize,
    mut scratch: &mut [f32],
) {
    let AttentionShape { heads, head_dim, scale, .. } = problem.shape;
    let block = Block::new(problem, span, queries.clone(), head, &mut scratch);
    let (max, sum) = (take(&mut scratch, QUERY_BLOCK), take(&mut scratch, QUERY_BLOCK));
    let q = take(&mut scratch, head_dim * QUERY_BLOCK);
    let y = take(&mut scratch, head_dim.next_multiple_of(16) * QUERY_BLOCK);
    let scores = scratch;
    let x = problem.queries(problem.q, queries.start, head);
    transpose(problem.isa, q, QUERY_BLOCK, x, problem.query_columns(), queries.len(), head_dim);

    let keys = block.scores(problem, scores, q);
    softmax(problem.isa, scores, max, sum, QUERY_BLOCK, block.width, keys, scale);
    block.drop_out(problem, scores, keys);
    for segment in block.segments(problem) {
        block.weigh(problem, y, scores, problem.values(&segment, head), &segment);
    }
    for (i, query) in queries.enumerate() {
        let at = query * problem.query_columns() + head * head_dim;
        // SAFETY: this unit alone writes its queries' numbers of this head.
        let (out, log_sum_exp) = unsafe {
            (out.slice(at..at + head_dim), log_sum_exp.slice(query * heads + head..query * heads + head + 1))
        };
        let inverse = 1.0 / sum[i];
        for (out, y) in out.iter_mut().zip(&y[i * head_dim.next_multiple_of(16)..]) {
            *out = y * inverse;
        }
        // The logarithm in f64, rounded once: what a platform's f32 logarithm returns differs.
        log_sum_exp[0] = (f64::from(max[i]) + f64::from(sum[i]).ln()) as f32;
    }
}
