//! Rows of numbers as kernels read and write them: in f32, or rounded to bf16.
//!
//! A row of bf16 numbers is kept as *pairs* (see `simd/bf16.rs`), two numbers in the bits of one f32; a last number
//! without a partner gets a zero. So `[rows, columns]` in bf16 is a matrix `[rows, columns.div_ceil(2)]` of pairs, and a
//! block of columns that begins and ends at even ones is a block of pairs. That is what a product with a weight in bf16
//! reads. Pairs are moved, never computed with: vectors are loaded as f32 and rounded when they are stored.

use crate::Context;
use crate::context::rows_per_item;
use crate::isa::bf16_shells;
use crate::simd::{Bf16, Simd, load_up_to, store_up_to};

/// How the numbers of a matrix are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// 16 bits, the upper half of an f32, in pairs.
    Bf16,
}

impl Dtype {
    /// f32 places that a row of `columns` numbers takes.
    pub fn stride(self, columns: usize) -> usize {
        match self {
            Dtype::F32 => columns,
            Dtype::Bf16 => columns.div_ceil(2),
        }
    }
}

/// A matrix that a kernel reads; its shape is the kernel's to know.
#[derive(Clone, Copy)]
pub enum Rows<'a> {
    /// `[rows, columns]`
    F32(&'a [f32]),
    /// `[rows, columns.div_ceil(2)]` pairs
    Bf16(&'a [f32]),
}

/// A matrix that a kernel writes.
pub enum RowsMut<'a> {
    /// `[rows, columns]`
    F32(&'a mut [f32]),
    /// `[rows, columns.div_ceil(2)]` pairs
    Bf16(&'a mut [f32]),
}

impl<'a> Rows<'a> {
    /// The same memory by its dtype.
    pub fn new(dtype: Dtype, memory: &'a [f32]) -> Self {
        match dtype {
            Dtype::F32 => Rows::F32(memory),
            Dtype::Bf16 => Rows::Bf16(memory),
        }
    }

    /// How the numbers are kept.
    pub fn dtype(self) -> Dtype {
        match self {
            Rows::F32(_) => Dtype::F32,
            Rows::Bf16(_) => Dtype::Bf16,
        }
    }

    /// Numbers, or pairs of them.
    pub(crate) fn memory(self) -> &'a [f32] {
        match self {
            Rows::F32(memory) | Rows::Bf16(memory) => memory,
        }
    }
}

impl<'a> RowsMut<'a> {
    /// The same memory by its dtype.
    pub fn new(dtype: Dtype, memory: &'a mut [f32]) -> Self {
        match dtype {
            Dtype::F32 => RowsMut::F32(memory),
            Dtype::Bf16 => RowsMut::Bf16(memory),
        }
    }

    /// How the numbers are kept.
    pub fn dtype(&self) -> Dtype {
        match self {
            RowsMut::F32(_) => Dtype::F32,
            RowsMut::Bf16(_) => Dtype::Bf16,
        }
    }

    /// Numbers, or pairs of them.
    pub(crate) fn memory(self) -> &'a mut [f32] {
        match self {
            RowsMut::F32(memory) | RowsMut::Bf16(memory) => memory,
        }
    }
}

/// Makes pairs of the rows of `x` `[rows, columns]`.
pub fn round_rows(ctx: &Context, pairs: &mut [f32], x: &[f32], columns: usize) {
    let stride = Dtype::Bf16.stride(columns);
    let rows = x.len().checked_div(columns).unwrap_or(0);
    assert_eq!((x.len(), pairs.len()), (rows * columns, rows * stride), "x: rows x columns, pairs: rows x half");
    ctx.run_rows(rows, rows_per_item(columns), [(pairs, stride)], |range, [pairs], _| {
        round(ctx.isa(), pairs, &x[range.start * columns..range.end * columns], columns);
    });
}

/// Makes f32 `[rows, columns]` of pairs: the backward of nothing, only a change of form.
pub fn widen_rows(ctx: &Context, y: &mut [f32], pairs: &[f32], columns: usize) {
    let stride = Dtype::Bf16.stride(columns);
    let rows = y.len().checked_div(columns).unwrap_or(0);
    assert_eq!((y.len(), pairs.len()), (rows * columns, rows * stride), "y: rows x columns, pairs: rows x half");
    ctx.run_rows(rows, rows_per_item(columns), [(y, columns)], |range, [y], _| {
        widen(ctx.isa(), y, &pairs[range.start * stride..range.end * stride], columns);
    });
}

bf16_shells! {
    fn round(isa, pairs: &mut [f32], x: &[f32], columns: usize) = round_generic;
    fn widen(isa, y: &mut [f32], pairs: &[f32], columns: usize) = widen_generic;
}

#[inline(always)]
fn round_generic<B: Bf16>(b: B, pairs: &mut [f32], x: &[f32], columns: usize) {
    let lanes = <B::F32 as Simd>::LANES;
    for (pairs, row) in pairs.chunks_exact_mut(columns.div_ceil(2)).zip(x.chunks_exact(columns)) {
        for (to, from) in pairs.chunks_mut(lanes / 2).zip(row.chunks(lanes)) {
            b.store_rounded(load_up_to(b.f32(), from), to, from.len());
        }
    }
}

#[inline(always)]
fn widen_generic<B: Bf16>(b: B, y: &mut [f32], pairs: &[f32], columns: usize) {
    let lanes = <B::F32 as Simd>::LANES;
    for (y, row) in y.chunks_exact_mut(columns).zip(pairs.chunks_exact(columns.div_ceil(2))) {
        for (to, from) in y.chunks_mut(lanes).zip(row.chunks(lanes / 2)) {
            store_up_to(b.f32(), b.load_widened(from), to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::pair;
    use crate::testing::{numbers, on_every_isa};

    #[test]
    fn rows_are_rounded_and_widened_number_by_number() {
        for (rows, columns) in [(0, 3), (1, 1), (3, 2), (5, 15), (4, 16), (3, 17), (2, 31), (7, 33), (40, 1000)] {
            let x = numbers(rows * columns, 1);
            let want: Vec<f32> = x.iter().map(|&x| f32::from_bits(pair(0.0, x).to_bits())).collect();
            on_every_isa(
                |ctx| {
                    let mut pairs = vec![f32::NAN; rows * columns.div_ceil(2)];
                    let mut y = vec![f32::NAN; rows * columns];
                    round_rows(ctx, &mut pairs, &x, columns);
                    widen_rows(ctx, &mut y, &pairs, columns);
                    let last = pairs.chunks_exact(columns.div_ceil(2)).map(|row| row[row.len() - 1].to_bits() >> 16);
                    assert!(columns.is_multiple_of(2) || last.into_iter().all(|partner| partner == 0));
                    y
                },
                |isa, y| assert_eq!(y, want, "{isa}, {rows} x {columns}"),
            );
        }
    }
}
