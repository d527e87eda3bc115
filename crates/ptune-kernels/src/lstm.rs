//! A multi-layer bidirectional LSTM with backward through time, as PyTorch's `nn.LSTM(bidirectional=True)`: the prompt
//! encoder's recurrent part. Zero initial state, no dropout, one sequence.
//!
//! ```text
//! z = W_ih x[t] + b_ih + W_hh h[t'] + b_hh      t' the step before in this direction; z holds the gates i, f, g, o
//! i, f, o = sigmoid(z)    g = tanh(z)
//! c[t] = f c[t'] + i g    h[t] = o tanh(c[t])
//! y[t] = concat(h forward, h reverse)           the x of the next layer
//! ```
//! The products with x take all steps at once and all threads; the recurrences of the two directions run side by side.

#[cfg(test)]
mod tests;

use crate::Context;
use crate::isa::{Isa, isa_shells};
use crate::linear::{
    add_backward_of_row, add_product_of_row, linear, linear_backward_input, linear_backward_input_add,
    linear_backward_weight,
};
use crate::math::{sigmoid, tanh};
use crate::simd::{Simd, load_up_to, store_up_to};

/// The sizes of an LSTM run. Each of the two directions has `hidden` numbers.
#[derive(Clone, Copy, Debug)]
pub struct LstmShape {
    /// Rows of x and y.
    pub steps: usize,
    /// Columns of x.
    pub input: usize,
    /// Width of one direction's state.
    pub hidden: usize,
    /// Layers; those above the first read `2 * hidden` columns.
    pub layers: usize,
}

/// The parameters of one layer and direction. The gates stand in the order i, f, g, o.
#[derive(Clone, Copy, Debug)]
pub struct LstmCell<'a> {
    /// `[4 * hidden, input or 2 * hidden]`
    pub weight_ih: &'a [f32],
    /// `[4 * hidden, hidden]`
    pub weight_hh: &'a [f32],
    /// `[4 * hidden]`
    pub bias_ih: &'a [f32],
    /// `[4 * hidden]`
    pub bias_hh: &'a [f32],
}

/// Where the gradient of an [`LstmCell`] goes.
#[derive(Debug)]
pub struct LstmCellGradient<'a> {
    /// As [`LstmCell::weight_ih`].
    pub weight_ih: &'a mut [f32],
    /// As [`LstmCell::weight_hh`].
    pub weight_hh: &'a mut [f32],
    /// As [`LstmCell::bias_ih`].
    pub bias_ih: &'a mut [f32],
    /// As [`LstmCell::bias_hh`].
    pub bias_hh: &'a mut [f32],
}

/// How many numbers [`lstm`] saves for [`lstm_backward`].
pub fn lstm_saved_len(shape: &LstmShape) -> usize {
    shape.layers * shape.layer_len()
}

/// How much scratch (see [`Context::reserve`]) [`lstm_backward`] needs.
pub fn lstm_scratch_len(shape: &LstmShape) -> usize {
    2 * shape.hidden
}

/// `y = LSTM(x)`: y `[steps, 2 * hidden]`, x `[steps, input]`, saved [`lstm_saved_len`] numbers, cells layer by layer,
/// forward before reverse.
pub fn lstm(ctx: &Context, y: &mut [f32], saved: &mut [f32], x: &[f32], cells: &[LstmCell<'_>], shape: &LstmShape) {
    shape.check(y.len(), saved.len(), x.len(), cells);
    let &LstmShape { hidden, layers, .. } = shape;
    for layer in 0..layers {
        let (below, at) = saved.split_at_mut(layer * shape.layer_len());
        let mut own = shape.layer(&mut at[..shape.layer_len()]);
        let below = (layer > 0).then(|| shape.layer(&mut below[(layer - 1) * shape.layer_len()..]));
        let (input, width) = below.as_ref().map_or((x, shape.input), |below| (&*below.output, 2 * hidden));
        let pair = &cells[2 * layer..2 * layer + 2];
        for (d, cell) in pair.iter().enumerate() {
            let gates = own.direction(d, shape).gates;
            linear(ctx, gates, input, cell.weight_ih, Some(cell.bias_ih), 4 * hidden, width);
        }
        ctx.run_rows(2, 1, [(&mut *own.directions, shape.direction_len())], |range, [part], _| {
            run_direction(ctx.isa(), shape.direction(part), &pair[range.start], shape, range.start == 1);
        });
        own.join(shape);
        if layer + 1 == layers {
            y.copy_from_slice(own.output);
        }
    }
}

/// The gradients of x and of every cell. `saved` comes from [`lstm`] on the same x and cells; it is used up: gradients
/// of the gates and of the lower layers' outputs are kept there.
pub fn lstm_backward(
    ctx: &Context,
    d_x: &mut [f32],
    d_cells: &mut [LstmCellGradient<'_>],
    d_y: &[f32],
    x: &[f32],
    saved: &mut [f32],
    cells: &[LstmCell<'_>],
    shape: &LstmShape,
) {
    shape.check(d_y.len(), saved.len(), x.len(), cells);
    assert!(d_x.len() == x.len() && d_cells.len() == cells.len(), "d_x and d_cells: as x and cells");
    let &LstmShape { hidden, layers, .. } = shape;
    for layer in (0..layers).rev() {
        let (below, at) = saved.split_at_mut(layer * shape.layer_len());
        let mut own = shape.layer(&mut at[..shape.layer_len()]);
        let d_output = if layer + 1 == layers { d_y } else { &*own.d_output };
        let (input, d_input, width) = if layer == 0 {
            (x, &mut *d_x, shape.input)
        } else {
            let below = shape.layer(&mut below[(layer - 1) * shape.layer_len()..]);
            (&*below.output, below.d_output, 2 * hidden)
        };
        let pair = &cells[2 * layer..2 * layer + 2];
        ctx.run_rows(2, 1, [(&mut *own.directions, shape.direction_len())], |range, [part], scratch| {
            let (part, reverse) = (shape.direction(part), range.start == 1);
            run_direction_backward(ctx.isa(), part, d_output, &pair[range.start], shape, reverse, scratch);
        });
        for d in 0..2 {
            let part = own.direction(d, shape);
            part.backward_weights(ctx, &mut d_cells[2 * layer + d], input, width, shape, d == 1);
            let product = if d == 0 { linear_backward_input } else { linear_backward_input_add };
            product(ctx, d_input, part.gates, pair[d].weight_ih, 4 * hidden, width);
        }
    }
}

/// What is saved of a layer.
struct Layer<'a> {
    /// Two of [`Direction`].
    directions: &'a mut [f32],
    /// `[steps, 2 * hidden]`
    output: &'a mut [f32],
    /// Written by the layer above on the way back.
    d_output: &'a mut [f32],
}

/// What is saved of a layer's direction.
struct Direction<'a> {
    /// `[steps, 4 * hidden]`: after their activations; on the way back the gradients before them.
    gates: &'a mut [f32],
    /// c, `[steps, hidden]`
    cell: &'a mut [f32],
    /// h, `[steps, hidden]`
    hidden: &'a mut [f32],
}

impl LstmShape {
    fn direction_len(&self) -> usize {
        6 * self.steps * self.hidden
    }

    fn layer_len(&self) -> usize {
        2 * self.direction_len() + 4 * self.steps * self.hidden
    }

    fn layer<'a>(&self, saved: &'a mut [f32]) -> Layer<'a> {
        let (directions, outputs) = saved.split_at_mut(2 * self.direction_len());
        let (output, d_output) = outputs.split_at_mut(2 * self.steps * self.hidden);
        Layer { directions, output, d_output }
    }

    fn direction<'a>(&self, part: &'a mut [f32]) -> Direction<'a> {
        let (gates, states) = part.split_at_mut(4 * self.steps * self.hidden);
        let (cell, hidden) = states.split_at_mut(self.steps * self.hidden);
        Direction { gates, cell, hidden }
    }

    fn check(&self, y: usize, saved: usize, x: usize, cells: &[LstmCell<'_>]) {
        let &LstmShape { steps, input, hidden, layers } = self;
        assert!(hidden > 0 && layers > 0, "an LSTM has a state and a layer");
        assert_eq!((y, x), (steps * 2 * hidden, steps * input), "y: steps x 2 hidden, x: steps x input");
        assert_eq!(saved, lstm_saved_len(self), "saved: lstm_saved_len numbers");
        assert_eq!(cells.len(), 2 * layers, "cells: two a layer");
        for (at, cell) in cells.iter().enumerate() {
            let width = if at < 2 { input } else { 2 * hidden };
            let sizes = [cell.weight_ih.len(), cell.weight_hh.len(), cell.bias_ih.len(), cell.bias_hh.len()];
            assert_eq!(sizes, [4 * hidden * width, 4 * hidden * hidden, 4 * hidden, 4 * hidden], "cell {at}");
        }
    }

    /// Step number `at` in the order of a direction, and the one before it.
    fn step(&self, at: usize, reverse: bool) -> (usize, Option<usize>) {
        if reverse { (self.steps - 1 - at, (at > 0).then(|| self.steps - at)) } else { (at, at.checked_sub(1)) }
    }
}

impl Layer<'_> {
    fn direction(&mut self, d: usize, shape: &LstmShape) -> Direction<'_> {
        shape.direction(&mut self.directions[d * shape.direction_len()..][..shape.direction_len()])
    }

    /// Puts the directions' states side by side.
    fn join(&mut self, shape: &LstmShape) {
        let n = shape.hidden;
        for (d, part) in self.directions.chunks_exact_mut(shape.direction_len().max(1)).enumerate() {
            let states = shape.direction(part).hidden.chunks_exact(n);
            for (to, from) in self.output.chunks_exact_mut(2 * n).zip(states) {
                to[d * n..(d + 1) * n].copy_from_slice(from);
            }
        }
    }
}

impl Direction<'_> {
    /// The gradients of a cell, once `gates` holds the gradients before the activations.
    fn backward_weights(
        &self,
        ctx: &Context,
        d_cell: &mut LstmCellGradient<'_>,
        input: &[f32],
        width: usize,
        shape: &LstmShape,
        reverse: bool,
    ) {
        let hidden = shape.hidden;
        linear_backward_weight(ctx, d_cell.weight_ih, Some(&mut *d_cell.bias_ih), self.gates, input, 4 * hidden, width);
        d_cell.bias_hh.copy_from_slice(d_cell.bias_ih);
        // Pairs of a step's gates with the state of the step before.
        let pairs = shape.steps.saturating_sub(1);
        let (gates, states) = if reverse { (0, shape.steps - pairs) } else { (shape.steps - pairs, 0) };
        let gates = &self.gates[gates * 4 * hidden..][..pairs * 4 * hidden];
        let states = &self.hidden[states * hidden..][..pairs * hidden];
        linear_backward_weight(ctx, d_cell.weight_hh, None, gates, states, 4 * hidden, hidden);
    }
}

fn run_direction(isa: Isa, part: Direction<'_>, cell: &LstmCell<'_>, shape: &LstmShape, reverse: bool) {
    let n = shape.hidden;
    for at in 0..shape.steps {
        let (t, before) = shape.step(at, reverse);
        let gates = &mut part.gates[t * 4 * n..][..4 * n];
        if let Some(before) = before {
            add_product_of_row(isa, gates, &part.hidden[before * n..][..n], cell.weight_hh);
        }
        let hidden = &mut part.hidden[t * n..][..n];
        step(isa, gates, cell.bias_hh, part.cell, before, t, hidden);
    }
}

fn run_direction_backward(
    isa: Isa,
    part: Direction<'_>,
    d_output: &[f32],
    cell: &LstmCell<'_>,
    shape: &LstmShape,
    reverse: bool,
    scratch: &mut [f32],
) {
    let n = shape.hidden;
    let (d_h, d_c) = scratch[..2 * n].split_at_mut(n);
    d_h.fill(0.0);
    d_c.fill(0.0);
    for at in (0..shape.steps).rev() {
        let (t, before) = shape.step(at, reverse);
        let d_output = &d_output[t * 2 * n + usize::from(reverse) * n..][..n];
        let gates = &mut part.gates[t * 4 * n..][..4 * n];
        step_backward(isa, gates, part.cell, before, t, d_output, d_h, d_c);
        d_h.fill(0.0);
        if before.is_some() {
            add_backward_of_row(isa, d_h, gates, cell.weight_hh);
        }
    }
}

isa_shells! {
    /// The element-wise part of step t: `gates` from the products to their activations, and the new states. `cells` are
    /// those of all steps.
    fn step(
        isa,
        gates: &mut [f32],
        bias: &[f32],
        cells: &mut [f32],
        before: Option<usize>,
        t: usize,
        hidden: &mut [f32],
    ) = step_generic;
    /// Its backward: `gates` to their gradients before the activations; `d_c` goes from this step to the one before.
    fn step_backward(
        isa,
        gates: &mut [f32],
        cells: &[f32],
        before: Option<usize>,
        t: usize,
        d_output: &[f32],
        d_h: &[f32],
        d_c: &mut [f32],
    ) = step_backward_generic;
}

#[inline(always)]
fn step_generic<S: Simd>(
    s: S,
    gates: &mut [f32],
    bias: &[f32],
    cells: &mut [f32],
    before: Option<usize>,
    t: usize,
    hidden: &mut [f32],
) {
    let n = hidden.len();
    for j in (0..n).step_by(S::LANES) {
        let z = |gate: usize| {
            let part = gate * n + j..(gate + 1) * n;
            s.add(load_up_to(s, &gates[part.clone()]), load_up_to(s, &bias[part]))
        };
        let [i, f, g, o] = [sigmoid(s, z(0)), sigmoid(s, z(1)), tanh(s, z(2)), sigmoid(s, z(3))];
        let c_before = row_or_zeros(s, cells, before, n, j);
        let c = s.mul_add(f, c_before, s.mul(i, g));
        for (gate, value) in [i, f, g, o].into_iter().enumerate() {
            store_up_to(s, value, &mut gates[gate * n + j..(gate + 1) * n]);
        }
        store_up_to(s, c, &mut cells[t * n + j..(t + 1) * n]);
        store_up_to(s, s.mul(o, tanh(s, c)), &mut hidden[j..]);
    }
}

#[inline(always)]
fn step_backward_generic<S: Simd>(
    s: S,
    gates: &mut [f32],
    cells: &[f32],
    before: Option<usize>,
    t: usize,
    d_output: &[f32],
    d_h: &[f32],
    d_c: &mut [f32],
) {
    let (n, one) = (d_h.len(), s.splat(1.0));
    // The slopes of sigmoid and tanh from their values.
    let of_sigmoid = |y| s.mul(y, s.sub(one, y));
    let of_tanh = |y| s.sub(one, s.mul(y, y));
    for j in (0..n).step_by(S::LANES) {
        let [i, f, g, o] = [0, 1, 2, 3].map(|gate| load_up_to(s, &gates[gate * n + j..(gate + 1) * n]));
        let tanh_c = tanh(s, load_up_to(s, &cells[t * n + j..(t + 1) * n]));
        let c_before = row_or_zeros(s, cells, before, n, j);
        let d_h = s.add(load_up_to(s, &d_h[j..]), load_up_to(s, &d_output[j..]));
        let d = s.mul_add(s.mul(d_h, o), of_tanh(tanh_c), load_up_to(s, &d_c[j..]));
        store_up_to(s, s.mul(d, f), &mut d_c[j..]);
        let d_gates = [
            s.mul(s.mul(d, g), of_sigmoid(i)),
            s.mul(s.mul(d, c_before), of_sigmoid(f)),
            s.mul(s.mul(d, i), of_tanh(g)),
            s.mul(s.mul(d_h, tanh_c), of_sigmoid(o)),
        ];
        for (gate, value) in d_gates.into_iter().enumerate() {
            store_up_to(s, value, &mut gates[gate * n + j..(gate + 1) * n]);
        }
    }
}

/// Numbers of row `row` of a matrix with n columns, from column j on; zeros where there is no row.
#[inline(always)]
fn row_or_zeros<S: Simd>(s: S, matrix: &[f32], row: Option<usize>, n: usize, j: usize) -> S::V {
    match row {
        Some(row) => load_up_to(s, &matrix[row * n + j..(row + 1) * n]),
        None => s.splat(0.0),
    }
}
