//! Layer norm and RMS norm of rows, with the residual added on the way in.
//!
//! `z = x + residual`, `normalized = (z - mean z) * inverse_deviation`, `inverse_deviation = 1 / sqrt(var z + eps)` with
//! the biased variance in two passes, `y = normalized * gamma + beta`. RMS norm (Zhang and Sennrich, 2019) is the same
//! with 0 in the place of the mean. Normalised rows and inverse deviations are all that the backward needs.
//!
//! Sums and statistics are f32. A result is written in f32 for a residual, rounded to pairs of bf16 for a product, or
//! both while the row is at hand. Normalised rows are kept in either.

use std::ops::Range;

use crate::Context;
use crate::context::rows_per_item;
use crate::isa::{bf16_shells, isa_shells};
use crate::rows::{Dtype, Rows, RowsMut};
use crate::simd::{Bf16, Simd, load_up_to, store_up_to};

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Layer norm: less the mean, by the deviation.
    Layer,
    /// RMS norm: by the root of the mean square.
    Rms,
}

impl NormKind {
    /// What a row's numbers are taken less of, from their mean.
    #[inline(always)]
    fn centre(self, mean: f32) -> f32 {
        match self {
            NormKind::Layer => mean,
            NormKind::Rms => 0.0,
        }
    }
}

/// Where a norm's result goes; at least one of them.
pub struct NormOutput<'a> {
    /// `[rows, columns]`
    pub exact: Option<&'a mut [f32]>,
    /// `[rows, columns.div_ceil(2)]` pairs
    pub rounded: Option<&'a mut [f32]>,
}

impl<'a> NormOutput<'a> {
    /// Both as matrices for [`Context::run_rows`]; one that is not wanted has no columns.
    fn matrices(self, columns: usize) -> [(&'a mut [f32], usize); 2] {
        let exact = self.exact.map(|exact| (exact, columns));
        let rounded = self.rounded.map(|rounded| (rounded, Dtype::Bf16.stride(columns)));
        [exact, rounded].map(Option::unwrap_or_default)
    }
}

/// Numbers of scratch that [`norm`] and [`norm_backward_input`] need, for [`Context::reserve`].
pub fn norm_scratch_len(columns: usize) -> usize {
    columns
}

/// `y = norm of (x + residual)`. `y`, `normalized`, `x` and `residual` are `[rows, columns]`,
/// `inverse_deviation` is `[rows]`, `gamma` and `beta` (0 when `None`) are `[columns]`. Scratch: [`norm_scratch_len`].
pub fn norm(
    ctx: &Context,
    kind: NormKind,
    y: NormOutput,
    normalized: RowsMut,
    inverse_deviation: &mut [f32],
    x: &[f32],
    residual: Option<&[f32]>,
    gamma: &[f32],
    beta: Option<&[f32]>,
    eps: f32,
    columns: usize,
) {
    let rows = inverse_deviation.len();
    assert_eq!(x.len(), rows * columns);
    assert!(residual.is_none_or(|r| r.len() == x.len()));
    assert!(gamma.len() == columns && beta.is_none_or(|beta| beta.len() == columns));
    let dtype = normalized.dtype();
    let [exact, rounded] = y.matrices(columns);
    let outputs = [exact, rounded, (normalized.memory(), dtype.stride(columns)), (inverse_deviation, 1)];
    ctx.run_rows(rows, rows_per_item(columns), outputs, |range, [exact, rounded, normalized, inverse], scratch| {
        let part = range.start * columns..range.end * columns;
        let residual = residual.map(|r| &r[part.clone()]);
        let normalized = RowsMut::new(dtype, normalized);
        let z = &mut scratch[..columns];
        forward(ctx.isa(), kind, exact, rounded, normalized, inverse, &x[part], residual, gamma, beta, eps, z);
    });
}

#[inline(always)]
fn forward_rows<B: Bf16>(
    b: B,
    kind: NormKind,
    exact: &mut [f32],
    rounded: &mut [f32],
    mut normalized: RowsMut,
    inverse_deviation: &mut [f32],
    x: &[f32],
    residual: Option<&[f32]>,
    gamma: &[f32],
    beta: Option<&[f32]>,
    eps: f32,
    scratch: &mut [f32],
) {
    let (s, lanes, columns) = (b.f32(), <B::F32 as Simd>::LANES, gamma.len());
    for (row, inverse_deviation) in inverse_deviation.iter_mut().enumerate() {
        let (singles, pairs) = (places(row, Dtype::F32, columns), places(row, Dtype::Bf16, columns));
        let (mut exact, mut rounded) = (exact.get_mut(singles.clone()), rounded.get_mut(pairs.clone()));
        let (z, mut kept) = match &mut normalized {
            RowsMut::F32(normalized) => (&mut normalized[singles.clone()], None),
            RowsMut::Bf16(normalized) => (&mut *scratch, Some(&mut normalized[pairs])),
        };
        let sum = sum_into(s, z, &x[singles.clone()], residual.map(|r| &r[singles]));
        let mean = s.splat(kind.centre(sum / columns as f32));
        let mut squares = s.splat(0.0);
        for i in (0..columns).step_by(lanes) {
            store_up_to(s, s.sub(load_up_to(s, &z[i..]), mean), &mut z[i..]);
            // Read back, so that lanes behind the last column are zero.
            let v = load_up_to(s, &z[i..]);
            squares = s.mul_add(v, v, squares);
        }
        *inverse_deviation = 1.0 / (s.reduce_add(squares) / columns as f32 + eps).sqrt();
        let inverse = s.splat(*inverse_deviation);
        for i in (0..columns).step_by(lanes) {
            let v = s.mul(load_up_to(s, &z[i..]), inverse);
            match &mut kept {
                None => store_up_to(s, v, &mut z[i..]),
                Some(kept) => b.store_rounded(v, &mut kept[i / 2..], columns - i),
            }
            let gamma = load_up_to(s, &gamma[i..]);
            let v = match beta {
                Some(beta) => s.mul_add(v, gamma, load_up_to(s, &beta[i..])),
                None => s.mul(v, gamma),
            };
            write(b, v, &mut exact, &mut rounded, i, columns);
        }
    }
}

/// Where a row's numbers, or its pairs, stand.
fn places(row: usize, dtype: Dtype, columns: usize) -> Range<usize> {
    row * dtype.stride(columns)..(row + 1) * dtype.stride(columns)
}

/// `z = x + residual`; its sum.
#[inline(always)]
fn sum_into<S: Simd>(s: S, z: &mut [f32], x: &[f32], residual: Option<&[f32]>) -> f32 {
    let mut sum = s.splat(0.0);
    for i in (0..x.len()).step_by(S::LANES) {
        let mut v = load_up_to(s, &x[i..]);
        if let Some(r) = residual {
            v = s.add(v, load_up_to(s, &r[i..]));
        }
        store_up_to(s, v, &mut z[i..]);
        sum = s.add(sum, v);
    }
    s.reduce_add(sum)
}

/// The columns from `i` on, to where they are wanted.
#[inline(always)]
fn write<B: Bf16>(
    b: B,
    v: <B::F32 as Simd>::V,
    exact: &mut Option<&mut [f32]>,
    rounded: &mut Option<&mut [f32]>,
    i: usize,
    columns: usize,
) {
    if let Some(exact) = exact {
        store_up_to(b.f32(), v, &mut exact[i..]);
    }
    if let Some(rounded) = rounded {
        b.store_rounded(v, &mut rounded[i / 2..], columns - i);
    }
}

/// `d_x` (the gradient of x and of the residual alike) from `d_y`:
/// `d_x = inverse_deviation * (g - mean g - normalized * mean(g * normalized)) + other` with `g = d_y * gamma`; `other` is
/// what reaches x on another way. RMS norm has no `mean g`. Scratch: [`norm_scratch_len`].
pub fn norm_backward_input(
    ctx: &Context,
    kind: NormKind,
    d_x: NormOutput,
    d_y: &[f32],
    other: Option<&[f32]>,
    normalized: Rows,
    inverse_deviation: &[f32],
    gamma: &[f32],
    columns: usize,
) {
    let (rows, dtype) = (inverse_deviation.len(), normalized.dtype());
    let normalized = normalized.memory();
    assert_eq!((d_y.len(), normalized.len()), (rows * columns, rows * dtype.stride(columns)));
    assert!(other.is_none_or(|other| other.len() == d_y.len()));
    assert_eq!(gamma.len(), columns);
    ctx.run_rows(rows, rows_per_item(columns), d_x.matrices(columns), |range, [exact, rounded], scratch| {
        let part = range.start * columns..range.end * columns;
        let normalized = &normalized[range.start * dtype.stride(columns)..range.end * dtype.stride(columns)];
        let (normalized, inverse) = (Rows::new(dtype, normalized), &inverse_deviation[range]);
        let (other, g) = (other.map(|other| &other[part.clone()]), &mut scratch[..columns]);
        backward(ctx.isa(), kind, exact, rounded, &d_y[part], other, normalized, inverse, gamma, g);
    });
}

#[inline(always)]
fn backward_rows<B: Bf16>(
    b: B,
    kind: NormKind,
    exact: &mut [f32],
    rounded: &mut [f32],
    d_y: &[f32],
    other: Option<&[f32]>,
    normalized: Rows,
    inverse_deviation: &[f32],
    gamma: &[f32],
    scratch: &mut [f32],
) {
    let (s, lanes, columns) = (b.f32(), <B::F32 as Simd>::LANES, gamma.len());
    let scratch = &mut scratch[..columns];
    for (row, inverse_deviation) in inverse_deviation.iter().enumerate() {
        let (singles, pairs) = (places(row, Dtype::F32, columns), places(row, Dtype::Bf16, columns));
        let (mut exact, mut rounded) = (exact.get_mut(singles.clone()), rounded.get_mut(pairs.clone()));
        let (d_y, other) = (&d_y[singles.clone()], other.map(|other| &other[singles.clone()]));
        let z = match normalized {
            Rows::F32(z) => Rows::F32(&z[singles]),
            Rows::Bf16(z) => Rows::Bf16(&z[pairs]),
        };
        let (mut sum, mut product) = (s.splat(0.0), s.splat(0.0));
        for i in (0..columns).step_by(lanes) {
            let g = s.mul(load_up_to(s, &d_y[i..]), load_up_to(s, &gamma[i..]));
            store_up_to(s, g, &mut scratch[i..]);
            sum = s.add(sum, g);
            product = s.mul_add(g, at(b, z, i), product);
        }
        let mean = s.splat(kind.centre(s.reduce_add(sum) / columns as f32));
        let slope = s.splat(-s.reduce_add(product) / columns as f32);
        let inverse = s.splat(*inverse_deviation);
        for i in (0..columns).step_by(lanes) {
            let g = s.sub(load_up_to(s, &scratch[i..]), mean);
            let mut d = s.mul(s.mul_add(at(b, z, i), slope, g), inverse);
            if let Some(other) = other {
                d = s.add(d, load_up_to(s, &other[i..]));
            }
            write(b, d, &mut exact, &mut rounded, i, columns);
        }
    }
}

/// The numbers of a row from column `i` on. (A closure would be compiled without the instruction set, and called.)
#[inline(always)]
fn at<B: Bf16>(b: B, row: Rows, i: usize) -> <B::F32 as Simd>::V {
    match row {
        Rows::F32(row) => load_up_to(b.f32(), &row[i..]),
        Rows::Bf16(row) => b.load_widened(&row[i / 2..]),
    }
}

/// The gradients of `gamma` and `beta` `[columns]`, sums in row order: `d_gamma = sum of d_y * normalized`,
/// `d_beta = sum of d_y` where there is one; `d_y` and `normalized` are `[rows, columns]`.
pub fn norm_backward_weight(
    ctx: &Context,
    d_gamma: &mut [f32],
    d_beta: Option<&mut [f32]>,
    d_y: &[f32],
    normalized: &[f32],
    columns: usize,
) {
    let rows = d_y.len().checked_div(columns).unwrap_or(0);
    assert_eq!((d_y.len(), normalized.len()), (rows * columns, rows * columns));
    // Whole cache lines, so that two workers never write the same.
    let block = rows_per_item(rows).next_multiple_of(16);
    // The outputs as matrices of one column: their rows are the columns of `d_y`.
    let d_beta = d_beta.map(|d_beta| (d_beta, 1)).unwrap_or_default();
    ctx.run_rows(columns, block, [(d_gamma, 1), d_beta], |range, [d_gamma, d_beta], _| {
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
            if let Some(d_beta) = d_beta.get_mut(i..).filter(|rest| !rest.is_empty()) {
                store_up_to(s, s.add(d, load_up_to(s, d_beta)), d_beta);
            }
        }
    }
}

isa_shells! {
    fn sums(
        isa, d_gamma: &mut [f32], d_beta: &mut [f32], d_y: &[f32], normalized: &[f32], columns: usize, first: usize,
    ) = sums_of_columns;
}

bf16_shells! {
    fn forward(
        isa, kind: NormKind, exact: &mut [f32], rounded: &mut [f32], normalized: RowsMut, inverse_deviation: &mut [f32],
        x: &[f32], residual: Option<&[f32]>, gamma: &[f32], beta: Option<&[f32]>, eps: f32, scratch: &mut [f32],
    ) = forward_rows;
    fn backward(
        isa, kind: NormKind, exact: &mut [f32], rounded: &mut [f32], d_y: &[f32], other: Option<&[f32]>,
        normalized: Rows, inverse_deviation: &[f32], gamma: &[f32], scratch: &mut [f32],
    ) = backward_rows;
}

#[cfg(test)]
mod tests;
