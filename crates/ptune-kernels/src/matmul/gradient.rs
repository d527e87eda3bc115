//! The gradient of a weight from many rows: `d_w[o, i] = sum over r of d_y[r, o] x[r, i]`, one chain in the order of r.
//!
//! It is the product of `matmul.rs` with d_y turned (its rows are the outputs, its depth the rows of the batch) and x in
//! panels. Both are written into scratch first: that reads and writes `rows * (outputs + inputs)` numbers for
//! `rows * outputs * inputs` multiply-adds, and the tile then reads memory strictly forward.

use super::pack::{Panels, panels_len};
use super::tile::Finish;
use super::{product, rows_of};
use crate::Context;
use crate::transpose::transposed;

/// Outputs of d_y that an item turns: four cache lines of every row.
const TURNED: usize = 64;

/// Numbers of scratch that [`matmul_backward_weight`] needs.
pub fn matmul_backward_weight_scratch_len(ctx: &Context, rows: usize, outputs: usize, inputs: usize) -> usize {
    panels_len(ctx, rows, inputs) + outputs * rows
}

/// `d_w = d_y^T x`: d_w `[outputs, inputs]`, d_y `[rows, outputs]`, x `[rows, inputs]`. `scratch` holds at least
/// [`matmul_backward_weight_scratch_len`] numbers, whatever they are. The gradient of the bias is
/// [`crate::column_sums`] of d_y.
pub fn matmul_backward_weight(
    ctx: &Context,
    d_w: &mut [f32],
    d_y: &[f32],
    x: &[f32],
    outputs: usize,
    inputs: usize,
    scratch: &mut [f32],
) {
    assert_eq!(d_w.len(), outputs * inputs, "d_w: outputs x inputs");
    let rows = rows_of(d_y.len(), outputs, x.len(), inputs);
    let (mut panels, rest) = Panels::within(ctx, scratch, rows, inputs);
    panels.fill_from_columns(ctx, x, |row| row);
    let turned = &mut rest[..outputs * rows];
    turn(ctx, turned, d_y, rows, outputs);
    product(ctx, d_w, turned, &panels.view(), Finish::Overwrite);
}

/// `y[o, r] = x[r, o]`.
fn turn(ctx: &Context, y: &mut [f32], x: &[f32], rows: usize, outputs: usize) {
    ctx.run_rows(outputs, TURNED, [(y, rows)], |chosen, [y], _| {
        transposed(ctx.isa(), y, rows, x.get(chosen.start..).unwrap_or(&[]), outputs, rows, chosen.len());
    });
}
