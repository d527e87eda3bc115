//! What happens to a block of scores between the products: hiding, softmax, and its backward.
//!
//! A block is a matrix in scratch with rows of `stride` numbers, of which the first `width` (a multiple of the lanes)
//! count. Lanes are queries and rows are keys, except in [`gradients_of_keys`]. Lanes behind the last query or key hold
//! finite or undefined numbers that nobody reads.

use crate::Isa;
use crate::isa::isa_shells;
use crate::math::exp;
use crate::simd::Simd;
use crate::transpose::transposed;

/// Which scores are hidden, by the distance "lane minus row".
#[derive(Clone, Copy, Debug)]
pub(super) enum Hidden {
    /// A distance below zero: the key stands after the query.
    Later,
    /// A distance of at least this: outside a causal window.
    Far(f32),
    /// A distance of more than this to either side: outside a bidirectional window.
    Apart(f32),
}

/// The next `len` numbers of scratch, starting on a cache line.
pub(super) fn take<'a>(scratch: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (part, rest) = std::mem::take(scratch).split_at_mut(len.next_multiple_of(16));
    *scratch = rest;
    part
}

/// `y[d, i] = x[i, d]` for `rows` rows of `columns` numbers. Rows of `x` and `y` have `x_row` and `y_row` numbers; those
/// of `y` are zero behind the last row of `x`, up to a multiple of 16.
pub(super) fn transpose(isa: Isa, y: &mut [f32], y_row: usize, x: &[f32], x_row: usize, rows: usize, columns: usize) {
    transposed(isa, y, y_row, x, x_row, rows, columns);
    for d in 0..columns {
        y[d * y_row..][rows..rows.next_multiple_of(16)].fill(0.0);
    }
}

isa_shells! {
    /// Sets the hidden scores to minus infinity. `lanes` and `row` give what the distance is taken of.
    pub(super) fn hide(
        isa, scores: &mut [f32], stride: usize, width: usize, rows: usize, lanes: &[f32], row: &dyn Fn(usize) -> f32,
        hidden: Hidden,
    ) = hide_generic;
    /// Replaces scores by `e^(scale * score - max)`; `max` (of the scaled scores) and `sum` have `width` numbers.
    pub(super) fn softmax(
        isa, scores: &mut [f32], max: &mut [f32], sum: &mut [f32], stride: usize, width: usize, rows: usize,
        scale: f32,
    ) = softmax_generic;
    /// From scores and `d_scores = dP` makes P and dS, and `delta`; `log_sum_exp` and `delta` have `width` numbers.
    pub(super) fn gradients_of_queries(
        isa, scores: &mut [f32], d_scores: &mut [f32], delta: &mut [f32], log_sum_exp: &[f32], stride: usize,
        width: usize, rows: usize, scale: f32,
    ) = gradients_of_queries_generic;
    /// The same where lanes are keys and rows are queries: from scores and `d_scores = d_out v` makes `P m` and dS.
    /// `query` gives log-sum-exp and delta of a row.
    pub(super) fn gradients_of_keys(
        isa, scores: &mut [f32], d_scores: &mut [f32], multipliers: Option<&[f32]>,
        query: &dyn Fn(usize) -> (f32, f32), stride: usize, width: usize, rows: usize, scale: f32,
    ) = gradients_of_keys_generic;
}

#[inline(always)]
fn hide_generic<S: Simd>(
    s: S,
    scores: &mut [f32],
    stride: usize,
    width: usize,
    rows: usize,
    lanes: &[f32],
    row: &dyn Fn(usize) -> f32,
    hidden: Hidden,
) {
    let low = s.splat(f32::NEG_INFINITY);
    for r in 0..rows {
        let at = s.splat(row(r));
        for x in (0..width).step_by(S::LANES) {
            let distance = s.sub(s.load(&lanes[x..]), at);
            let scores = &mut scores[r * stride + x..];
            let score = s.load(scores);
            let score = match hidden {
                Hidden::Later => s.select_lt(distance, s.splat(0.0), low, score),
                Hidden::Far(window) => s.select_lt(distance, s.splat(window), score, low),
                Hidden::Apart(window) => {
                    let magnitude = s.max(distance, s.sub(s.splat(0.0), distance));
                    s.select_lt(s.splat(window), magnitude, low, score)
                }
            };
            s.store(score, scores);
        }
    }
}

#[inline(always)]
fn softmax_generic<S: Simd>(
    s: S,
    scores: &mut [f32],
    max: &mut [f32],
    sum: &mut [f32],
    stride: usize,
    width: usize,
    rows: usize,
    scale: f32,
) {
    let scale = s.splat(scale);
    for x in (0..width).step_by(S::LANES) {
        let mut top = s.splat(f32::NEG_INFINITY);
        for r in 0..rows {
            top = s.max(top, s.load(&scores[r * stride + x..]));
        }
        let top = s.mul(top, scale);
        let shift = s.sub(s.splat(0.0), top);
        let mut total = s.splat(0.0);
        for r in 0..rows {
            let scores = &mut scores[r * stride + x..];
            let p = exp(s, s.mul_add(s.load(scores), scale, shift));
            s.store(p, scores);
            total = s.add(total, p);
        }
        s.store(top, &mut max[x..]);
        s.store(total, &mut sum[x..]);
    }
}

#[inline(always)]
fn gradients_of_queries_generic<S: Simd>(
    s: S,
    scores: &mut [f32],
    d_scores: &mut [f32],
    delta: &mut [f32],
    log_sum_exp: &[f32],
    stride: usize,
    width: usize,
    rows: usize,
    scale: f32,
) {
    let scale = s.splat(scale);
    for x in (0..width).step_by(S::LANES) {
        let shift = s.sub(s.splat(0.0), s.load(&log_sum_exp[x..]));
        let mut total = s.splat(0.0);
        for r in 0..rows {
            let scores = &mut scores[r * stride + x..];
            let p = exp(s, s.mul_add(s.load(scores), scale, shift));
            s.store(p, scores);
            total = s.mul_add(p, s.load(&d_scores[r * stride + x..]), total);
        }
        for r in 0..rows {
            let d = &mut d_scores[r * stride + x..];
            let p = s.load(&scores[r * stride + x..]);
            let difference = s.sub(s.load(d), total);
            s.store(s.mul(p, difference), d);
        }
        s.store(total, &mut delta[x..]);
    }
}

#[inline(always)]
fn gradients_of_keys_generic<S: Simd>(
    s: S,
    scores: &mut [f32],
    d_scores: &mut [f32],
    multipliers: Option<&[f32]>,
    query: &dyn Fn(usize) -> (f32, f32),
    stride: usize,
    width: usize,
    rows: usize,
    scale: f32,
) {
    let scale = s.splat(scale);
    for r in 0..rows {
        let (log_sum_exp, delta) = query(r);
        let (shift, delta) = (s.splat(-log_sum_exp), s.splat(delta));
        for x in (0..width).step_by(S::LANES) {
            let at = r * stride + x;
            let p = exp(s, s.mul_add(s.load(&scores[at..]), scale, shift));
            let (mut kept, mut d) = (p, s.load(&d_scores[at..]));
            if let Some(multipliers) = multipliers {
                let m = s.load(&multipliers[at..]);
                (kept, d) = (s.mul(p, m), s.mul(d, m));
            }
            s.store(kept, &mut scores[at..]);
            s.store(s.mul(p, s.sub(d, delta)), &mut d_scores[at..]);
        }
    }
}
