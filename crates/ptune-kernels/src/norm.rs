//! Layer norm of rows, with the residual added on the way in.
//!
//! `z = x + residual`, `normalized = (z - mean z) * inverse_deviation`, `inverse_deviation = 1 / sqrt(var z + eps)` with
//! the biased variance in two passes, `y = normalized * gamma + beta`. Normalised rows and inverse deviations are all
//! that the backward needs.

use crate::Context;
use crate::context::rows_per_item;
use crate::isa::isa_shells;
use crate::simd::{Simd, load_up_to, store_up_to};

/// `y = layer norm of (x + residual)`. `y`, `normalized`, `x` and `residual` are `[rows, columns]`,
/// `inverse_deviation` is `[rows]`, `gamma` and `beta` are `[columns]`.
pub fn layer_norm(
    ctx: &Context,
    y: &mut [f32],
    normalized: &mut [f32],
    inverse_deviation: &mut [f32],
    x: &[f32],
    residual: Option<&[f32]>,
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    columns: usize,
) {
    let rows = inverse_deviation.len();
    assert_eq!(x.len(), rows * columns);
    assert!(residual.is_none_or(|r| r.len() == x.len()));
    assert_eq!((gamma.len(), beta.len()), (columns, columns));
    let outputs = [(y, columns), (normalized, columns), (inverse_deviation, 1)];
    ctx.run_rows(rows, rows_per_item(columns), outputs, |range, [y, normalized, inverse], _| {
        let part = range.start * columns..range.end * columns;
        let residual = residual.map(|r| &r[part.clone()]);
        forward(ctx.isa(), y, normalized, inverse, &x[part], residual, gamma, beta, eps);
    });
}

#[inline(always)]
fn forward_rows<S: Simd>(
    s: S,
    y: &mut [f32],
    normalized: &mut [f32],
    inverse_deviation: &mut [f32],
    x: &[f32],
    residual: Option<&[f32]>,
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
) {
    let columns = gamma.len();
    for (row, inverse_deviation) in inverse_deviation.iter_mut().enumerate() {
        let row = row * columns..(row + 1) * columns;
        let (x, z, y) = (&x[row.clone()], &mut normalized[row.clone()], &mut y[row.clone()]);
        let residual = residual.map(|r| &r[row]);
        let mut sum = s.splat(0.0);
        for i in (0..columns).step_by(S::LANES) {
            let mut v = load_up_to(s, &x[i..]);
            if let Some(r) = residual {
                v = s.add(v, load_up_to(s, &r[i..]));
            }
            store_up_to(s, v, &mut z[i..]);
            sum = s.add(sum, v);
        }
        let mean = s.splat(s.reduce_add(sum) / columns as f32);
        let mut squares = s.splat(0.0);
        for i in (0..columns).step_by(S::LANES) {
            store_up_to(s, s.sub(load_up_to(s, &z[i..]), mean), &mut z[i..]);
            // Read back, so that lanes behind the last column are zero.
            let v = load_up_to(s, &z[i..]);
            squares = s.mul_add(v, v, squares);
        }
        *inverse_deviation = 1.0 / (s.reduce_add(squares) / columns as f32 + eps).sqrt();
        let inverse = s.splat(*inverse_deviation);
        for i in (0..columns).step_by(S::LANES) {
            let v = s.mul(load_up_to(s, &z[i..]), inverse);
            store_up_to(s, v, &mut z[i..]);
            let v = s.mul_add(v, load_up_to(s, &gamma[i..]), load_up_to(s, &beta[i..]));
            store_up_to(s, v, &mut y[i..]);
        }
    }
}

/// `d_x` (the gradient of x and of the residual alike) from `d_y`:
/// `d_x = inverse_deviation * (g - mean g - normalized * mean(g * normalized))` with `g = d_y * gamma`.
pub fn layer_norm_backward_input(
    ctx: &Context,
    d_x: &mut [f32],
    d_y: &[f32],
    normalized: &[f32],
    inverse_deviation: &[f32],
    gamma: &[f32],
    columns: usize,
) {
    let rows = inverse_deviation.len();
    assert_eq!((d_y.len(), normalized.len()), (rows * columns, rows * columns));
    assert_eq!(gamma.len(), columns);
    ctx.run_rows(rows, rows_per_item(columns), [(d_x, columns)], |range, [d_x], _| {
        let part = range.start * columns..range.end * columns;
        backward(ctx.isa(), d_x, &d_y[part.clone()], &normalized[part], &inverse_deviation[range], gamma);
    });
}

#[inline(always)]
fn backward_rows<S: Simd>(
    s: S,
    d_x: &mut [f32],
    d_y: &[f32],
    normalized: &[f32],
    inverse_deviation: &[f32],
    gamma: &[f32],
) {
    let columns = gamma.len();
    for (row, inverse_deviation) in inverse_deviation.iter().enumerate() {
        let row = row * columns..(row + 1) * columns;
        let (d_x, d_y, z) = (&mut d_x[row.clone()], &d_y[row.clone()], &normalized[row]);
        let (mut sum, mut product) = (s.splat(0.0), s.splat(0.0));
        for i in (0..columns).step_by(S::LANES) {
            let g = s.mul(load_up_to(s, &d_y[i..]), load_up_to(s, &gamma[i..]));
            store_up_to(s, g, &mut d_x[i..]);
            sum = s.add(sum, g);
            product = s.mul_add(g, load_up_to(s, &z[i..]), product);
        }
        let mean = s.splat(s.reduce_add(sum) / columns as f32);
        let slope = s.splat(-s.reduce_add(product) / columns as f32);
        let inverse = s.splat(*inverse_deviation);
        for i in (0..columns).step_by(S::LANES) {
            let g = s.sub(load_up_to(s, &d_x[i..]), mean);
            let g = s.mul_add(load_up_to(s, &z[i..]), slope, g);
            store_up_to(s, s.mul(g, inverse), &mut d_x[i..]);
        }
    }
}

/// The gradients of `gamma` and `beta` `[columns]`, sums in row order: `d_gamma = sum of d_y * normalized`,
/// `d_beta = sum of d_y`; `d_y` and `normalized` are `[rows, columns]`.
pub fn layer_norm_backward_weight(
    ctx: &Context,
    d_gamma: &mut [f32],
    d_beta: &mut [f32],
    d_y: &[f32],
    normalized: &[f32],
    columns: usize,
) {
    let rows = d_y.len().checked_div(columns).unwrap_or(0);
    assert_eq!((d_y.len(), normalized.len()), (rows * columns, rows * columns));
    // Whole cache lines, so that two workers never write the same.
    let block = rows_per_item(rows).next_multiple_of(16);
    // The outputs as matrices of one column: their rows are the columns of `d_y`.
    ctx.run_rows(columns, block, [(d_gamma, 1), (d_beta, 1)], |range, [d_gamma, d_beta], _| {
        sums(ctx.isa(), d_gamma, d_beta, d_y, normalized, columns, range.start);
    });
}

#[inline(always)]
fn sums_of_columns<S: Simd>(
    s: S,
    d_gamma: &mut [f32],
    d_beta: &mut [f32],
    d_y: &[f32],
    normalized: &[f32],
    columns: usize,
    first: usize,
) {
    let width = d_gamma.len();
    d_gamma.fill(0.0);
    d_beta.fill(0.0);
    for (d_y, z) in d_y.chunks_exact(columns).zip(normalized.chunks_exact(columns)) {
        let (d_y, z) = (&d_y[first..first + width], &z[first..first + width]);
        for i in (0..width).step_by(S::LANES) {
            let d = load_up_to(s, &d_y[i..]);
            let sum = s.mul_add(d, load_up_to(s, &z[i..]), load_up_to(s, &d_gamma[i..]));
            store_up_to(s, sum, &mut d_gamma[i..]);
            store_up_to(s, s.add(d, load_up_to(s, &d_beta[i..])), &mut d_beta[i..]);
        }
    }
}

isa_shells! {
    fn sums(
        isa, d_gamma: &mut [f32], d_beta: &mut [f32], d_y: &[f32], normalized: &[f32], columns: usize, first: usize,
    ) = sums_of_columns;
    fn forward(
        isa, y: &mut [f32], normalized: &mut [f32], inverse_deviation: &mut [f32], x: &[f32], residual: Option<&[f32]>,
        gamma: &[f32], beta: &[f32], eps: f32,
    ) = forward_rows;
    fn backward(
        isa, d_x: &mut [f32], d_y: &[f32], normalized: &[f32], inverse_deviation: &[f32], gamma: &[f32],
    ) = backward_rows;
}

#[cfg(test)]
mod tests;
