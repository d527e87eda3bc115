//! Vectorised exp, tanh, sigmoid and erf over the vector vocabulary, accurate to a few units in the last place.
//!
//! The polynomials are our own minimax fits (Remez exchange in 40-digit arithmetic, coefficients rounded to f32); the
//! comment at each says on which interval and how well. No finite input gives NaN, and NaN stays NaN: `min` and `max`
//! return their second operand when one is NaN, so the limit is always the first.
#![allow(clippy::excessive_precision)] // The digits are those of the fit, whatever f32 keeps of them.

use crate::simd::Simd;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts: the first has ten significant bits, so that `n * LN2_HIGH` is exact for |n| < 2^13.
const LN2_HIGH: f32 = 0.693_359_375;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Below `-125 ln 2` the exponential is set to zero: its value is under 2.4e-38, and denormal numbers are slow.
const EXP_LOW: f32 = -86.643_4;
/// Above `128 ln 2 = 88.72` the exponential is infinite; 89 still has the exponent 128.
const EXP_HIGH: f32 = 89.0;

/// `(e^r - 1 - r) / r^2` on |r| <= ln(2)/2; the error relative to `e^r` is 3.1e-9.
const EXP: [f32; 5] = [0.499_999_934, 0.166_665_201, 0.041_668_394_3, 0.008_368_780_38, 0.001_381_446_39];
/// `erf(x) / x` in `x^2` on 0..=1, relative error 1.2e-9.
const ERF_SMALL: [f32; 7] = [
    1.128_379_165_73,
    -0.376_126_258_242,
    0.112_835_851_485,
    -0.026_853_811_936_2,
    0.005_188_327_694_14,
    -0.000_801_019_375_218,
    7.853_861_925_13e-5,
];
/// `ln(1 - erf(x))` on 1..=3.95; the error of erf is 1.1e-9.
const ERF_LARGE: [f32; 7] = [
    -0.000_353_722_869_097,
    -1.127_040_022_27,
    -0.638_225_700_092,
    -0.103_037_348_963,
    0.021_805_308_902,
    -0.002_939_604_965_4,
    0.000_185_573_774_163,
];
/// From here on `erf(x)` is 1 in f32.
const ERF_HIGH: f32 = 3.95;

/// The polynomial with these coefficients (constant term first), by Horner's rule.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::V, coefficients: &[f32; N]) -> S::V {
    let mut y = s.splat(coefficients[N - 1]);
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        y = s.mul_add(y, x, s.splat(coefficients[i]));
    }
    y
}

/// `n` (integral) and `e^r - 1`, where `x = n ln 2 + r` and |r| <= ln(2)/2.
#[inline(always)]
fn reduce<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let n = s.round(s.mul(x, s.splat(LOG2_E)));
    let r = s.mul_add(n, s.splat(-LN2_HIGH), x);
    let r = s.mul_add(n, s.splat(-LN2_LOW), r);
    let q = polynomial(s, r, &EXP);
    (n, s.mul_add(s.mul(r, r), q, r))
}

/// `e^x = 2^n e^r`; infinite above 88.72, zero below -86.64.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let low = s.splat(EXP_LOW);
    let inside = s.max(low, s.min(s.splat(EXP_HIGH), x));
    let (n, minus_one) = reduce(s, inside);
    // n reaches 128, one more than `pow2` knows: halve the power, double the product.
    let half = s.mul(s.add(minus_one, s.splat(1.0)), s.pow2(s.sub(n, s.splat(1.0))));
    s.select_lt(x, low, s.splat(0.0), s.add(half, half))
}

/// `tanh |x| = m / (m + 2)` with `m = e^(2|x|) - 1 = 2^n (e^r - 1) + (2^n - 1)`: no cancellation near zero.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let zero = s.splat(0.0);
    let magnitude = s.max(s.sub(zero, x), x);
    // From 9.02 on tanh is 1 in f32.
    let (n, minus_one) = reduce(s, s.min(s.splat(20.0), s.add(magnitude, magnitude)));
    let power = s.pow2(n);
    let m = s.mul_add(power, minus_one, s.sub(power, s.splat(1.0)));
    let t = s.div(m, s.add(m, s.splat(2.0)));
    s.select_lt(x, zero, s.sub(zero, t), t)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// The error function: an odd polynomial up to 1, `1 - e^p(|x|)` above.
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let magnitude = s.max(s.sub(zero, x), x);
    let square = s.mul(magnitude, magnitude);
    let small = s.mul(magnitude, polynomial(s, s.min(one, square), &ERF_SMALL));
    let tail = polynomial(s, s.min(s.splat(ERF_HIGH), magnitude), &ERF_LARGE);
    let y = s.select_lt(magnitude, one, small, s.sub(one, exp(s, tail)));
    s.select_lt(x, zero, s.sub(zero, y), y)
}

/// The natural logarithm for x in 2^-100..2^100: two steps of Halley's method for `e^y = x`. A step leaves a twelfth of
/// the third power of an error; the first guess, read off the bits of x, is within 0.03.
#[inline(always)]
pub(crate) fn ln<S: Simd>(s: S, x: S::V) -> S::V {
    let mut lanes = [0.0f32; 16];
    s.store(x, &mut lanes);
    for lane in &mut lanes {
        // Exponent and mantissa as one number: log2 with the mantissa's part linear, 0 to 0.0861 too small.
        *lane = (lane.to_bits() as i32 - 0x3f80_0000) as f32 * (1.0 / 8_388_608.0) + 0.043;
    }
    let mut y = s.mul(s.load(&lanes), s.splat(std::f32::consts::LN_2));
    for _ in 0..2 {
        let power = exp(s, y);
        let difference = s.sub(x, power);
        y = s.add(y, s.div(s.add(difference, difference), s.add(x, power)));
    }
    y
}

#[cfg(test)]
pub(crate) mod tests;
