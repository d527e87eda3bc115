//! Against the formula in f64 over the activations' twin, and gradients against central differences of it.

use super::*;
use crate::activation::tests::{KINDS, SIZES, assert_close_bf16, in_bf16, inputs, twin};
use crate::rows::round_rows;
use crate::testing::{assert_close, central_differences, numbers, on_every_isa, wide};

fn cases() -> impl Iterator<Item = (Activation, usize)> {
    KINDS.into_iter().flat_map(|kind| SIZES.map(|size| (kind, size)))
}

#[test]
fn forward_equals_the_formula() {
    for (kind, size) in cases() {
        let (gate, up) = (inputs(size), numbers(size, 3));
        let want: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| twin(f64::from(*g), kind) * f64::from(*u)).collect();
        let kernel = |ctx: &Context| {
            let mut y = vec![9.0; size];
            gated(ctx, RowsMut::F32(&mut y), Rows::F32(&gate), Rows::F32(&up), kind);
            y
        };
        on_every_isa(kernel, |name, y| assert_close(&format!("{name} {kind:?}"), y, &want, 4e-7));
    }
}

#[test]
fn backward_equals_central_differences() {
    for (kind, size) in KINDS.into_iter().flat_map(|kind| SIZES.map(|size| (kind, size.min(60)))) {
        let (gate, up, d_y) = (inputs(size), numbers(size, 3), numbers(size, 2));
        let loss = |x: &[f64]| -> f64 {
            let (gate, up) = x.split_at(size);
            (0..size).map(|i| twin(gate[i], kind) * up[i] * f64::from(d_y[i])).sum()
        };
        let want = central_differences(&wide(&[gate.clone(), up.clone()].concat()), loss);
        let kernel = |ctx: &Context| {
            let (mut d_gate, mut d) = (vec![9.0; size], d_y.clone());
            let (gate, up) = (Rows::F32(&gate), Rows::F32(&up));
            gated_backward(ctx, RowsMut::F32(&mut d_gate), RowsMut::F32(&mut d), gate, up, kind);
            [d_gate, d].concat()
        };
        on_every_isa(kernel, |name, d| assert_close(&format!("{name} {kind:?}"), d, &want, 2e-6));
    }
}

#[test]
fn rows_in_bf16_give_the_formula_of_the_rounded_numbers() {
    for (kind, size) in cases() {
        let exact = |x: &[f32]| in_bf16(&Context::detect(), x, |_| {});
        let (gate, up, d_y) = (exact(&inputs(size)), exact(&numbers(size, 3)), exact(&numbers(size, 2)));
        let at = |i: usize| (f64::from(gate[i]), f64::from(up[i]), f64::from(d_y[i]));
        let slope = |x: f64| (twin(x + 1e-5, kind) - twin(x - 1e-5, kind)) / 2e-5;
        let forward = (0..size).map(|i| twin(at(i).0, kind) * at(i).1);
        let to_gate = (0..size).map(|i| at(i).2 * at(i).1 * slope(at(i).0));
        let to_up = (0..size).map(|i| at(i).2 * twin(at(i).0, kind));
        let want: Vec<f64> = forward.chain(to_gate).chain(to_up).collect();
        let kernel = |ctx: &Context| {
            let pairs = |x: &[f32]| {
                let mut pairs = vec![9.0; size.div_ceil(2)];
                round_rows(ctx, &mut pairs, x, size);
                pairs
            };
            let (gate, up) = (pairs(&gate), pairs(&up));
            let (gate, up) = (Rows::Bf16(&gate), Rows::Bf16(&up));
            let y = in_bf16(ctx, &d_y, |y| gated(ctx, RowsMut::Bf16(y), gate, up, kind));
            let mut d = pairs(&d_y);
            let d_gate = in_bf16(ctx, &d_y, |d_gate| {
                gated_backward(ctx, RowsMut::Bf16(d_gate), RowsMut::Bf16(&mut d), gate, up, kind);
            });
            let d = in_bf16(ctx, &d_y, |to| to.copy_from_slice(&d));
            [y, d_gate, d].concat()
        };
        on_every_isa(kernel, |name, got| assert_close_bf16(&format!("{name} {kind:?}"), got, &want));
    }
}
