//! Matrices in scratch, in the form that the products read: rows of one head without the others between them, padded with
//! zeros to whole vectors. In f32 a row is a left factor as it stands, and rows are a right factor that is summed over
//! them.
//!
//! In bf16 (see `simd/bf16.rs`) a row is pairs along the head. A right factor summed over its rows (`along`) needs pairs
//! of two rows that follow each other instead; they are joined lane by lane, so that of each 2 x LANES columns all even
//! ones stand before all odd ones. So do those of the product, and rounding it to pairs puts them into their order again.
#![allow(unsafe_code)] // Rows of the outputs, each written by one unit; prefetching.

use super::product::{Left, Sizes, product};
use super::work::QUERY_BLOCK;
use crate::context::Disjoint;
use crate::isa::{bf16_shells, isa_shells};
use crate::simd::{Bf16, Simd, load_up_to, prefetch, store_up_to};
use crate::transpose::transposed;
use crate::{Dtype, Isa};

/// How the products take their numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub(super) isa: Isa,
    pub(super) dtype: Dtype,
    pub(super) head_dim: usize,
}

impl Numbers {
    /// Columns of a product summed over rows: those of a head, padded.
    pub(super) fn columns(self) -> usize {
        match self.dtype {
            Dtype::F32 => self.head_dim.next_multiple_of(16),
            Dtype::Bf16 => self.head_dim.next_multiple_of(32),
        }
    }

    /// Places of a row in scratch.
    pub(super) fn stride(self) -> usize {
        self.dtype.stride(self.columns())
    }

    /// Places of what [`Numbers::along`] makes of `n` rows.
    pub(super) fn along_len(self, n: usize) -> usize {
        match self.dtype {
            Dtype::F32 => 0,
            Dtype::Bf16 => n.div_ceil(2) * self.columns(),
        }
    }

    /// Copies `n` rows of one head, which begin at `first` and every `row` places from there.
    pub(super) fn load_rows(self, to: &mut [f32], x: &[f32], first: usize, row: usize, n: usize) {
        copy_rows(self.isa, to, self.stride(), &x[first..], row, n, self.dtype.stride(self.head_dim));
    }

    /// The `n` rows as a right factor that is summed over them.
    pub(super) fn along<'a>(self, to: &'a mut [f32], rows: &'a [f32], n: usize) -> &'a [f32] {
        match self.dtype {
            Dtype::F32 => rows,
            Dtype::Bf16 => {
                join_rows(self.isa, to, rows, self.stride(), n);
                to
            }
        }
    }

    /// `to[d, i] = rows[i, d]`, rows of [`QUERY_BLOCK`] numbers (or pairs), zero behind the last of the `n` rows up to a
    /// whole vector. So are the rows afterwards.
    pub(super) fn transpose(self, to: &mut [f32], rows: &mut [f32], n: usize) {
        let (row, whole) = (self.stride(), n.next_multiple_of(self.isa.lanes()));
        rows[n * row..whole * row].fill(0.0);
        transposed(self.isa, to, QUERY_BLOCK, rows, row, whole, self.dtype.stride(self.head_dim));
    }

    /// Scores `[keys, QUERY_BLOCK]` as a left factor that is summed over keys.
    pub(super) fn over_keys<'a>(self, to: &'a mut [f32], scores: &'a [f32], width: usize, keys: usize) -> Left<'a> {
        let data = match self.dtype {
            Dtype::F32 => scores,
            Dtype::Bf16 => {
                round_rows_together(self.isa, to, scores, width, keys);
                to
            }
        };
        Left { data, row: 1, step: QUERY_BLOCK }
    }

    /// Scores `[keys, QUERY_BLOCK]` as a left factor that is summed over queries. Those behind the last one are zero.
    pub(super) fn over_queries<'a>(self, to: &'a mut [f32], scores: &'a [f32], width: usize, keys: usize) -> Left<'a> {
        match self.dtype {
            Dtype::F32 => Left { data: scores, row: QUERY_BLOCK, step: 1 },
            Dtype::Bf16 => {
                round_each_row(self.isa, to, scores, width, keys);
                Left { data: to, row: QUERY_BLOCK / 2, step: 1 }
            }
        }
    }

    /// `c = a b` or `c += a b`; `depth` counts numbers.
    pub(super) fn product(
        self,
        c: &mut [f32],
        c_row: usize,
        a: Left<'_>,
        b: &[f32],
        b_row: usize,
        sizes: Sizes,
        accumulate: bool,
    ) {
        let sizes = Sizes { depth: self.dtype.stride(sizes.depth), ..sizes };
        product(self.isa, self.dtype, c, c_row, a, b, b_row, sizes, accumulate);
    }

    /// Writes the `n` rows `y`, each times its factor, to those that begin at place `first` and every `row` places from
    /// there. The caller alone may touch these places.
    pub(super) fn store_rows(
        self,
        to: &Disjoint,
        first: usize,
        row: usize,
        y: &[f32],
        n: usize,
        factor: &dyn Fn(usize) -> f32,
    ) {
        let store = match self.dtype {
            Dtype::F32 => scale_rows,
            Dtype::Bf16 => scale_and_round_rows,
        };
        store(self.isa, to, first, row, y, self.columns(), n, self.dtype.stride(self.head_dim), factor);
    }
}

isa_shells! {
    /// `n` rows of `width` numbers, zeros behind up to `to_row`, a multiple of 16.
    fn copy_rows(isa, to: &mut [f32], to_row: usize, x: &[f32], x_row: usize, n: usize, width: usize) = copy_rows_generic;
    /// Row t of `to` has the pairs of rows 2t and 2t + 1 of `rows`, each of `stride` pairs.
    fn join_rows(isa, to: &mut [f32], rows: &[f32], stride: usize, n: usize) = join_rows_generic;
}

bf16_shells! {
    /// Row t of `to` has the pairs of rows 2t and 2t + 1 of the scores, rounded.
    fn round_rows_together(isa, to: &mut [f32], scores: &[f32], width: usize, rows: usize) = round_rows_together_generic;
    /// Each row of the scores, rounded to half as many pairs.
    fn round_each_row(isa, to: &mut [f32], scores: &[f32], width: usize, rows: usize) = round_each_row_generic;
    fn scale_and_round_rows(
        isa, to: &Disjoint<'_>, first: usize, to_row: usize, y: &[f32], y_row: usize, n: usize, width: usize,
        factor: &dyn Fn(usize) -> f32,
    ) = scale_rows_generic::<_, true>;
}

bf16_shells! {
    fn scale_rows(
        isa, to: &Disjoint<'_>, first: usize, to_row: usize, y: &[f32], y_row: usize, n: usize, width: usize,
        factor: &dyn Fn(usize) -> f32,
    ) = scale_rows_generic::<_, false>;
}

#[inline(always)]
fn copy_rows_generic<S: Simd>(s: S, to: &mut [f32], to_row: usize, x: &[f32], x_row: usize, n: usize, width: usize) {
    for i in 0..n {
        for line in (0..width).step_by(LINE) {
            prefetch(x.as_ptr().wrapping_add((i + AHEAD) * x_row + line));
        }
        let (to, x) = (&mut to[i * to_row..][..to_row], &x[i * x_row..][..width]);
        for at in (0..to_row).step_by(S::LANES) {
            s.store(load_up_to(s, &x[at.min(width)..]), &mut to[at..]);
        }
    }
}

#[inline(always)]
fn join_rows_generic<S: Simd>(s: S, to: &mut [f32], rows: &[f32], stride: usize, n: usize) {
    for (t, to) in to.chunks_exact_mut(2 * stride).take(n.div_ceil(2)).enumerate() {
        let first = &rows[2 * t * stride..][..stride];
        let second = (2 * t + 1 < n).then(|| &rows[(2 * t + 1) * stride..][..stride]);
        for at in (0..stride).step_by(S::LANES) {
            let a = s.load(&first[at..]);
            let b = second.map_or(s.splat(0.0), |second| s.load(&second[at..]));
            s.store(s.join_low(a, b), &mut to[2 * at..]);
            s.store(s.join_high(a, b), &mut to[2 * at + S::LANES..]);
        }
    }
}

#[inline(always)]
fn round_rows_together_generic<B: Bf16>(b: B, to: &mut [f32], scores: &[f32], width: usize, rows: usize) {
    let (s, lanes) = (b.f32(), <B::F32 as Simd>::LANES);
    for t in 0..rows.div_ceil(2) {
        for x in (0..width).step_by(lanes) {
            let first = s.load(&scores[2 * t * QUERY_BLOCK + x..]);
            let odd = 2 * t + 1 == rows;
            let second = if odd { s.splat(0.0) } else { s.load(&scores[(2 * t + 1) * QUERY_BLOCK + x..]) };
            s.store(b.round_pairs(first, second), &mut to[t * QUERY_BLOCK + x..]);
        }
    }
}

#[inline(always)]
fn round_each_row_generic<B: Bf16>(b: B, to: &mut [f32], scores: &[f32], width: usize, rows: usize) {
    let (s, lanes) = (b.f32(), <B::F32 as Simd>::LANES);
    for r in 0..rows {
        for x in (0..width).step_by(lanes) {
            b.round_to(s.load(&scores[r * QUERY_BLOCK + x..]), &mut to[(r * QUERY_BLOCK + x) / 2..]);
        }
    }
}

/// `width` counts places: numbers or, with `PAIRS`, pairs of them, rounded.
#[inline(always)]
fn scale_rows_generic<B: Bf16, const PAIRS: bool>(
    b: B,
    to: &Disjoint<'_>,
    first: usize,
    to_row: usize,
    y: &[f32],
    y_row: usize,
    n: usize,
    width: usize,
    factor: &dyn Fn(usize) -> f32,
) {
    let (s, lanes) = (b.f32(), <B::F32 as Simd>::LANES);
    for i in 0..n {
        let start = first + i * to_row;
        // SAFETY: the caller of `store_rows` alone writes these places.
        let to = unsafe { to.slice(start..start + width) };
        let factor = s.splat(factor(i));
        for at in (0..width).step_by(lanes) {
            let places = if PAIRS {
                let [even, odd] = [0, lanes].map(|odd| s.mul(s.load(&y[i * y_row + 2 * at + odd..]), factor));
                b.round_pairs(even, odd)
            } else {
                s.mul(s.load(&y[i * y_row + at..]), factor)
            };
            store_up_to(s, places, &mut to[at..]);
        }
    }
}

/// f32 of a cache line.
const LINE: usize = 16;
/// How many rows before its copy a row is fetched: rows of a head lie kilobytes apart, where no processor guesses the
/// next one. Measured with one thread on 640 rows of 12 heads of 64 in f32: the forward 12 % faster, the backward 7 %.
const AHEAD: usize = 8;
