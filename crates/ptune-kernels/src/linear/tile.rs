//! The loops of the small products: dots of rows for the forward, chains over rows of a matrix for both gradients.
//!
//! Four rows at a time as long as there are four, then one by one; every element's sum has the same order either way.
#![allow(unsafe_code)] // Items write their own columns of a shared matrix.

use std::ops::Range;

use super::Sizes;
use crate::context::Disjoint;
use crate::isa::isa_shells;
use crate::simd::Simd;

/// Columns of the widest strip of the chains: eight vectors of sixteen.
pub(super) const STRIP: usize = 128;

isa_shells! {
    /// `y[.., outputs] = x W^T + bias`, or that added.
    pub(super) fn dots_of_rows(
        isa,
        y: &Disjoint,
        x: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        add: bool,
        sizes: &Sizes,
        outputs: Range<usize>,
    ) = dots;
    /// `d_x[.., columns] = d_y W`, or that added.
    pub(super) fn chains_of_rows(
        isa,
        d_x: &Disjoint,
        d_y: &[f32],
        weight: &[f32],
        add: bool,
        sizes: &Sizes,
        columns: Range<usize>,
    ) = rows;
    /// `d_weight[outputs, ..] = d_y^T x`; d_weight holds these outputs only.
    pub(super) fn chains_of_outputs(
        isa,
        d_weight: &mut [f32],
        d_y: &[f32],
        x: &[f32],
        sizes: &Sizes,
        outputs: Range<usize>,
    ) = columns_of_d_y;
}

#[inline(always)]
fn dots<S: Simd>(
    s: S,
    y: &Disjoint,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    add: bool,
    sizes: &Sizes,
    outputs: Range<usize>,
) {
    let mut finish = |row: usize, output: usize, sums: &[f32]| {
        let at = row * sizes.outputs + output;
        // SAFETY: this item owns its outputs of every row, and no other slice of them is alive.
        let y = unsafe { y.slice(at..at + sums.len()) };
        for (i, sum) in sums.iter().enumerate() {
            let sum = bias.map_or(*sum, |b| sum + b[output + i]);
            y[i] = if add { y[i] + sum } else { sum };
        }
    };
    let fours = sizes.rows / 4 * 4;
    for row in (0..fours).step_by(4) {
        dots_with::<S, 4>(s, x, weight, sizes.inputs, row, outputs.clone(), &mut finish);
    }
    for row in fours..sizes.rows {
        dots_with::<S, 1>(s, x, weight, sizes.inputs, row, outputs.clone(), &mut finish);
    }
}

/// R rows from `row` on; hands `(row, output, sums from that output on)` to `finish`.
#[inline(always)]
fn dots_with<S: Simd, const R: usize>(
    s: S,
    x: &[f32],
    weight: &[f32],
    inputs: usize,
    row: usize,
    outputs: Range<usize>,
    finish: &mut impl FnMut(usize, usize, &[f32]),
) {
    let mut o = outputs.start;
    while o < outputs.end {
        match outputs.end - o {
            8.. if R == 1 => {
                let sums = dot_tile::<S, R, 8>(s, x, weight, inputs, row, o);
                (0..R).for_each(|r| finish(row + r, o, &sums[r]));
                o += 8;
            }
            4.. if R > 1 => {
                let sums = dot_tile::<S, R, 4>(s, x, weight, inputs, row, o);
                (0..R).for_each(|r| finish(row + r, o, &sums[r]));
                o += 4;
            }
            _ => {
                let sums = dot_tile::<S, R, 1>(s, x, weight, inputs, row, o);
                (0..R).for_each(|r| finish(row + r, o, &sums[r]));
                o += 1;
            }
        }
    }
}

/// `x[row + r, ..] . weight[output + q, ..]`
#[inline(always)]
fn dot_tile<S: Simd, const R: usize, const Q: usize>(
    s: S,
    x: &[f32],
    weight: &[f32],
    inputs: usize,
    row: usize,
    output: usize,
) -> [[f32; Q]; R] {
    let (mut xs, mut ws) = ([x; R], [weight; Q]);
    for r in 0..R {
        xs[r] = &x[(row + r) * inputs..][..inputs];
    }
    for q in 0..Q {
        ws[q] = &weight[(output + q) * inputs..][..inputs];
    }
    let mut sums = [[s.splat(0.0); Q]; R];
    let whole = inputs / S::LANES * S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        let mut w = [s.splat(0.0); Q];
        for q in 0..Q {
            w[q] = s.load(&ws[q][i..i + S::LANES]);
        }
        for r in 0..R {
            let x = s.load(&xs[r][i..i + S::LANES]);
            for q in 0..Q {
                sums[r][q] = s.mul_add(x, w[q], sums[r][q]);
            }
        }
    }
    let mut totals = [[0.0; Q]; R];
    for r in 0..R {
        let x = s.load_partial(&xs[r][whole..]);
        for q in 0..Q {
            // The lanes behind the end add 0 * 0.
            totals[r][q] = s.reduce_add(s.mul_add(x, s.load_partial(&ws[q][whole..]), sums[r][q]));
        }
    }
    totals
}

#[inline(always)]
fn rows<S: Simd>(s: S, d_x: &Disjoint, d_y: &[f32], weight: &[f32], add: bool, sizes: &Sizes, columns: Range<usize>) {
    let finish = |row: usize, column: usize, sums: &[S::V]| {
        let end = columns.end.min(column + sums.len() * S::LANES);
        // SAFETY: this item owns its columns of every row, and no other slice of them is alive.
        let d_x = unsafe { d_x.slice(row * sizes.inputs + column..row * sizes.inputs + end) };
        for (v, d_x) in d_x.chunks_mut(S::LANES).enumerate() {
            s.store_partial(if add { s.add(s.load_partial(d_x), sums[v]) } else { sums[v] }, d_x);
        }
    };
    let chain = |row: usize| Chain {
        factors: d_y,
        first: row * sizes.outputs,
        line: sizes.outputs,
        step: 1,
        steps: sizes.outputs,
    };
    let fours = sizes.rows / 4 * 4;
    for row in (0..fours).step_by(4) {
        chains_with::<S, 4>(s, chain(row), weight, sizes.inputs, columns.clone(), |r, c, sums| {
            finish(row + r, c, sums)
        });
    }
    for row in fours..sizes.rows {
        chains_with::<S, 1>(s, chain(row), weight, sizes.inputs, columns.clone(), |r, c, sums| {
            finish(row + r, c, sums)
        });
    }
}

#[inline(always)]
fn columns_of_d_y<S: Simd>(s: S, d_weight: &mut [f32], d_y: &[f32], x: &[f32], sizes: &Sizes, outputs: Range<usize>) {
    let mut finish = |output: usize, column: usize, sums: &[S::V]| {
        let row = &mut d_weight[(output - outputs.start) * sizes.inputs..][..sizes.inputs];
        let end = sizes.inputs.min(column + sums.len() * S::LANES);
        for (v, d_w) in row[column..end].chunks_mut(S::LANES).enumerate() {
            s.store_partial(sums[v], d_w);
        }
    };
    let chain = |output: usize| Chain { factors: d_y, first: output, line: 1, step: sizes.outputs, steps: sizes.rows };
    let fours = outputs.start + outputs.len() / 4 * 4;
    for o in (outputs.start..fours).step_by(4) {
        chains_with::<S, 4>(s, chain(o), x, sizes.inputs, 0..sizes.inputs, |q, c, sums| finish(o + q, c, sums));
    }
    for o in fours..outputs.end {
        chains_with::<S, 1>(s, chain(o), x, sizes.inputs, 0..sizes.inputs, |q, c, sums| finish(o + q, c, sums));
    }
}

/// The factors of a group of chains: chain r takes `factors[first + r * line + k * step]` for k below `steps`.
#[derive(Clone, Copy)]
struct Chain<'a> {
    factors: &'a [f32],
    first: usize,
    line: usize,
    step: usize,
    steps: usize,
}

/// R chains over the given columns of `matrix` `[steps, width]`; hands `(r, column, sums from that column on)` to
/// `finish`.
#[inline(always)]
fn chains_with<S: Simd, const R: usize>(
    s: S,
    chain: Chain,
    matrix: &[f32],
    width: usize,
    columns: Range<usize>,
    mut finish: impl FnMut(usize, usize, &[S::V]),
) {
    let mut c = columns.start;
    while c < columns.end {
        match (columns.end - c) / S::LANES {
            8.. if R == 1 => {
                let sums = chain_tile::<S, R, 8>(s, chain, matrix, width, c);
                (0..R).for_each(|r| finish(r, c, &sums[r]));
                c += 8 * S::LANES;
            }
            4.. if R == 4 && S::LANES == 16 => {
                let sums = chain_tile::<S, R, 4>(s, chain, matrix, width, c);
                (0..R).for_each(|r| finish(r, c, &sums[r]));
                c += 4 * S::LANES;
            }
            2.. => {
                let sums = chain_tile::<S, R, 2>(s, chain, matrix, width, c);
                (0..R).for_each(|r| finish(r, c, &sums[r]));
                c += 2 * S::LANES;
            }
            _ => {
                let sums = chain_tile::<S, R, 1>(s, chain, matrix, width, c);
                (0..R).for_each(|r| finish(r, c, &sums[r]));
                c += S::LANES;
            }
        }
    }
}

/// `sums[r][..] = sum over k of factor[r, k] * matrix[k, column..]`, in the order of k.
#[inline(always)]
fn chain_tile<S: Simd, const R: usize, const V: usize>(
    s: S,
    chain: Chain,
    matrix: &[f32],
    width: usize,
    column: usize,
) -> [[S::V; V]; R] {
    let mut sums = [[s.splat(0.0); V]; R];
    let numbers = (width - column).min(V * S::LANES);
    let Some(last) = chain.steps.checked_sub(1) else { return sums };
    assert!(last * width + column + numbers <= matrix.len());
    assert!(chain.first + (R - 1) * chain.line + last * chain.step < chain.factors.len());
    for k in 0..chain.steps {
        // SAFETY: the last row and the last factor lie inside (asserted).
        let row = unsafe { matrix.get_unchecked(k * width + column..k * width + column + numbers) };
        let mut w = [s.splat(0.0); V];
        if numbers == V * S::LANES {
            for v in 0..V {
                w[v] = s.load(&row[v * S::LANES..(v + 1) * S::LANES]);
            }
        } else {
            // Only strips of one vector reach over the end.
            w[0] = s.load_partial(row);
        }
        for r in 0..R {
            // SAFETY: as above.
            let factor =
                s.splat(unsafe { *chain.factors.get_unchecked(chain.first + r * chain.line + k * chain.step) });
            for v in 0..V {
                sums[r][v] = s.mul_add(factor, w[v], sums[r][v]);
            }
        }
    }
    sums
}
