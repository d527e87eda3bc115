//! The forward of one unit: some blocks of queries of one span, and the heads that read one key head.
#![allow(unsafe_code)] // Each unit writes its own part of the outputs.

use std::ops::Range;

use super::block::{Block, take};
use super::operands::Numbers;
use super::scores::{multiply, softmax};
use super::work::QUERY_BLOCK;
use super::{AttentionShape, Problem};
use crate::context::Disjoint;

/// Scratch of a unit whose queries see up to `keys` keys.
pub(super) fn scratch_len(numbers: Numbers, keys: usize, dropout: bool) -> usize {
    // In bf16 the scores are there a second time, rounded.
    let scores = 2 + usize::from(dropout);
    2 * keys * numbers.stride()
        + numbers.along_len(keys)
        + (3 * numbers.columns() + scores * (keys + 1) + 4) * QUERY_BLOCK
}

/// Output and log-sum-exp of one unit.
pub(super) fn queries(
    problem: &Problem,
    out: &Disjoint,
    log_sum_exp: &Disjoint,
    span: usize,
    queries: Range<usize>,
    key_head: usize,
    mut scratch: &mut [f32],
) {
    let numbers = problem.numbers;
    let end = problem.end(span, &queries);
    let keys = problem.layout.keys_up_to(span, end);
    let [k, v] = std::array::from_fn(|_| take(&mut scratch, keys * numbers.stride()));
    problem.load_keys(k, span, end, key_head);
    problem.load_values(v, span, end, key_head);
    let v = numbers.along(take(&mut scratch, numbers.along_len(keys)), v, keys);
    for head in problem.heads_of(key_head) {
        for start in queries.clone().step_by(QUERY_BLOCK) {
            let queries = start..queries.end.min(start + QUERY_BLOCK);
            block(problem, out, log_sum_exp, (k, v), span, queries, head, scratch);
        }
    }
}

fn block(
    problem: &Problem,
    out: &Disjoint,
    log_sum_exp: &Disjoint,
    (k, v): (&[f32], &[f32]),
    span: usize,
    queries: Range<usize>,
    head: usize,
    mut scratch: &mut [f32],
) {
    let AttentionShape { heads, scale, .. } = problem.shape;
    let numbers = problem.numbers;
    let block = Block::new(problem, span, queries.clone(), head, &mut scratch);
    let [sums, inverse] = std::array::from_fn(|_| take(&mut scratch, QUERY_BLOCK));
    let [rows, q, y] = std::array::from_fn(|_| take(&mut scratch, numbers.columns() * QUERY_BLOCK));
    let scores = take(&mut scratch, block.keys * QUERY_BLOCK);
    let (first, row) = (block.first(problem), problem.query_row());
    numbers.load_rows(rows, problem.q.memory(), first, row, queries.len());
    numbers.transpose(q, rows, queries.len());

    block.dot_products(problem, scores, k, q);
    block.hide(problem, scores);
    softmax(numbers.isa, scores, sums, inverse, QUERY_BLOCK, block.width, block.keys, scale);
    if let Some(multipliers) = block.multipliers(problem, scratch) {
        multiply(numbers.isa, scores, multipliers, QUERY_BLOCK, block.width, block.keys);
    }
    block.weigh(problem, y, scores, v, scratch);
    numbers.store_rows(out, first, row, y, queries.len(), &|i| inverse[i]);
    for (sum, query) in sums.iter().zip(queries) {
        let at = query * heads + head;
        // SAFETY: this unit alone writes its queries' numbers of this head.
        let to = unsafe { log_sum_exp.slice(at..at + 1) };
        to[0] = *sum;
    }
}
