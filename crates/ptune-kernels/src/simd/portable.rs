//! Eight lanes in an array: what every processor can do. The compiler turns the loops into whatever the target's
//! baseline has. `mul_add` rounds twice: a fused one would be a library call.

use super::Simd;

/// The token of the portable path; it can always be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

const LANES: usize = 8;

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type V = [f32; LANES];
    const LANES: usize = LANES;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, s: &[f32]) -> Self::V {
        let s = &s[..LANES];
        std::array::from_fn(|i| s[i])
    }
    #[inline(always)]
    fn load_partial(self, s: &[f32]) -> Self::V {
        if s.len() == LANES {
            return self.load(s);
        }
        let mut v = [0.0; LANES];
        v[..s.len()].copy_from_slice(s);
        v
    }
    #[inline(always)]
    fn store(self, v: Self::V, s: &mut [f32]) {
        s[..LANES].copy_from_slice(&v);
    }
    #[inline(always)]
    fn store_partial(self, v: Self::V, s: &mut [f32]) {
        if s.len() == LANES {
            return self.store(v, s);
        }
        let n = s.len();
        s.copy_from_slice(&v[..n]);
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        // Adding and subtracting 1.5 * 2^23 rounds to even for |a| < 2^22; `round_ties_even` would be a library call.
        const MAGIC: f32 = 12_582_912.0;
        a.map(|x| if x.abs() < 4_194_304.0 { (x + MAGIC) - MAGIC } else { x })
    }
    #[inline(always)]
    fn pow2(self, n: Self::V) -> Self::V {
        n.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn select_lt(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn low_half(self, a: Self::V) -> Self::V {
        a.map(|a| f32::from_bits(a.to_bits() << 16))
    }
    #[inline(always)]
    fn high_half(self, a: Self::V) -> Self::V {
        a.map(|a| f32::from_bits(a.to_bits() & 0xffff_0000))
    }
    #[inline(always)]
    fn join_low(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| f32::from_bits(a.to_bits() & 0xffff | b.to_bits() << 16))
    }
    #[inline(always)]
    fn join_high(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| f32::from_bits(a.to_bits() >> 16 | b.to_bits() & 0xffff_0000))
    }
    #[inline(always)]
    fn widen(self, pairs: &[f32]) -> Self::V {
        let pairs = &pairs[..LANES / 2];
        std::array::from_fn(|i| {
            let bits = pairs[i / 2].to_bits();
            f32::from_bits(if i % 2 == 0 { bits << 16 } else { bits & 0xffff_0000 })
        })
    }
    #[inline(always)]
    fn reduce_add(self, a: Self::V) -> f32 {
        let four: [f32; 4] = std::array::from_fn(|i| a[i] + a[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::V) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }
}
