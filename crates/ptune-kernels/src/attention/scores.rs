//! What happens to a block of scores between the products: hiding, softmax, and its backward.
//!
//! A block is a matrix in scratch with rows of `stride` numbers, of which the first `width` (a multiple of the lanes)
//! count. Lanes are queries and rows are keys. Lanes behind the last query hold numbers that nobody reads.

use crate::isa::isa_shells;
use crate::math::{exp, ln};
use crate::simd::Simd;

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

isa_shells! {
    /// Sets the hidden scores to minus infinity. `lanes` and `row` give what the distance is taken of.
    pub(super) fn hide(
        isa, scores: &mut [f32], stride: usize, width: usize, rows: usize, lanes: &[f32], row: &dyn Fn(usize) -> f32,
        hidden: Hidden,
    ) = hide_generic;
    /// Replaces scores by `e^(scale * score - max)`, not yet divided by their sum: `inverse` is one by the sum. That and
    /// `log_sum_exp` (of the scaled scores) have `width` numbers.
    pub(super) fn softmax(
        isa, scores: &mut [f32], log_sum_exp: &mut [f32], inverse: &mut [f32], stride: usize, width: usize,
        rows: usize, scale: f32,
    ) = softmax_generic;
    /// `x = x m`.
    pub(super) fn multiply(isa, x: &mut [f32], m: &[f32], stride: usize, width: usize, rows: usize) = multiply_generic;
    /// From scores and `d_scores = d_out v` makes `P m` and dS; `log_sum_exp` has `width` numbers. Where it is infinite,
    /// for lanes without a query, both become zero.
    pub(super) fn gradients(
        isa, scores: &mut [f32], d_scores: &mut [f32], multipliers: Option<&[f32]>, log_sum_exp: &[f32], stride: usize,
        width: usize, rows: usize, scale: f32,
    ) = gradients_generic;
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
    log_sum_exp: &mut [f32],
    inverse: &mut [f32],
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
        s.store(s.add(top, ln(s, total)), &mut log_sum_exp[x..]);
        s.store(s.div(s.splat(1.0), total), &mut inverse[x..]);
    }
}

#[inline(always)]
fn multiply_generic<S: Simd>(s: S, x: &mut [f32], m: &[f32], stride: usize, width: usize, rows: usize) {
    for r in 0..rows {
        for at in (r * stride..r * stride + width).step_by(S::LANES) {
            s.store(s.mul(s.load(&x[at..]), s.load(&m[at..])), &mut x[at..]);
        }
    }
}

#[inline(always)]
fn gradients_generic<S: Simd>(
    s: S,
    scores: &mut [f32],
    d_scores: &mut [f32],
    multipliers: Option<&[f32]>,
    log_sum_exp: &[f32],
    stride: usize,
    width: usize,
    rows: usize,
    scale: f32,
) {
    let scale = s.splat(scale);
    for x in (0..width).step_by(S::LANES) {
        let shift = s.sub(s.splat(0.0), s.load(&log_sum_exp[x..]));
        let mut delta = s.splat(0.0);
        for r in 0..rows {
            let at = r * stride + x;
            let p = exp(s, s.mul_add(s.load(&scores[at..]), scale, shift));
            s.store(p, &mut scores[at..]);
            let mut d = s.load(&d_scores[at..]);
            if let Some(multipliers) = multipliers {
                d = s.mul(d, s.load(&multipliers[at..]));
                s.store(d, &mut d_scores[at..]);
            }
            delta = s.mul_add(p, d, delta);
        }
        for r in 0..rows {
            let at = r * stride + x;
            let p = s.load(&scores[at..]);
            s.store(s.mul(p, s.sub(s.load(&d_scores[at..]), delta)), &mut d_scores[at..]);
            if let Some(multipliers) = multipliers {
                s.store(s.mul(p, s.load(&multipliers[at..])), &mut scores[at..]);
            }
        }
    }
}
