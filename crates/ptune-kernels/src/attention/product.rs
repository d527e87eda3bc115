//! The product of two small matrices, tile by tile: all the multiply-adds of attention.
//!
//! `c[r, x] = sum_t a[r, t] b[t, x]`, lanes along x, up to 12 rows of 2 vectors held in registers over the whole depth.
//! Every element is one chain in the order of t, whatever tile it falls into.
#![allow(unsafe_code)] // Strided reads without a bounds check each; the ranges are asserted once per product.

use crate::isa::{bf16_shells, isa_shells};
use crate::simd::{Bf16, Simd};
use crate::{Dtype, Isa};

/// The left factor: `a[r, t]` is `data[r * row + t * step]`. One of the strides is 1.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) data: &'a [f32],
    pub(super) row: usize,
    pub(super) step: usize,
}

/// Sizes of a product.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
}

isa_shells! {
    fn product_of_singles(
        isa, c: &mut [f32], c_row: usize, a: Left<'_>, b: &[f32], b_row: usize, sizes: Sizes, accumulate: bool,
    ) = product_generic::<_, false>;
}

bf16_shells! {
    fn product_of_pairs(
        isa, c: &mut [f32], c_row: usize, a: Left<'_>, b: &[f32], b_row: usize, sizes: Sizes, accumulate: bool,
    ) = product_generic::<_, true>;
}

/// `c = a b` or, with `accumulate`, `c += a b`. Rows of `b` and `c` have `b_row` and `c_row` numbers; the columns are whole
/// vectors. In bf16 each number of `a` and `b` is a pair, and the depth counts pairs.
pub(super) fn product(
    isa: Isa,
    dtype: Dtype,
    c: &mut [f32],
    c_row: usize,
    a: Left<'_>,
    b: &[f32],
    b_row: usize,
    sizes: Sizes,
    accumulate: bool,
) {
    match dtype {
        Dtype::F32 => product_of_singles(isa, c, c_row, a, b, b_row, sizes, accumulate),
        Dtype::Bf16 => product_of_pairs(isa, c, c_row, a, b, b_row, sizes, accumulate),
    }
}

#[inline(always)]
fn product_generic<B: Bf16, const PAIRS: bool>(
    token: B,
    c: &mut [f32],
    c_row: usize,
    a: Left<'_>,
    b: &[f32],
    b_row: usize,
    sizes: Sizes,
    accumulate: bool,
) {
    let lanes = <B::F32 as Simd>::LANES;
    let Sizes { rows, columns, depth } = sizes;
    if rows == 0 {
        return;
    }
    assert!(columns.is_multiple_of(lanes));
    assert!(depth == 0 || (rows - 1) * a.row + (depth - 1) * a.step < a.data.len());
    assert!(depth == 0 || (depth - 1) * b_row + columns <= b.len());
    assert!((rows - 1) * c_row + columns <= c.len());
    let mut x = 0;
    while x < columns {
        let (c, b) = (&mut c[x..], &b[x.min(b.len())..]);
        // SAFETY: asserted above, for all rows, columns and the whole depth.
        x += unsafe {
            if columns - x >= 2 * lanes {
                rows_of_tiles::<B, 2, PAIRS>(token, c, c_row, a, b, b_row, rows, depth, accumulate);
                2 * lanes
            } else {
                rows_of_tiles::<B, 1, PAIRS>(token, c, c_row, a, b, b_row, rows, depth, accumulate);
                lanes
            }
        };
    }
}

/// All rows of `V` vectors of columns.
///
/// # Safety
/// As for [`tile`], with `rows` rows.
#[inline(always)]
unsafe fn rows_of_tiles<B: Bf16, const V: usize, const PAIRS: bool>(
    token: B,
    c: &mut [f32],
    c_row: usize,
    a: Left<'_>,
    b: &[f32],
    b_row: usize,
    rows: usize,
    depth: usize,
    accumulate: bool,
) {
    let mut r = 0;
    macro_rules! tiles {
        ($height:literal) => {
            while rows - r >= $height {
                let a = Left { data: &a.data[(r * a.row).min(a.data.len())..], ..a };
                // SAFETY: the caller's promise; these rows are among its rows.
                unsafe {
                    tile::<B, $height, V, PAIRS>(token, &mut c[r * c_row..], c_row, a, b, b_row, depth, accumulate)
                };
                r += $height;
            }
        };
    }
    // 12 x 2 sums need more than sixteen registers.
    if <B::F32 as Simd>::LANES == 16 || V == 1 {
        tiles!(12);
        tiles!(8);
        tiles!(4);
    }
    tiles!(6);
    tiles!(3);
    tiles!(2);
    tiles!(1);
}

/// One tile of `R` rows and `V` vectors.
///
/// # Safety
/// `a` has `R` rows and `b` the tile's columns, both over `depth`; `c` has `R` rows of `V` vectors.
#[inline(always)]
unsafe fn tile<B: Bf16, const R: usize, const V: usize, const PAIRS: bool>(
    token: B,
    c: &mut [f32],
    c_row: usize,
    a: Left<'_>,
    b: &[f32],
    b_row: usize,
    depth: usize,
    accumulate: bool,
) {
    let (s, lanes) = (token.f32(), <B::F32 as Simd>::LANES);
    let mut sums = [[s.splat(0.0); V]; R];
    if accumulate {
        for r in 0..R {
            for v in 0..V {
                sums[r][v] = s.load(&c[r * c_row + v * lanes..]);
            }
        }
    }
    for t in 0..depth {
        let mut right = [s.splat(0.0); V];
        for v in 0..V {
            // SAFETY: inside `b` by the caller's promise.
            let x = unsafe { b.get_unchecked(t * b_row + v * lanes..t * b_row + (v + 1) * lanes) };
            right[v] = s.load(x);
        }
        for r in 0..R {
            // SAFETY: inside `a` by the caller's promise.
            let left = s.splat(unsafe { *a.data.get_unchecked(r * a.row + t * a.step) });
            for v in 0..V {
                sums[r][v] = if PAIRS {
                    token.dot_pairs(left, right[v], sums[r][v])
                } else {
                    s.mul_add(left, right[v], sums[r][v])
                };
            }
        }
    }
    for r in 0..R {
        for v in 0..V {
            s.store(sums[r][v], &mut c[r * c_row + v * lanes..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;
    use crate::testing::{assert_close, numbers, on_every_isa};

    #[test]
    fn equals_the_obvious_loop_for_every_tile() {
        for (rows, columns, depth) in
            (0..=15_usize).map(|i| (i, 16 * (1 + i % 3), i)).chain([(29, 64, 40), (1, 16, 1), (12, 32, 0)])
        {
            let (c_row, a_long, b_row) = (columns + 16, rows.max(depth) + 3, columns + 5);
            let a = numbers((a_long + 1) * a_long, 1);
            let b = numbers(depth * b_row, 2);
            let start = numbers(rows * c_row, 3);
            for (row, step) in [(a_long, 1), (1, a_long)] {
                let mut want = vec![];
                for (r, x) in (0..rows).flat_map(|r| (0..columns).map(move |x| (r, x))) {
                    let chain = (0..depth).map(|t| f64::from(a[r * row + t * step]) * f64::from(b[t * b_row + x]));
                    want.push(f64::from(start[r * c_row + x]) + chain.sum::<f64>());
                }
                let kernel = |ctx: &Context| {
                    let mut c = start.clone();
                    let left = Left { data: &a, row, step };
                    product(
                        ctx.isa(),
                        Dtype::F32,
                        &mut c,
                        c_row,
                        left,
                        &b,
                        b_row,
                        Sizes { rows, columns, depth },
                        true,
                    );
                    c.chunks(c_row).flat_map(|c| c[..columns].to_vec()).collect()
                };
                on_every_isa(kernel, |name, c| assert_close(name, c, &want, 1e-6));
            }
        }
    }
}
