//! Activations of rows in bf16: cheaper formulas, because the result keeps eight bits.
//!
//! `Phi(x) - 1/2`, its counterpart of GeluTanh and the slopes of both are odd functions that are 1/2 within 7e-5 from
//! x = 4.5 on. On 0..=4.5 each is x times a polynomial in `t = 2 (x / 4.5)^2 - 1`, our own minimax fit (weighted least
//! squares at Chebyshev points, until all peaks of the error are equal). That is a third of the work of erf and exp.

#![allow(clippy::excessive_precision)] // The digits are those of the fit, whatever f32 keeps of them.

use super::{Activation, slope, value};
use crate::isa::bf16_shells;
use crate::simd::{Bf16, Simd};

/// From here on a gelu is x or 0.
const END: f32 = 4.5;

/// `(Phi(x) - 1/2) / x`, error of Phi 3.8e-6.
const GELU: [f32; 10] = [
    1.569_060_4e-1,
    -7.718_588_3e-2,
    5.463_749e-2,
    -4.023_697_4e-2,
    2.885_765_5e-2,
    -1.848_398e-2,
    9.653_217e-3,
    -6.070_186_7e-3,
    4.962_707e-3,
    -1.930_535_4e-3,
];
/// `(Phi(x) + x phi(x) - 1/2) / x`, error 2.6e-6.
const GELU_SLOPE: [f32; 12] = [
    1.594_295_0e-1,
    -8.997_703e-2,
    8.711_004_4e-2,
    -9.472_759e-2,
    9.675_367_6e-2,
    -8.886_546_5e-2,
    7.343_135_5e-2,
    -4.862_893_4e-2,
    2.373_924_2e-2,
    -1.589_178_8e-2,
    1.403_453_1e-2,
    -5.281_727_9e-3,
];
/// `tanh(u) / (2 x)`, error 4.7e-6.
const GELU_TANH: [f32; 10] = [
    1.569_396_1e-1,
    -7.728_735e-2,
    5.471_825_8e-2,
    -4.017_918_9e-2,
    2.866_989_8e-2,
    -1.794_349_1e-2,
    8.838_847e-3,
    -6.090_732_3e-3,
    5.848_737_2e-3,
    -2.404_747_2e-3,
];
/// The slope of GeluTanh minus 1/2, by x, error 2.5e-6.
const GELU_TANH_SLOPE: [f32; 12] = [
    1.592_896_3e-1,
    -9.000_818e-2,
    8.819_644_4e-2,
    -9.667_079_3e-2,
    9.783_666_2e-2,
    -8.785_631_3e-2,
    6.970_005_2e-2,
    -4.278_948_9e-2,
    2.079_969_7e-2,
    -1.922_807_1e-2,
    1.867_418_8e-2,
    -6.826_698_8e-3,
];

bf16_shells! {
    /// `y = kind(x)` over pairs. A partner that is no number of the row is zero and stays so.
    pub(super) fn forward(isa, y: &mut [f32], x: &[f32], kind: Activation) = forward_all;
    /// `d = d * kind'(x)` over pairs.
    pub(super) fn backward(isa, d: &mut [f32], x: &[f32], kind: Activation) = backward_all;
}

#[inline(always)]
fn forward_all<B: Bf16>(b: B, y: &mut [f32], x: &[f32], kind: Activation) {
    let (s, half) = (b.f32(), <B::F32 as Simd>::LANES / 2);
    for (y, x) in y.chunks_mut(half).zip(x.chunks(half)) {
        b.store_rounded(narrow_value(s, b.load_widened(x), kind), y, 2 * y.len());
    }
}

/// `kind(x)` for a result in bf16.
#[inline(always)]
pub(crate) fn narrow_value<S: Simd>(s: S, x: S::V, kind: Activation) -> S::V {
    match kind {
        Activation::Gelu => s.mul(x, step(s, x, &GELU)),
        Activation::GeluTanh => s.mul(x, step(s, x, &GELU_TANH)),
        Activation::Relu | Activation::Tanh | Activation::Silu => value(s, x, kind),
    }
}

#[inline(always)]
fn backward_all<B: Bf16>(b: B, d: &mut [f32], x: &[f32], kind: Activation) {
    let (s, half) = (b.f32(), <B::F32 as Simd>::LANES / 2);
    for (d, x) in d.chunks_mut(half).zip(x.chunks(half)) {
        let slope = narrow_slope(s, b.load_widened(x), kind);
        b.store_rounded(s.mul(b.load_widened(d), slope), d, 2 * d.len());
    }
}

/// `kind'(x)` for a result in bf16.
#[inline(always)]
pub(crate) fn narrow_slope<S: Simd>(s: S, x: S::V, kind: Activation) -> S::V {
    match kind {
        Activation::Gelu => step(s, x, &GELU_SLOPE),
        Activation::GeluTanh => step(s, x, &GELU_TANH_SLOPE),
        Activation::Relu | Activation::Tanh | Activation::Silu => slope(s, x, kind),
    }
}

/// `1/2 + x p(t)` up to [`END`] on either side, 0 below; above, what it is at the end, which is 1 in bf16.
#[inline(always)]
fn step<S: Simd, const N: usize>(s: S, x: S::V, p: &[f32; N]) -> S::V {
    let (low, high) = (s.splat(-END), s.splat(END));
    let inside = s.max(low, s.min(high, x));
    let t = s.mul_add(s.mul(inside, inside), s.splat(2.0 / (END * END)), s.splat(-1.0));
    let mut y = s.splat(p[N - 1]);
    for i in (0..N - 1).rev() {
        y = s.mul_add(y, t, s.splat(p[i]));
    }
    s.select_lt(x, low, s.splat(0.0), s.mul_add(inside, y, s.splat(0.5)))
}
