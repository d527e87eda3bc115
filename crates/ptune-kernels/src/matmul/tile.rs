//! The register tile of the matrix product: a few rows of x against one packed panel of the weight.
//!
//! `acc[r][c] = sum over k of x[r, k] * panel[k, c]`, a single chain of multiply-adds per element in the order of k, so
//! the tile's height never changes a result. All accumulators live in registers for the whole of k; x is read where it
//! stands, one broadcast a row, and the panel one vector after the other.
//!
//! | instruction set | panel columns | rows | accumulators + panel + broadcast | of registers |
//! |---|---|---|---|---|
//! | AVX-512 | 32 | 12 | 24 + 2 + 1 | 32 |
//! | AVX2 | 16 | 6 | 12 + 2 + 1 | 16 |
//! | portable (SSE2 on x86-64) | 8 | 4 | 8 + 2 + 2 | 16 |
#![allow(unsafe_code)] // Bounds checks in the inner loop would cost a third; sizes are asserted at the tile's entry.

#[cfg(target_arch = "x86_64")]
use std::convert::identity;
use std::hint::black_box;
use std::ops::Range;

use crate::context::Disjoint;
use crate::rows::Dtype;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Bf16, Portable, Simd, prefetch};

/// The tile's shape on one instruction set, and the function that runs it.
pub(super) trait Tile: Simd {
    /// Columns of a packed panel.
    const COLUMNS: usize;
    /// The most rows of a tile.
    const ROWS: usize;

    /// `y[rows, columns] = x[rows, ..] * panel`, finished as `finish` says. `columns` are those that the panel
    /// covers; at most `ROWS` rows.
    /// Asks for the numbers `ahead` (of a later panel) to be brought near meanwhile.
    fn tile(
        self,
        factors: impl Factors<Self>,
        y: &Output,
        x: &Input,
        panel: &[f32],
        ahead: &[f32],
        rows: Range<usize>,
        columns: Range<usize>,
    );
}

/// What the numbers of rows and panels are, and how they are multiplied.
pub(super) trait Factors<S: Simd>: Copy {
    /// `sum + x w`, lane by lane.
    fn multiply_add(self, s: S, x: S::V, w: S::V, sum: S::V) -> S::V;

    /// Rounds the first `numbers` lanes to pairs, see [`Bf16::store_rounded`].
    fn store_rounded(self, s: S, v: S::V, pairs: &mut [f32], numbers: usize);
}

/// Each is a number by itself.
#[derive(Clone, Copy)]
pub(super) struct Singles;

impl<S: Simd> Factors<S> for Singles {
    #[inline(always)]
    fn multiply_add(self, s: S, x: S::V, w: S::V, sum: S::V) -> S::V {
        s.mul_add(x, w, sum)
    }

    #[inline(always)]
    fn store_rounded(self, s: S, v: S::V, pairs: &mut [f32], numbers: usize) {
        s.store_rounded(v, pairs, numbers);
    }
}

/// The rows a product reads: `[.., depth]`.
pub(super) struct Input<'a> {
    pub(super) x: &'a [f32],
    pub(super) depth: usize,
}

/// The matrix a product writes: `[.., columns]`, each tile its own rows and columns. Those begin at an even one, so
/// that no pair belongs to two tiles.
pub(super) struct Output<'a> {
    pub(super) y: Disjoint<'a>,
    pub(super) dtype: Dtype,
    pub(super) columns: usize,
    pub(super) finish: Finish<'a>,
}

/// What happens to a finished sum on its way to memory.
#[derive(Clone, Copy)]
pub(super) enum Finish<'a> {
    /// `y = sum`
    Overwrite,
    /// `y = sum + bias`
    Bias(&'a [f32]),
    /// `y = y + sum`, in f32
    Add,
}

macro_rules! tile {
    ($token:ty, vectors $vectors:literal, rows $($rows:literal)*, sums through $through:path) => {
        impl Tile for $token {
            const COLUMNS: usize = $vectors * Self::LANES;
            const ROWS: usize = [$($rows),*].len();

            #[inline(always)]
            fn tile(
                self,
                factors: impl Factors<Self>,
                y: &Output,
                x: &Input,
                panel: &[f32],
                ahead: &[f32],
                rows: Range<usize>,
                columns: Range<usize>,
            ) {
                touch(y, rows.clone(), columns.clone());
                match rows.len() {
                    $($rows => {
                        let sums = sums::<Self, $rows, $vectors>(self, factors, x, panel, ahead, rows.start);
                        store(self, factors, y, $through(sums), rows, columns);
                    })*
                    other => panic!("a tile of {other} rows"),
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tile!(Avx512, vectors 2, rows 1 2 3 4 5 6 7 8 9 10 11 12, sums through identity);
#[cfg(target_arch = "x86_64")]
tile!(Avx2, vectors 2, rows 1 2 3 4 5 6, sums through identity);
// Only when all sums go to memory side by side does the compiler find vectors in these arrays: four times as fast.
tile!(Portable, vectors 1, rows 1 2 3 4, sums through black_box);

#[inline(always)]
fn sums<S: Simd, const R: usize, const V: usize>(
    s: S,
    factors: impl Factors<S>,
    x: &Input,
    panel: &[f32],
    ahead: &[f32],
    row: usize,
) -> [[S::V; V]; R] {
    let depth = x.depth;
    assert!((row + R) * depth <= x.x.len() && panel.len() == depth * V * S::LANES);
    let mut sums = [[s.splat(0.0); V]; R];
    let lines = ahead.len().div_ceil(LINE).div_ceil(depth.div_ceil(STRETCH).max(1));
    let mut line = ahead.as_ptr();
    let (x, panel) = (x.x[row * depth..].as_ptr(), panel.as_ptr());
    for stretch in (0..depth).step_by(STRETCH) {
        for _ in 0..lines {
            prefetch(line);
            line = line.wrapping_add(LINE);
        }
        for k in stretch..depth.min(stretch + STRETCH) {
            // SAFETY: R rows of `depth` numbers lie at x, and `depth` rows of V vectors in the panel (asserted).
            unsafe {
                let mut w = [s.splat(0.0); V];
                for v in 0..V {
                    w[v] = s.load(std::slice::from_raw_parts(panel.add((k * V + v) * S::LANES), S::LANES));
                }
                for r in 0..R {
                    let x = s.splat(*x.add(r * depth + k));
                    for v in 0..V {
                        sums[r][v] = factors.multiply_add(s, x, w[v], sums[r][v]);
                    }
                }
            }
        }
    }
    sums
}

/// f32 of a cache line.
const LINE: usize = 16;
/// Steps of k between two groups of prefetches.
const STRETCH: usize = 4;

/// Has the tile's part of the output fetched while the sums are formed.
#[inline(always)]
fn touch(y: &Output, rows: Range<usize>, columns: Range<usize>) {
    let (stride, first) = (y.dtype.stride(y.columns), y.dtype.stride(columns.start));
    for row in rows {
        let start = row * stride + first;
        for c in (0..y.dtype.stride(columns.len())).step_by(LINE) {
            prefetch(y.y.start().wrapping_add(start + c));
        }
    }
}

#[inline(always)]
fn store<S: Simd, const R: usize, const V: usize>(
    s: S,
    factors: impl Factors<S>,
    y: &Output,
    sums: [[S::V; V]; R],
    rows: Range<usize>,
    columns: Range<usize>,
) {
    let (stride, first, last) = (y.dtype.stride(y.columns), y.dtype.stride(columns.start), y.dtype.stride(columns.end));
    for r in 0..R {
        let start = (rows.start + r) * stride;
        // SAFETY: an item owns its rows and columns, and this is the only slice of them.
        let out = unsafe { y.y.slice(start + first..start + last) };
        for v in 0..V {
            let from = columns.len().min(v * S::LANES);
            let to = columns.len().min((v + 1) * S::LANES);
            let part = y.dtype.stride(from)..y.dtype.stride(to);
            let out = &mut out[part];
            let sum = match y.finish {
                Finish::Overwrite => sums[r][v],
                Finish::Bias(b) => s.add(sums[r][v], s.load_partial(&b[columns.start + from..columns.start + to])),
                Finish::Add => s.add(s.load_partial(out), sums[r][v]),
            };
            match y.dtype {
                Dtype::F32 => s.store_partial(sum, out),
                Dtype::Bf16 => factors.store_rounded(s, sum, out, to - from),
            }
        }
    }
}
