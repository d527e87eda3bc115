//! Activation functions, number by number.
//!
//! Gelu: `x Phi(x)` with `Phi(x) = (1 + erf(x / sqrt 2)) / 2`. GeluTanh: `x (1 + tanh u) / 2` with
//! `u = sqrt(2 / pi) (x + 0.044715 x^3)` (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016). Silu:
//! `x / (1 + e^-x)`. As the gate of another row: `gated.rs`.
//! The backward needs the input only, never the output. Rows in bf16 have formulas of their own (`activation/bf16.rs`).

mod bf16;
#[cfg(test)]
pub(crate) mod tests;

use crate::Context;
use crate::context::rows_per_item;
use crate::isa::isa_shells;
use crate::math::{erf, exp, sigmoid, tanh};
use crate::rows::{Dtype, Rows, RowsMut};
use crate::simd::{Simd, load_up_to, store_up_to};

pub(crate) use bf16::{narrow_slope, narrow_value};

/// Which activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The exact gelu, by the error function.
    Gelu,
    /// The approximation of gelu by tanh (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
    /// `x sigmoid(x)`.
    Silu,
}

/// `sqrt(2 / pi)` and the factor of the cube in GeluTanh.
const SQRT_2_OVER_PI: f32 = 0.797_884_6;
const CUBE: f32 = 0.044_715;
/// `1 / sqrt(2 pi)`, the height of the normal density.
const DENSITY: f32 = 0.398_942_3;

/// `y = kind(x)`; both have the same dtype and length.
pub fn activation(ctx: &Context, y: RowsMut, x: Rows, kind: Activation) {
    assert_eq!(y.dtype(), x.dtype());
    let forward = if x.dtype() == Dtype::F32 { forward } else { bf16::forward };
    let (y, x) = (y.memory(), x.memory());
    assert_eq!(y.len(), x.len());
    ctx.run_rows(x.len(), rows_per_item(1), [(y, 1)], |range, [y], _| forward(ctx.isa(), y, &x[range], kind));
}

#[inline(always)]
fn forward_all<S: Simd>(s: S, y: &mut [f32], x: &[f32], kind: Activation) {
    for i in (0..x.len()).step_by(S::LANES) {
        let v = value(s, load_up_to(s, &x[i..]), kind);
        store_up_to(s, v, &mut y[i..]);
    }
}

#[inline(always)]
pub(crate) fn value<S: Simd>(s: S, x: S::V, kind: Activation) -> S::V {
    let (half, one) = (s.splat(0.5), s.splat(1.0));
    match kind {
        Activation::Gelu => s.mul(x, normal_distribution(s, x)),
        Activation::GeluTanh => s.mul(s.mul(half, x), s.add(one, tanh(s, gelu_argument(s, x)))),
        Activation::Relu => s.max(s.splat(0.0), x),
        Activation::Tanh => tanh(s, x),
        Activation::Silu => s.mul(x, sigmoid(s, x)),
    }
}

/// `Phi(x)`.
#[inline(always)]
fn normal_distribution<S: Simd>(s: S, x: S::V) -> S::V {
    let half = s.splat(0.5);
    s.mul_add(half, erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2))), half)
}

/// `u` of GeluTanh.
#[inline(always)]
fn gelu_argument<S: Simd>(s: S, x: S::V) -> S::V {
    let inner = s.mul_add(s.mul(s.splat(CUBE), s.mul(x, x)), x, x);
    s.mul(s.splat(SQRT_2_OVER_PI), inner)
}

/// `d = d * kind'(x)`: the gradient of the output becomes that of the input; both have the same dtype and length. The
/// slope of relu at 0 is 0.
pub fn activation_backward(ctx: &Context, d: RowsMut, x: Rows, kind: Activation) {
    assert_eq!(d.dtype(), x.dtype());
    let backward = if x.dtype() == Dtype::F32 { backward } else { bf16::backward };
    let (d, x) = (d.memory(), x.memory());
    assert_eq!(d.len(), x.len());
    ctx.run_rows(x.len(), rows_per_item(1), [(d, 1)], |range, [d], _| backward(ctx.isa(), d, &x[range], kind));
}

#[inline(always)]
fn backward_all<S: Simd>(s: S, d: &mut [f32], x: &[f32], kind: Activation) {
    for i in (0..x.len()).step_by(S::LANES) {
        let slope = slope(s, load_up_to(s, &x[i..]), kind);
        let v = s.mul(load_up_to(s, &d[i..]), slope);
        store_up_to(s, v, &mut d[i..]);
    }
}

#[inline(always)]
pub(crate) fn slope<S: Simd>(s: S, x: S::V, kind: Activation) -> S::V {
    let (zero, half, one) = (s.splat(0.0), s.splat(0.5), s.splat(1.0));
    match kind {
        // Phi(x) + x phi(x).
        Activation::Gelu => {
            let density = s.mul(s.splat(DENSITY), exp(s, s.mul(s.mul(x, x), s.splat(-0.5))));
            s.add(normal_distribution(s, x), times(s, x, density))
        }
        // (1 + t) / 2 + x (1 - t^2) u' / 2 with u' = sqrt(2 / pi) (1 + 3 * 0.044715 x^2).
        Activation::GeluTanh => {
            let t = tanh(s, gelu_argument(s, x));
            let flat = s.sub(one, s.mul(t, t));
            let u_slope = s.mul(s.splat(SQRT_2_OVER_PI), s.mul_add(s.splat(3.0 * CUBE), s.mul(x, x), one));
            let bend = s.mul(times(s, u_slope, flat), x);
            s.mul(half, s.add(s.add(one, t), bend))
        }
        Activation::Relu => s.select_lt(zero, x, one, zero),
        Activation::Tanh => {
            let t = tanh(s, x);
            s.sub(one, s.mul(t, t))
        }
        // p + x p (1 - p) with p = sigmoid(x).
        Activation::Silu => {
            let p = sigmoid(s, x);
            s.mul(p, s.mul_add(x, s.sub(one, p), one))
        }
    }
}

/// `a * b`, but zero where `b` is zero even if `a` is infinite: far from zero the densities are exactly zero while a
/// square or a cube of a finite input may overflow.
#[inline(always)]
fn times<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
    let zero = s.splat(0.0);
    s.select_lt(zero, b, s.mul(a, b), b)
}

isa_shells! {
    fn forward(isa, y: &mut [f32], x: &[f32], kind: Activation) = forward_all;
    fn backward(isa, d: &mut [f32], x: &[f32], kind: Activation) = backward_all;
}
