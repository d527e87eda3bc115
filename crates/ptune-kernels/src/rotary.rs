//! Rotary position embedding of rows, in place (Su et al., "RoFormer", 2021).
//!
//! The first `2 half` numbers of each head are points `(a, b) = (x[i], x[half + i])` of planes, and plane i of a row is
//! turned by the angle of the row's position: `(a, b) -> (a cos - b sin, b cos + a sin)`. Numbers behind them stay. The
//! backward turns back. A factor on the table's cosines and sines is a factor on both.
//!
//! Rows in bf16 are widened, turned in f32 and rounded once.

use crate::Context;
use crate::context::rows_per_item;
use crate::isa::{bf16_shells, isa_shells};
use crate::rows::{Dtype, RowsMut};
use crate::simd::{Bf16, Simd, load_up_to, store_up_to};

/// Cosines and sines, a row for each position.
#[derive(Clone, Copy, Debug)]
pub struct RotaryTable<'a> {
    /// `[positions, half]`
    pub cosines: &'a [f32],
    /// `[positions, half]`
    pub sines: &'a [f32],
    /// Planes of a head, at least 1.
    pub half: usize,
}

/// Numbers of scratch that [`rotary`] and [`rotary_backward`] need, for [`Context::reserve`].
pub fn rotary_scratch_len(columns: usize) -> usize {
    columns
}

/// Turns the rows `x` `[positions.len(), columns]`, heads of `head_dim` numbers, by their positions. In bf16 the numbers of
/// a head are even. Scratch: [`rotary_scratch_len`].
pub fn rotary(ctx: &Context, x: RowsMut, positions: &[u32], table: RotaryTable, head_dim: usize, columns: usize) {
    turned(ctx, x, positions, table, head_dim, columns, 1.0);
}

/// `d = gradient of the turned rows` becomes that of the rows before: turned the other way.
pub fn rotary_backward(
    ctx: &Context,
    d: RowsMut,
    positions: &[u32],
    table: RotaryTable,
    head_dim: usize,
    columns: usize,
) {
    turned(ctx, d, positions, table, head_dim, columns, -1.0);
}

fn turned(
    ctx: &Context,
    x: RowsMut,
    positions: &[u32],
    table: RotaryTable,
    head_dim: usize,
    columns: usize,
    direction: f32,
) {
    let RotaryTable { cosines, sines, half } = table;
    assert!(half > 0 && 2 * half <= head_dim && columns.is_multiple_of(head_dim));
    assert_eq!(cosines.len(), sines.len());
    assert!(positions.iter().all(|at| (*at as usize + 1) * half <= cosines.len()), "a position beyond the table");
    let dtype = x.dtype();
    assert!(dtype == Dtype::F32 || head_dim.is_multiple_of(2), "in bf16 a head begins with a pair");
    let (x, rows) = (x.memory(), positions.len());
    ctx.run_rows(rows, rows_per_item(columns), [(x, dtype.stride(columns))], |range, [x], scratch| {
        let positions = &positions[range];
        match dtype {
            Dtype::F32 => turn(ctx.isa(), x, positions, table, head_dim, columns, direction),
            Dtype::Bf16 => {
                turn_pairs(ctx.isa(), x, positions, table, head_dim, direction, &mut scratch[..columns]);
            }
        }
    });
}

#[inline(always)]
fn turn_generic<S: Simd>(
    s: S,
    x: &mut [f32],
    positions: &[u32],
    table: RotaryTable,
    head_dim: usize,
    columns: usize,
    direction: f32,
) {
    for (row, position) in x.chunks_exact_mut(columns).zip(positions) {
        turn_row(s, row, *position, table, head_dim, direction);
    }
}

#[inline(always)]
fn turn_row<S: Simd>(s: S, row: &mut [f32], position: u32, table: RotaryTable, head_dim: usize, direction: f32) {
    let (half, direction) = (table.half, s.splat(direction));
    let at = position as usize * half;
    let (cosines, sines) = (&table.cosines[at..at + half], &table.sines[at..at + half]);
    for head in row.chunks_exact_mut(head_dim) {
        let (first, second) = head[..2 * half].split_at_mut(half);
        for i in (0..half).step_by(S::LANES) {
            let (a, b) = (load_up_to(s, &first[i..]), load_up_to(s, &second[i..]));
            let cosine = load_up_to(s, &cosines[i..]);
            let sine = s.mul(load_up_to(s, &sines[i..]), direction);
            store_up_to(s, s.sub(s.mul(a, cosine), s.mul(b, sine)), &mut first[i..]);
            store_up_to(s, s.mul_add(b, cosine, s.mul(a, sine)), &mut second[i..]);
        }
    }
}

#[inline(always)]
fn turn_pairs_generic<B: Bf16>(
    b: B,
    x: &mut [f32],
    positions: &[u32],
    table: RotaryTable,
    head_dim: usize,
    direction: f32,
    scratch: &mut [f32],
) {
    let (s, lanes, columns) = (b.f32(), <B::F32 as Simd>::LANES, scratch.len());
    for (row, position) in x.chunks_exact_mut(columns / 2).zip(positions) {
        for (to, from) in scratch.chunks_mut(lanes).zip(row.chunks(lanes / 2)) {
            store_up_to(s, b.load_widened(from), to);
        }
        turn_row(s, scratch, *position, table, head_dim, direction);
        for (to, from) in row.chunks_mut(lanes / 2).zip(scratch.chunks(lanes)) {
            b.store_rounded(load_up_to(s, from), to, from.len());
        }
    }
}

isa_shells! {
    fn turn(
        isa, x: &mut [f32], positions: &[u32], table: RotaryTable<'_>, head_dim: usize, columns: usize, direction: f32,
    ) = turn_generic;
}

bf16_shells! {
    fn turn_pairs(
        isa, x: &mut [f32], positions: &[u32], table: RotaryTable<'_>, head_dim: usize, direction: f32,
        scratch: &mut [f32],
    ) = turn_pairs_generic;
}

#[cfg(test)]
mod tests;
