//! The backward of one unit: a group of spans and a key head. Block of queries after block of queries, in row order:
//! `S = K q`, `dP = V d_out`, `d_q = dS^T K`, and the block's part of `d_k = dS q` and `d_v = P m d_out` is added to the
//! sums of the keys that it sees.

use std::ops::Range;

use super::block::{Block, take};
use super::group::Group;
use super::operands::Numbers;
use super::product::{Left, Sizes};
use super::scores::gradients;
use super::work::QUERY_BLOCK;
use super::{AttentionShape, Problem};
use crate::Rows;
use crate::context::Disjoint;

/// What the forward saved and what came back.
pub(super) struct Saved<'a> {
    pub(super) d_out: Rows<'a>,
    pub(super) log_sum_exp: &'a [f32],
}

/// What the units write.
pub(super) struct Gradients<'a> {
    pub(super) d_q: Disjoint<'a>,
    pub(super) d_k: Disjoint<'a>,
    pub(super) d_v: Disjoint<'a>,
    /// Sums of shared keys, see `group.rs`.
    pub(super) parts: Disjoint<'a>,
}

/// Scratch of a unit whose queries see up to `keys` keys and that sums up the gradients of `sums` keys.
pub(super) fn scratch_len(numbers: Numbers, keys: usize, sums: usize, dropout: bool) -> usize {
    // In bf16 they are there a second time, rounded.
    let scores = 3 + usize::from(dropout);
    2 * numbers.columns() * sums
        + 2 * keys * numbers.stride()
        + numbers.along_len(keys)
        + (7 * numbers.columns() + scores * (keys + 1) + 3) * QUERY_BLOCK
}

/// The gradients of one unit.
pub(super) fn group(
    problem: &Problem,
    to: &Gradients,
    saved: &Saved,
    group: &Group,
    key_head: usize,
    mut scratch: &mut [f32],
) {
    let (numbers, layout) = (problem.numbers, &problem.layout);
    let [sum_k, sum_v] = std::array::from_fn(|_| take(&mut scratch, group.keys() * numbers.columns()));
    sum_k.fill(0.0);
    sum_v.fill(0.0);
    for span in group.spans.clone() {
        let queries = layout.queries(layout.spans[span].rows.clone());
        if queries.is_empty() {
            continue;
        }
        let end = problem.end(span, &queries);
        let (keys, mut scratch) = (layout.keys_up_to(span, end), &mut *scratch);
        let [k, v] = std::array::from_fn(|_| take(&mut scratch, keys * numbers.stride()));
        problem.load_keys(k, span, end, key_head);
        problem.load_values(v, span, end, key_head);
        let k_along = numbers.along(take(&mut scratch, numbers.along_len(keys)), k, keys);
        for head in problem.heads_of(key_head) {
            for start in queries.clone().step_by(QUERY_BLOCK) {
                let queries = start..queries.end.min(start + QUERY_BLOCK);
                block(problem, to, saved, group, (sum_k, sum_v), (k, k_along, v), span, queries, head, scratch);
            }
        }
    }
    group.store(problem, to, sum_k, sum_v, key_head);
}

fn block(
    problem: &Problem,
    to: &Gradients,
    saved: &Saved,
    group: &Group,
    (sum_k, sum_v): (&mut [f32], &mut [f32]),
    (k, k_along, v): (&[f32], &[f32], &[f32]),
    span: usize,
    queries: Range<usize>,
    head: usize,
    mut scratch: &mut [f32],
) {
    let AttentionShape { heads, scale, .. } = problem.shape;
    let (numbers, columns, n) = (problem.numbers, problem.numbers.columns(), queries.len());
    let block = Block::new(problem, span, queries.clone(), head, &mut scratch);
    let log_sum_exp = take(&mut scratch, QUERY_BLOCK);
    let [q, d_out, q_rows, d_rows, y] = std::array::from_fn(|_| take(&mut scratch, columns * QUERY_BLOCK));
    let [q_along, d_along] = std::array::from_fn(|_| take(&mut scratch, numbers.along_len(n)));
    let [scores, d_scores] = std::array::from_fn(|_| take(&mut scratch, block.keys * QUERY_BLOCK));
    let (first, row) = (block.first(problem), problem.query_row());
    numbers.load_rows(q_rows, problem.q.memory(), first, row, n);
    numbers.load_rows(d_rows, saved.d_out.memory(), first, row, n);
    numbers.transpose(q, q_rows, n);
    numbers.transpose(d_out, d_rows, n);
    for (sum, query) in log_sum_exp.iter_mut().zip(queries) {
        *sum = saved.log_sum_exp[query * heads + head];
    }
    log_sum_exp[n..].fill(f32::INFINITY);

    block.dot_products(problem, scores, k, q);
    block.hide(problem, scores);
    block.dot_products(problem, d_scores, v, d_out);
    let multipliers = block.multipliers(problem, scratch);
    gradients(numbers.isa, scores, d_scores, multipliers, log_sum_exp, QUERY_BLOCK, block.width, block.keys, scale);
    block.weigh(problem, y, d_scores, k_along, scratch);
    numbers.store_rows(&to.d_q, first, row, y, n, &|_| scale);
    let (q, d_out) = (numbers.along(q_along, q_rows, n), numbers.along(d_along, d_rows, n));
    for (sums, scores, x) in [(sum_k, d_scores, q), (sum_v, scores, d_out)] {
        let weights = numbers.over_queries(scratch, scores, block.width, block.keys);
        for segment in block.segments(problem) {
            let Some(at) = group.place(&segment) else { continue };
            let left = Left { data: &weights.data[segment.ordinal * weights.row..], ..weights };
            let sizes = Sizes { rows: segment.keys.len(), columns, depth: n };
            numbers.product(&mut sums[at * columns..], columns, left, x, columns, sizes, true);
        }
    }
}
