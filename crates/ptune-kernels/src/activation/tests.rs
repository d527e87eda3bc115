//! Against the formulas in f64, and slopes against central differences of those formulas.

use super::*;
use crate::math::tests::erf_f64;
use crate::rows::{round_rows, widen_rows};
use crate::testing::{assert_close, central_differences, numbers, on_every_isa, wide};

pub(crate) const KINDS: [Activation; 5] =
    [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Tanh, Activation::Silu];
/// Zero, one, and around one, two and three vectors of 8 and 16 lanes; more than one work item.
pub(crate) const SIZES: [usize; 10] = [0, 1, 7, 8, 9, 15, 17, 26, 50, 40_000];

pub(crate) fn twin(x: f64, kind: Activation) -> f64 {
    match kind {
        Activation::Gelu => x * 0.5 * (1.0 + erf_f64(x / 2f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::Tanh => x.tanh(),
        Activation::Silu => x / (1.0 + (-x).exp()),
    }
}

/// Over -7..7, the first near zero: limits are relative to the largest result, which must not be a vanishing slope.
pub(crate) fn inputs(size: usize) -> Vec<f32> {
    let mut x: Vec<f32> = numbers(size, 1).iter().map(|x| x * 7.0).collect();
    x.iter_mut().take(1).for_each(|x| *x = 0.3);
    x
}

#[test]
fn forward_equals_the_formulas() {
    for (kind, size) in KINDS.into_iter().flat_map(|k| SIZES.map(|n| (k, n))) {
        let x = inputs(size);
        let want: Vec<f64> = x.iter().map(|x| twin(f64::from(*x), kind)).collect();
        let kernel = |ctx: &Context| {
            let mut y = vec![9.0; size];
            activation(ctx, RowsMut::F32(&mut y), Rows::F32(&x), kind);
            y
        };
        on_every_isa(kernel, |name, y| assert_close(&format!("{name} {kind:?}"), y, &want, 3e-7));
    }
}

#[test]
fn backward_equals_central_differences() {
    for (kind, size) in KINDS.into_iter().flat_map(|k| SIZES.map(|n| (k, n.min(100)))) {
        let (x, d_y) = (inputs(size), numbers(size, 2));
        let loss = |x: &[f64]| -> f64 { x.iter().zip(&d_y).map(|(x, d)| twin(*x, kind) * f64::from(*d)).sum() };
        let want = central_differences(&wide(&x), loss);
        let kernel = |ctx: &Context| {
            let mut d = d_y.clone();
            activation_backward(ctx, RowsMut::F32(&mut d), Rows::F32(&x), kind);
            d
        };
        on_every_isa(kernel, |name, d_x| assert_close(&format!("{name} {kind:?}"), d_x, &want, 1e-6));
    }
}

/// `f(pairs of x)` as numbers.
pub(crate) fn in_bf16(ctx: &Context, x: &[f32], f: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut pairs = vec![f32::NAN; x.len().div_ceil(2)];
    round_rows(ctx, &mut pairs, x, x.len());
    f(&mut pairs);
    let mut y = vec![f32::NAN; x.len()];
    widen_rows(ctx, &mut y, &pairs, x.len());
    y
}

/// Within the rounding of the result, at most 2^-8 of it, and the error of the cheaper formulas.
pub(crate) fn assert_close_bf16(what: &str, got: &[f32], want: &[f64]) {
    for (got, want) in got.iter().zip(want) {
        let error = (f64::from(*got) - want).abs();
        assert!(error <= 0.0039063 * want.abs() + 1e-4, "{what}: got {got}, want {want}");
    }
}

#[test]
fn rows_in_bf16_give_the_formulas_of_the_rounded_numbers() {
    for (kind, size) in KINDS.into_iter().flat_map(|k| SIZES.map(|n| (k, n))) {
        let exact = |x: &[f32]| in_bf16(&Context::detect(), x, |_| {});
        let (x, d_y) = (exact(&inputs(size)), exact(&numbers(size, 2)));
        let want: Vec<f64> = x.iter().map(|x| twin(f64::from(*x), kind)).collect();
        let slope = |x: f64| (twin(x + 1e-5, kind) - twin(x - 1e-5, kind)) / 2e-5;
        let d_want: Vec<f64> = x.iter().zip(&d_y).map(|(x, d)| slope(f64::from(*x)) * f64::from(*d)).collect();
        let kernel = |ctx: &Context| {
            let y = in_bf16(ctx, &x, |pairs| {
                let x = pairs.to_vec();
                activation(ctx, RowsMut::Bf16(pairs), Rows::Bf16(&x), kind);
            });
            let mut x_pairs = vec![0.0; size.div_ceil(2)];
            round_rows(ctx, &mut x_pairs, &x, size);
            let d = in_bf16(ctx, &d_y, |d| activation_backward(ctx, RowsMut::Bf16(d), Rows::Bf16(&x_pairs), kind));
            [y, d].concat()
        };
        on_every_isa(kernel, |name, got| {
            assert_close_bf16(&format!("{name} {kind:?}"), got, &[want.clone(), d_want.clone()].concat());
        });
    }
}

#[test]
fn huge_inputs_give_no_nan() {
    let x = [f32::MIN, -1e20, -100.0, 100.0, 1e20, f32::MAX];
    for (isa, kind) in crate::Isa::available().into_iter().flat_map(|isa| KINDS.map(|k| (isa, k))) {
        let ctx = Context::new(isa, 1);
        let (mut y, mut d_x) = ([0.0; 6], [1.0; 6]);
        activation(&ctx, RowsMut::F32(&mut y), Rows::F32(&x), kind);
        activation_backward(&ctx, RowsMut::F32(&mut d_x), Rows::F32(&x), kind);
        let limit = if kind == Activation::Tanh { 0.0 } else { 1.0 };
        assert_eq!(d_x, [0.0, 0.0, 0.0, limit, limit, limit], "{} {kind:?}", isa.name());
        assert!(y.iter().all(|y| !y.is_nan()), "{} {kind:?}: {y:?}", isa.name());
        let narrow = in_bf16(&ctx, &x, |pairs| {
            let x = pairs.to_vec();
            activation(&ctx, RowsMut::Bf16(pairs), Rows::Bf16(&x), kind);
        });
        let want = in_bf16(&ctx, &y, |_| {});
        // The largest f32 is infinite in bf16.
        assert_eq!(narrow[1..5], want[1..5], "{} {kind:?} in bf16", isa.name());
    }
}
