//! A block of queries of one span and one head against the keys that it sees: scores, hiding, dropout.
//!
//! Lanes are queries and rows of scores are keys, in the order of their ordinals.

use std::ops::Range;

use super::Problem;
use super::dropout::Mask;
use super::layout::{Kind, Segment};
use super::product::{Left, Sizes};
use super::scores::{Hidden, hide};
use super::work::QUERY_BLOCK;
use crate::Rows;

/// The next `len` numbers of scratch, starting on a cache line.
pub(super) fn take<'a>(scratch: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (part, rest) = std::mem::take(scratch).split_at_mut(len.next_multiple_of(16));
    *scratch = rest;
    part
}

/// A block of queries, and what hiding needs to know of each.
pub(super) struct Block<'a> {
    pub(super) span: usize,
    pub(super) head: usize,
    pub(super) queries: Range<usize>,
    /// Lanes in use, whole vectors.
    pub(super) width: usize,
    /// Keys that at least one of the queries sees.
    pub(super) keys: usize,
    /// Their own rows up to here are among them.
    end: usize,
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
        for (i, row) in layout.query_rows[queries.clone()].iter().enumerate() {
            rows[i] = *row as f32;
            positions[i] = layout.positions[*row as usize] as f32;
        }
        let width = queries.len().next_multiple_of(problem.numbers.isa.lanes());
        let end = problem.end(span, &queries);
        let keys = layout.keys_up_to(span, end);
        Block { span, head, queries, width, keys, end, rows, positions }
    }

    /// The row of the i-th query.
    fn row(&self, problem: &Problem, i: usize) -> usize {
        problem.layout.query_rows[self.queries.start + i] as usize
    }

    /// The keys that the block sees, in order.
    pub(super) fn segments(&self, problem: &Problem) -> impl Iterator<Item = Segment> {
        problem.layout.segments(self.span, self.end).filter(|segment| !segment.keys.is_empty())
    }

    /// Where the block's numbers of its head begin in a matrix like q, in places.
    pub(super) fn first(&self, problem: &Problem) -> usize {
        self.queries.start * problem.query_row() + problem.place(self.head)
    }

    /// `y[j, i] = x_j q_i` over all keys j; `q` is transposed.
    pub(super) fn dot_products(&self, problem: &Problem, y: &mut [f32], rows: &[f32], q: &[f32]) {
        let numbers = problem.numbers;
        let left = Left { data: rows, row: numbers.stride(), step: 1 };
        let sizes = Sizes { rows: self.keys, columns: self.width, depth: numbers.head_dim };
        numbers.product(y, QUERY_BLOCK, left, q, QUERY_BLOCK, sizes, false);
    }

    /// `y[i] = sum_j scores[j, i] x_j` over all keys j; takes scratch in bf16.
    pub(super) fn weigh(&self, problem: &Problem, y: &mut [f32], scores: &[f32], along: &[f32], scratch: &mut [f32]) {
        let (numbers, columns) = (problem.numbers, problem.numbers.columns());
        let left = numbers.over_keys(scratch, scores, self.width, self.keys);
        let sizes = Sizes { rows: self.queries.len(), columns, depth: self.keys };
        numbers.product(y, columns, left, along, columns, sizes, false);
    }

    /// Sets the scores of keys that a query does not see to minus infinity.
    pub(super) fn hide(&self, problem: &Problem, scores: &mut [f32]) {
        for Segment { kind, keys, ordinal } in self.segments(problem) {
            if kind == Kind::Own && problem.shape.causal {
                // Keys up to the first query are seen by all.
                let first = self.row(problem, 0) + 1;
                let later = &mut scores[(ordinal + first - keys.start) * QUERY_BLOCK..];
                let row = |r: usize| (first + r) as f32;
                hide(
                    problem.numbers.isa,
                    later,
                    QUERY_BLOCK,
                    self.width,
                    keys.end - first,
                    self.rows,
                    &row,
                    Hidden::Later,
                );
            }
            if let Some(hidden) = problem.window() {
                let positions = problem.layout.positions;
                let row = |r: usize| match kind {
                    Kind::Past => r as f32,
                    _ => positions[keys.start + r] as f32,
                };
                let scores = &mut scores[ordinal * QUERY_BLOCK..];
                hide(problem.numbers.isa, scores, QUERY_BLOCK, self.width, keys.len(), self.positions, &row, hidden);
            }
        }
    }

    /// Writes the dropout multipliers `m[j, i]` of key j and query i, zeros behind the last query, when there is dropout.
    pub(super) fn multipliers<'m>(&self, problem: &Problem, m: &'m mut [f32]) -> Option<&'m [f32]> {
        let mask = Mask::new(problem.dropout.as_ref()?, self.span, self.head);
        for m in m.chunks_exact_mut(QUERY_BLOCK).take(self.keys) {
            m[self.queries.len()..].fill(0.0);
        }
        for i in 0..self.queries.len() {
            let row = self.row(problem, i) - problem.layout.spans[self.span].rows.start;
            mask.multipliers(row, self.keys, |j, multiplier| m[j * QUERY_BLOCK + i] = multiplier);
        }
        Some(m)
    }
}

impl Problem<'_> {
    /// Where the own rows end that at least one of these queries of a span sees.
    pub(super) fn end(&self, span: usize, queries: &Range<usize>) -> usize {
        match self.layout.query_rows[queries.clone()].last() {
            Some(last) if self.shape.causal => *last as usize + 1,
            _ => self.layout.spans[span].rows.end,
        }
    }

    /// What the window hides.
    fn window(&self) -> Option<Hidden> {
        let hidden = |w| if self.shape.causal { Hidden::Far(w as f32) } else { Hidden::Apart((w / 2) as f32) };
        self.shape.window.map(hidden)
    }

    /// Copies the keys of a span, its own up to `end`, in the order of their ordinals.
    pub(super) fn load_keys(&self, to: &mut [f32], span: usize, end: usize, key_head: usize) {
        self.load(to, self.kv.k, self.kv.past_k, span, end, key_head);
    }

    /// Its values, likewise.
    pub(super) fn load_values(&self, to: &mut [f32], span: usize, end: usize, key_head: usize) {
        self.load(to, self.kv.v, self.kv.past_v, span, end, key_head);
    }

    fn load(&self, to: &mut [f32], batch: Rows, past: Rows, span: usize, end: usize, key_head: usize) {
        let (numbers, row) = (self.numbers, self.key_row());
        for Segment { kind, keys, ordinal } in self.layout.segments(span, end).filter(|s| !s.keys.is_empty()) {
            let x = if kind == Kind::Past { past } else { batch };
            let first = keys.start * row + self.place(key_head);
            numbers.load_rows(&mut to[ordinal * numbers.stride()..], x.memory(), first, row, keys.len());
        }
    }
}
