//! Products with a weight that is being trained: plain row-major `[outputs, inputs]` (PyTorch's `Linear`), few rows.
//!
//! ```text
//! y[r, o]   = sum over i of x[r, i] w[o, i] + b[o]      one chain a lane, the lanes added in a fixed tree, then b
//! d_x[r, i] = sum over o of d_y[r, o] w[o, i]           one chain in the order of o
//! d_w[o, i] = sum over r of d_y[r, o] x[r, i]           one chain in the order of r
//! d_b[o]    = sum over r of d_y[r, o]
//! ```
//! Made for the 1 to 64 rows of a prompt encoder, where reading the weight is the work. A frozen weight, or many rows,
//! belong in `matmul.rs`.

#[cfg(test)]
mod tests;
mod tile;

use self::tile::{STRIP, chains_of_outputs, chains_of_rows, dots_of_rows};
use crate::Context;
use crate::context::Disjoint;
use crate::isa::Isa;

/// Multiply-adds of a work item: about ten microseconds.
const ITEM: usize = 500_000;

/// `y = x W^T + bias`: y `[rows, outputs]`, x `[rows, inputs]`, weight `[outputs, inputs]`, bias `[outputs]`.
pub fn linear(
    ctx: &Context,
    y: &mut [f32],
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    outputs: usize,
    inputs: usize,
) {
    let sizes = Sizes::new(y.len(), x.len(), weight.len(), outputs, inputs);
    assert!(bias.is_none_or(|b| b.len() == outputs), "bias: one number an output");
    let y = Disjoint::new(y);
    let block = block(outputs, sizes.rows * inputs);
    ctx.run(outputs.div_ceil(block), |item, _| {
        let outputs = item * block..outputs.min((item + 1) * block);
        dots_of_rows(ctx.isa(), &y, x, weight, bias, false, &sizes, outputs);
    });
}

/// `d_x = d_y W`: d_x `[rows, inputs]`, d_y `[rows, outputs]`, weight `[outputs, inputs]`.
pub fn linear_backward_input(
    ctx: &Context,
    d_x: &mut [f32],
    d_y: &[f32],
    weight: &[f32],
    outputs: usize,
    inputs: usize,
) {
    backward_input(ctx, d_x, d_y, weight, outputs, inputs, false);
}

/// `d_x = d_x + d_y W`, else as [`linear_backward_input`].
pub fn linear_backward_input_add(
    ctx: &Context,
    d_x: &mut [f32],
    d_y: &[f32],
    weight: &[f32],
    outputs: usize,
    inputs: usize,
) {
    backward_input(ctx, d_x, d_y, weight, outputs, inputs, true);
}

fn backward_input(
    ctx: &Context,
    d_x: &mut [f32],
    d_y: &[f32],
    weight: &[f32],
    outputs: usize,
    inputs: usize,
    add: bool,
) {
    let sizes = Sizes::new(d_y.len(), d_x.len(), weight.len(), outputs, inputs);
    let d_x = Disjoint::new(d_x);
    // Whole strips of columns, so that only the last item has an edge.
    let block = block(inputs, sizes.rows * outputs).next_multiple_of(STRIP);
    ctx.run(inputs.div_ceil(block), |item, _| {
        let columns = item * block..inputs.min((item + 1) * block);
        chains_of_rows(ctx.isa(), &d_x, d_y, weight, add, &sizes, columns);
    });
}

/// `d_weight = d_y^T x` and `d_bias = column sums of d_y`: d_weight `[outputs, inputs]`, d_bias `[outputs]`, d_y
/// `[rows, outputs]`, x `[rows, inputs]`.
pub fn linear_backward_weight(
    ctx: &Context,
    d_weight: &mut [f32],
    d_bias: Option<&mut [f32]>,
    d_y: &[f32],
    x: &[f32],
    outputs: usize,
    inputs: usize,
) {
    let sizes = Sizes::new(d_y.len(), x.len(), d_weight.len(), outputs, inputs);
    if let Some(d_bias) = d_bias {
        assert_eq!(d_bias.len(), outputs, "d_bias: one number an output");
        d_bias.fill(0.0);
        for row in d_y.chunks_exact(outputs.max(1)) {
            d_bias.iter_mut().zip(row).for_each(|(sum, d)| *sum += d);
        }
    }
    let block = block(outputs, sizes.rows.max(1) * inputs);
    ctx.run_rows(outputs, block, [(d_weight, inputs)], |outputs, [d_weight], _| {
        chains_of_outputs(ctx.isa(), d_weight, d_y, x, &sizes, outputs);
    });
}

/// `y = y + x W^T` for a single row, on the calling thread: the recurrence of the LSTM.
pub(crate) fn add_product_of_row(isa: Isa, y: &mut [f32], x: &[f32], weight: &[f32]) {
    let sizes = Sizes::one_row(y.len(), x.len(), weight.len());
    dots_of_rows(isa, &Disjoint::new(y), x, weight, None, true, &sizes, 0..sizes.outputs);
}

/// `d_x = d_x + d_y W` for a single row, on the calling thread.
pub(crate) fn add_backward_of_row(isa: Isa, d_x: &mut [f32], d_y: &[f32], weight: &[f32]) {
    let sizes = Sizes::one_row(d_y.len(), d_x.len(), weight.len());
    chains_of_rows(isa, &Disjoint::new(d_x), d_y, weight, true, &sizes, 0..sizes.inputs);
}

struct Sizes {
    rows: usize,
    outputs: usize,
    inputs: usize,
}

impl Sizes {
    fn new(y: usize, x: usize, weight: usize, outputs: usize, inputs: usize) -> Self {
        let rows = y.checked_div(outputs).or(x.checked_div(inputs)).unwrap_or(0);
        assert!(
            rows * outputs == y && rows * inputs == x,
            "{y} and {x} numbers: not rows x {outputs}, rows x {inputs}"
        );
        assert_eq!(weight, outputs * inputs, "weight: outputs x inputs");
        Sizes { rows, outputs, inputs }
    }

    fn one_row(y: usize, x: usize, weight: usize) -> Self {
        assert_eq!(weight, y * x, "weight: outputs x inputs");
        Sizes { rows: 1, outputs: y, inputs: x }
    }
}

/// How many of `count` parts of `work` multiply-adds each make an item; a multiple of the tiles' 8.
fn block(count: usize, work: usize) -> usize {
    (ITEM / work.max(1)).clamp(1, count.max(1)).next_multiple_of(8)
}
