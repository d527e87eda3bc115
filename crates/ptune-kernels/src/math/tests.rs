//! Dense sweeps against f64, in units of the last place of the true value, and the extremes.

use super::*;
use crate::isa::isa_shells;
use crate::simd::{load_up_to, store_up_to};
use crate::testing::on_every_isa;

#[derive(Clone, Copy)]
enum Function {
    Exp,
    Tanh,
    Sigmoid,
    Erf,
    Ln,
}

#[inline(always)]
fn map_generic<S: Simd>(s: S, y: &mut [f32], x: &[f32], function: Function) {
    for i in (0..x.len()).step_by(S::LANES) {
        let v = load_up_to(s, &x[i..]);
        let v = match function {
            Function::Exp => exp(s, v),
            Function::Tanh => tanh(s, v),
            Function::Sigmoid => sigmoid(s, v),
            Function::Erf => erf(s, v),
            Function::Ln => ln(s, v),
        };
        store_up_to(s, v, &mut y[i..]);
    }
}

isa_shells! {
    fn map(isa, y: &mut [f32], x: &[f32], function: Function) = map_generic;
}

/// The error of `got` in units of the last place of `want`; below the smallest normal number, of that number.
fn ulps(got: f32, want: f64) -> f64 {
    let unit = 2f64.powi((want.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() as i32) - 23);
    (f64::from(got) - want).abs() / unit
}

/// The worst error of `function` over `n` points of `low..=high`.
fn sweep(function: Function, truth: impl Fn(f64) -> f64, low: f64, high: f64, limit: f64) {
    let n = 200_001;
    let x: Vec<f32> = (0..n).map(|i| (low + (high - low) * f64::from(i) / f64::from(n - 1)) as f32).collect();
    let kernel = |ctx: &crate::Context| {
        let mut y = vec![0.0; x.len()];
        map(ctx.isa(), &mut y, &x, function);
        y
    };
    on_every_isa(kernel, |name, y| {
        for (x, y) in x.iter().zip(y) {
            let want = truth(f64::from(*x));
            let error = ulps(*y, want);
            assert!(error <= limit, "{name}: f({x:e}) = {y:e}, not {want:e}: {error:.2} ulp");
        }
    });
}

/// The error function in f64 by its power series (good below 3) or the continued fraction of erfc.
pub(crate) fn erf_f64(x: f64) -> f64 {
    let a = x.abs();
    let y = if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for n in 1..200 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..60).rev().fold(a, |f, n| a + f64::from(n) / 2.0 / f);
        1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    y.copysign(x)
}

#[test]
fn exp_over_its_whole_range() {
    sweep(Function::Exp, f64::exp, -86.6, 88.7, 2.0);
    sweep(Function::Exp, f64::exp, -1.0, 1.0, 2.0);
}

#[test]
fn tanh_near_and_far() {
    for high in [1e-6, 0.01, 1.0, 12.0] {
        sweep(Function::Tanh, f64::tanh, -high, high, 4.0);
    }
}

#[test]
fn sigmoid_near_and_far() {
    sweep(Function::Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -80.0, 30.0, 4.0);
}

#[test]
fn erf_near_and_far() {
    for high in [1e-6, 0.01, 1.1, 6.0] {
        sweep(Function::Erf, erf_f64, -high, high, 4.0);
    }
}

/// Near 1 the logarithm is near 0, and only its absolute error counts where it is added to a maximum.
#[test]
fn ln_from_tiny_to_huge() {
    for high in [2.0_f64, 1e3, 1e7, 1e30] {
        let x: Vec<f32> = (0..=100_000).map(|i| high.powf(f64::from(i) / 5e4 - 1.0) as f32).collect();
        let kernel = |ctx: &crate::Context| {
            let mut y = vec![0.0; x.len()];
            map(ctx.isa(), &mut y, &x, Function::Ln);
            y
        };
        on_every_isa(kernel, |name, y| {
            for (x, y) in x.iter().zip(y) {
                let want = f64::from(*x).ln();
                let error = (f64::from(*y) - want).abs();
                assert!(error <= 2.4e-7 * want.abs().max(1.0), "{name}: ln({x:e}) = {y:e}, not {want:e}");
            }
        });
    }
}

#[test]
fn extremes_give_limits_and_no_nan() {
    let x = [f32::NEG_INFINITY, f32::MIN, -1000.0, -88.0, 0.0, -0.0, 88.73, 1000.0, f32::MAX, f32::INFINITY];
    let cases = [
        (Function::Exp, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, f32::INFINITY, f32::INFINITY, f32::INFINITY, f32::INFINITY]),
        (Function::Tanh, [-1.0, -1.0, -1.0, -1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]),
        (Function::Sigmoid, [0.0, 0.0, 0.0, 6e-39, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0]),
        (Function::Erf, [-1.0, -1.0, -1.0, -1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]),
    ];
    for isa in crate::Isa::available() {
        for (function, want) in cases {
            let mut y = [0.0; 10];
            map(isa, &mut y, &x, function);
            for i in 0..10 {
                assert!(y[i] == want[i] || (y[i] - want[i]).abs() < 1e-38, "{}: f({}) = {}", isa.name(), x[i], y[i]);
            }
            map(isa, &mut y, &[f32::NAN; 10], function);
            assert!(y.iter().all(|y| y.is_nan()), "{}: NaN must not be hidden", isa.name());
        }
    }
}
