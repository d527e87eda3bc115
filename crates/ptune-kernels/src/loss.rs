//! Softmax, its cross-entropy with one target column a row, and log-probabilities at chosen places.
//!
//! `log_sum_exp = m + ln sum_j exp(x_j - m)` with the row's maximum m; `loss = log_sum_exp - x_target`;
//! `d_x_j = (exp(x_j - log_sum_exp) - [j = target]) * scale`. A logit of minus infinity is a column left out.
//!
//! A log-probability is `x_c - log_sum_exp`. With D_c the sum of the gradients of those that were read at column c of a
//! row, and D that of the whole row, `d_x_c = D_c - D exp(x_c - log_sum_exp)`.

use crate::Context;
use crate::context::rows_per_item;
use crate::isa::isa_shells;
use crate::math::exp;
use crate::simd::{Simd, load_up_to, load_up_to_or, store_up_to};

/// Losses and log-sum-exps (both `[rows]`) of `logits` `[rows, columns]` against one target column a row. The mean or
/// sum over rows is the caller's.
pub fn softmax_cross_entropy(
    ctx: &Context,
    losses: &mut [f32],
    log_sum_exp: &mut [f32],
    logits: &[f32],
    targets: &[u32],
    columns: usize,
) {
    let rows = targets.len();
    assert_eq!(logits.len(), rows * columns);
    assert!(targets.iter().all(|t| (*t as usize) < columns));
    ctx.run_rows(rows, rows_per_item(columns), [(losses, 1), (log_sum_exp, 1)], |range, [losses, sums], _| {
        for (i, row) in range.enumerate() {
            let logits = &logits[row * columns..(row + 1) * columns];
            let (max, sum) = row_max_and_sum(ctx.isa(), logits);
            // The logarithm in f64, rounded once: what a platform's f32 logarithm returns differs.
            sums[i] = (f64::from(max) + f64::from(sum).ln()) as f32;
            losses[i] = sums[i] - logits[targets[row] as usize];
        }
    });
}

/// `d_logits = (softmax - onehot(target)) * scale`, all `[rows, columns]`, from the `log_sum_exp` of the forward.
pub fn softmax_cross_entropy_backward(
    ctx: &Context,
    d_logits: &mut [f32],
    logits: &[f32],
    log_sum_exp: &[f32],
    targets: &[u32],
    scale: f32,
    columns: usize,
) {
    let rows = targets.len();
    assert_eq!((logits.len(), log_sum_exp.len()), (rows * columns, rows));
    assert!(targets.iter().all(|t| (*t as usize) < columns));
    ctx.run_rows(rows, rows_per_item(columns), [(d_logits, columns)], |range, [d_logits], _| {
        for (row, d_logits) in range.zip(d_logits.chunks_exact_mut(columns)) {
            let logits = &logits[row * columns..(row + 1) * columns];
            let target = targets[row] as usize;
            row_probabilities(ctx.isa(), d_logits, logits, log_sum_exp[row], scale);
            // Near the optimum the probability is close to one, and `exp_m1` keeps the digits of what is missing.
            d_logits[target] = f64::from(logits[target] - log_sum_exp[row]).exp_m1() as f32 * scale;
        }
    });
}

/// `values[i] = logits[row, column] - log_sum_exp[row]` for the i-th of the `places` (row, column), in any order and as
/// often as wanted; `log_sum_exp` is `[rows]`, `logits` `[rows, columns]`.
pub fn log_probabilities(
    ctx: &Context,
    values: &mut [f32],
    log_sum_exp: &mut [f32],
    logits: &[f32],
    places: &[(u32, u32)],
    columns: usize,
) {
    let rows = log_sum_exp.len();
    assert_eq!((logits.len(), values.len()), (rows * columns, places.len()));
    assert!(places.iter().all(|(row, column)| (*row as usize) < rows && (*column as usize) < columns));
    ctx.run_rows(rows, rows_per_item(columns), [(&mut *log_sum_exp, 1)], |range, [sums], _| {
        for (sum_of_row, row) in sums.iter_mut().zip(range) {
            let (max, sum) = row_max_and_sum(ctx.isa(), &logits[row * columns..(row + 1) * columns]);
            *sum_of_row = (f64::from(max) + f64::from(sum).ln()) as f32;
        }
    });
    for (value, (row, column)) in values.iter_mut().zip(places) {
        *value = logits[*row as usize * columns + *column as usize] - log_sum_exp[*row as usize];
    }
}

/// `d_logits` `[rows, columns]` of [`log_probabilities`] from the gradients of its values: `chosen` is (row, column,
/// gradient) by row and column.
pub fn log_probabilities_backward(
    ctx: &Context,
    d_logits: &mut [f32],
    logits: &[f32],
    log_sum_exp: &[f32],
    chosen: &[(u32, u32, f32)],
    columns: usize,
) {
    let rows = log_sum_exp.len();
    assert_eq!((d_logits.len(), logits.len()), (logits.len(), rows * columns));
    assert!(chosen.is_sorted_by_key(|(row, column, _)| (*row, *column)));
    assert!(chosen.iter().all(|(row, column, _)| (*row as usize) < rows && (*column as usize) < columns));
    ctx.run_rows(rows, rows_per_item(columns), [(d_logits, columns)], |range, [d_logits], _| {
        for (row, d_logits) in range.zip(d_logits.chunks_exact_mut(columns)) {
            let logits = &logits[row * columns..(row + 1) * columns];
            let before = |end: usize| chosen.partition_point(|(row, ..)| (*row as usize) < end);
            let chosen = &chosen[before(row)..before(row + 1)];
            let sum = |chosen: &[(u32, u32, f32)]| chosen.iter().map(|(.., d)| f64::from(*d)).sum::<f64>();
            let total = sum(chosen);
            row_probabilities(ctx.isa(), d_logits, logits, log_sum_exp[row], -total as f32);
            for read in chosen.chunk_by(|(_, a, _), (_, b, _)| a == b) {
                let (column, here) = (read[0].1 as usize, sum(read));
                // D_c (1 - p) - (D - D_c) p keeps the digits of what is missing where p is close to one.
                let log_probability = f64::from(logits[column] - log_sum_exp[row]);
                let d = -here * log_probability.exp_m1() - (total - here) * log_probability.exp();
                d_logits[column] = d as f32;
            }
        }
    });
}

/// `probabilities = softmax(logits)`, both `[rows, columns]`.
pub fn softmax(ctx: &Context, probabilities: &mut [f32], logits: &[f32], columns: usize) {
    assert_eq!(probabilities.len(), logits.len());
    let rows = logits.len().checked_div(columns).unwrap_or(0);
    ctx.run_rows(rows, rows_per_item(columns), [(probabilities, columns)], |range, [probabilities], _| {
        for (row, probabilities) in range.zip(probabilities.chunks_exact_mut(columns)) {
            let logits = &logits[row * columns..(row + 1) * columns];
            let (max, sum) = row_max_and_sum(ctx.isa(), logits);
            row_probabilities(ctx.isa(), probabilities, logits, max, 1.0 / sum);
        }
    });
}

/// The maximum m of `x`, and the sum of `exp(x - m)`.
#[inline(always)]
fn max_and_sum_generic<S: Simd>(s: S, x: &[f32]) -> (f32, f32) {
    let low = f32::NEG_INFINITY;
    let mut max = s.splat(low);
    for i in (0..x.len()).step_by(S::LANES) {
        max = s.max(max, load_up_to_or(s, &x[i..], low));
    }
    let max = s.reduce_max(max);
    let shift = s.splat(max);
    let mut sum = s.splat(0.0);
    for i in (0..x.len()).step_by(S::LANES) {
        sum = s.add(sum, exp(s, s.sub(load_up_to_or(s, &x[i..], low), shift)));
    }
    (max, s.reduce_add(sum))
}

/// `y = exp(x - shift) * scale`.
#[inline(always)]
fn probabilities_generic<S: Simd>(s: S, y: &mut [f32], x: &[f32], shift: f32, scale: f32) {
    let (shift, scale) = (s.splat(shift), s.splat(scale));
    for i in (0..x.len()).step_by(S::LANES) {
        let v = exp(s, s.sub(load_up_to(s, &x[i..]), shift));
        store_up_to(s, s.mul(v, scale), &mut y[i..]);
    }
}

isa_shells! {
    fn row_max_and_sum(isa, x: &[f32]) -> (f32, f32) = max_and_sum_generic;
    fn row_probabilities(isa, y: &mut [f32], x: &[f32], shift: f32, scale: f32) = probabilities_generic;
}

#[cfg(test)]
mod tests;
