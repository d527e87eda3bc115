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
use crate::isa::Isa;
use crate::linear::{
    add_backward_of_row, add_product_of_row, linear, linear_backward_input, linear_backward_input_add,
    linear_backward_weight,
};

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
        for (z, b) in gates.iter_mut().zip(cell.bias_hh) {
            *z += b;
        }
        for j in 0..n {
            let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates[gate * n + j]);
            let (i, f, g, o) = (sigmoid(i), sigmoid(f), g.tanh(), sigmoid(o));
            let c = f * before.map_or(0.0, |before| part.cell[before * n + j]) + i * g;
            for (gate, value) in [i, f, g, o].into_iter().enumerate() {
                gates[gate * n + j] = value;
            }
            part.cell[t * n + j] = c;
            part.hidden[t * n + j] = o * c.tanh();
        }
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
        for j in 0..n {
            let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates[gate * n + j]);
            let tanh_c = part.cell[t * n + j].tanh();
            let c_before = before.map_or(0.0, |before| part.cell[before * n + j]);
            let d_h = d_h[j] + d_output[j];
            let d = d_c[j] + d_h * o * (1.0 - tanh_c * tanh_c);
            d_c[j] = d * f;
            gates[j] = d * g * i * (1.0 - i);
            gates[n + j] = d * c_before * f * (1.0 - f);
            gates[2 * n + j] = d * i * (1.0 - g * g);
            gates[3 * n + j] = d_h * tanh_c * o * (1.0 - o);
        }
        d_h.fill(0.0);
        if before.is_some() {
            add_backward_of_row(isa, d_h, gates, cell.weight_hh);
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
