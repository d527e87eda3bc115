//! Gating of two rows: `y = kind(gate) up`, number by number (Shazeer, "GLU Variants Improve Transformer", 2020).
//!
//! The backward needs both inputs and no output: `d_up = d_y kind(gate)`, `d_gate = d_y up kind'(gate)`. In bf16 the
//! formulas are those of `activation/bf16.rs`, products f32, and each result is rounded once.

use crate::Context;
use crate::activation::{Activation, narrow_slope, narrow_value, slope, value};
use crate::context::rows_per_item;
use crate::isa::{bf16_shells, isa_shells};
use crate::rows::{Dtype, Rows, RowsMut};
use crate::simd::{Bf16, Simd, load_up_to, store_up_to};

/// `y = kind(gate) up`; all three have the same dtype and length.
pub fn gated(ctx: &Context, y: RowsMut, gate: Rows, up: Rows, kind: Activation) {
    assert!(y.dtype() == gate.dtype() && y.dtype() == up.dtype());
    let forward = if gate.dtype() == Dtype::F32 { forward } else { forward_pairs };
    let (y, gate, up) = (y.memory(), gate.memory(), up.memory());
    assert!(y.len() == gate.len() && y.len() == up.len());
    ctx.run_rows(gate.len(), rows_per_item(1), [(y, 1)], |range, [y], _| {
        forward(ctx.isa(), y, &gate[range.clone()], &up[range], kind);
    });
}

#[inline(always)]
fn forward_all<S: Simd>(s: S, y: &mut [f32], gate: &[f32], up: &[f32], kind: Activation) {
    for i in (0..gate.len()).step_by(S::LANES) {
        let active = value(s, load_up_to(s, &gate[i..]), kind);
        store_up_to(s, s.mul(active, load_up_to(s, &up[i..])), &mut y[i..]);
    }
}

#[inline(always)]
fn forward_all_pairs<B: Bf16>(b: B, y: &mut [f32], gate: &[f32], up: &[f32], kind: Activation) {
    let (s, half) = (b.f32(), <B::F32 as Simd>::LANES / 2);
    for ((y, gate), up) in y.chunks_mut(half).zip(gate.chunks(half)).zip(up.chunks(half)) {
        let active = narrow_value(s, b.load_widened(gate), kind);
        b.store_rounded(s.mul(active, b.load_widened(up)), y, 2 * y.len());
    }
}

/// Writes `d_gate`, and makes of `d`, the gradient of the output, that of `up`; all have the same dtype and length.
pub fn gated_backward(ctx: &Context, d_gate: RowsMut, d: RowsMut, gate: Rows, up: Rows, kind: Activation) {
    let dtype = gate.dtype();
    assert!([d_gate.dtype(), d.dtype(), up.dtype()] == [dtype; 3]);
    let backward = if dtype == Dtype::F32 { backward } else { backward_pairs };
    let (d_gate, d, gate, up) = (d_gate.memory(), d.memory(), gate.memory(), up.memory());
    assert!([d_gate.len(), d.len(), up.len()] == [gate.len(); 3]);
    ctx.run_rows(gate.len(), rows_per_item(1), [(d_gate, 1), (d, 1)], |range, [d_gate, d], _| {
        backward(ctx.isa(), d_gate, d, &gate[range.clone()], &up[range], kind);
    });
}

#[inline(always)]
fn backward_all<S: Simd>(s: S, d_gate: &mut [f32], d: &mut [f32], gate: &[f32], up: &[f32], kind: Activation) {
    for i in (0..gate.len()).step_by(S::LANES) {
        let (x, d_y) = (load_up_to(s, &gate[i..]), load_up_to(s, &d[i..]));
        let d_active = s.mul(d_y, load_up_to(s, &up[i..]));
        store_up_to(s, s.mul(d_active, slope(s, x, kind)), &mut d_gate[i..]);
        store_up_to(s, s.mul(d_y, value(s, x, kind)), &mut d[i..]);
    }
}

#[inline(always)]
fn backward_all_pairs<B: Bf16>(b: B, d_gate: &mut [f32], d: &mut [f32], gate: &[f32], up: &[f32], kind: Activation) {
    let (s, half) = (b.f32(), <B::F32 as Simd>::LANES / 2);
    let inputs = gate.chunks(half).zip(up.chunks(half));
    for ((d_gate, d), (gate, up)) in d_gate.chunks_mut(half).zip(d.chunks_mut(half)).zip(inputs) {
        let (x, d_y) = (b.load_widened(gate), b.load_widened(d));
        let d_active = s.mul(d_y, b.load_widened(up));
        b.store_rounded(s.mul(d_active, narrow_slope(s, x, kind)), d_gate, 2 * d_gate.len());
        b.store_rounded(s.mul(d_y, narrow_value(s, x, kind)), d, 2 * d.len());
    }
}

isa_shells! {
    fn forward(isa, y: &mut [f32], gate: &[f32], up: &[f32], kind: Activation) = forward_all;
    fn backward(
        isa, d_gate: &mut [f32], d: &mut [f32], gate: &[f32], up: &[f32], kind: Activation,
    ) = backward_all;
}

bf16_shells! {
    fn forward_pairs(isa, y: &mut [f32], gate: &[f32], up: &[f32], kind: Activation) = forward_all_pairs;
    fn backward_pairs(
        isa, d_gate: &mut [f32], d: &mut [f32], gate: &[f32], up: &[f32], kind: Activation,
    ) = backward_all_pairs;
}

#[cfg(test)]
mod tests;
