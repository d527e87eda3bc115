//! Products of bf16 numbers: which instruction sets have them, and what the others do.
//!
//! A bf16 number is the upper half of an f32, rounded to nearest, ties to even. Two that follow each other travel as a
//! *pair* in the bits of one f32, the first in the lower half. Such an f32 is only ever moved, never computed with.

use super::Simd;

/// A token that multiplies pairs. Any [`Simd`] token does so by widening them to f32.
pub(crate) trait Bf16: Copy + Send + Sync + 'static {
    /// The token of the f32 vectors beside it.
    type F32: Simd;

    fn f32(self) -> Self::F32;

    /// `(sum + x1 w1) + x0 w0` in every lane, where `x` and `w` hold pairs. The instruction of AVX512-BF16 takes numbers
    /// below 2^-126 for zeros and makes such sums zeros.
    fn dot_pairs(
        self,
        x: <Self::F32 as Simd>::V,
        w: <Self::F32 as Simd>::V,
        sum: <Self::F32 as Simd>::V,
    ) -> <Self::F32 as Simd>::V;

    /// The numbers of the first `LANES / 2` pairs, or of all that are there with zeros behind.
    #[inline(always)]
    fn load_widened(self, pairs: &[f32]) -> <Self::F32 as Simd>::V {
        let s = self.f32();
        let half = <Self::F32 as Simd>::LANES / 2;
        if pairs.len() >= half {
            return s.widen(pairs);
        }
        let mut padded = [0.0; 8];
        padded[..pairs.len()].copy_from_slice(pairs);
        s.widen(&padded)
    }

    /// Rounds both and makes one pair of what stands in the same lane.
    fn round_pairs(self, first: <Self::F32 as Simd>::V, second: <Self::F32 as Simd>::V) -> <Self::F32 as Simd>::V;

    /// Rounds a vector to the first `LANES / 2` pairs.
    fn round_to(self, v: <Self::F32 as Simd>::V, pairs: &mut [f32]);

    /// Rounds the first `numbers` lanes (at most `LANES`) to pairs; a last one without a partner gets a zero.
    #[inline(always)]
    fn store_rounded(self, v: <Self::F32 as Simd>::V, pairs: &mut [f32], numbers: usize) {
        let s = self.f32();
        if numbers >= <Self::F32 as Simd>::LANES {
            return self.round_to(v, pairs);
        }
        let (mut lanes, mut padded) = ([0.0; 16], [0.0; 8]);
        s.store(v, &mut lanes);
        lanes[numbers..].fill(0.0);
        self.round_to(s.load(&lanes), &mut padded);
        let pairs = &mut pairs[..numbers.div_ceil(2)];
        pairs.copy_from_slice(&padded[..pairs.len()]);
    }
}

impl<S: Simd> Bf16 for S {
    type F32 = S;

    #[inline(always)]
    fn f32(self) -> S {
        self
    }

    #[inline(always)]
    fn dot_pairs(self, x: S::V, w: S::V, sum: S::V) -> S::V {
        let sum = self.mul_add(self.high_half(x), self.high_half(w), sum);
        self.mul_add(self.low_half(x), self.low_half(w), sum)
    }

    #[inline(always)]
    fn round_pairs(self, first: S::V, second: S::V) -> S::V {
        let (mut a, mut b) = ([0.0; 16], [0.0; 16]);
        self.store(first, &mut a);
        self.store(second, &mut b);
        for i in 0..S::LANES {
            a[i] = pair(a[i], b[i]);
        }
        self.load(&a)
    }

    #[inline(always)]
    fn round_to(self, v: S::V, pairs: &mut [f32]) {
        let mut lanes = [0.0; 16];
        self.store(v, &mut lanes);
        for (i, to) in pairs[..S::LANES / 2].iter_mut().enumerate() {
            *to = pair(lanes[2 * i], lanes[2 * i + 1]);
        }
    }
}

/// Two numbers, rounded, in the bits of an f32.
#[inline(always)]
pub(crate) fn pair(first: f32, second: f32) -> f32 {
    f32::from_bits(rounded(first) >> 16 | rounded(second))
}

/// The bits of `x` rounded to bf16, in the upper half. What is not a number stays so.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    (if x.is_nan() { bits | 0x0040_0000 } else { nearest }) & 0xffff_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Halfway cases go to the even neighbour; carries reach the exponent; infinities and NaN keep their kind.
    #[test]
    fn rounding_is_to_nearest_ties_to_even() {
        let cases: [(u32, u32); 10] = [
            (0x3f80_0000, 0x3f80),
            (0x3f80_7fff, 0x3f80),
            (0x3f80_8000, 0x3f80),
            (0x3f80_8001, 0x3f81),
            (0x3f81_8000, 0x3f82),
            (0xbf81_8000, 0xbf82),
            (0x3fff_8000, 0x4000),
            (0x7f7f_ffff, 0x7f80),
            (0xff80_0000, 0xff80),
            (0x8000_0000, 0x8000),
        ];
        for (from, to) in cases {
            assert_eq!(rounded(f32::from_bits(from)) >> 16, to, "{from:#x}");
        }
        for nan in [0x7f80_0001, 0x7fff_ffff, 0xff80_0001] {
            assert!(f32::from_bits(rounded(f32::from_bits(nan))).is_nan(), "{nan:#x}");
        }
    }
}
