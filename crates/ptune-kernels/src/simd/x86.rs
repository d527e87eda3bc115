//! AVX2 with FMA (8 lanes), AVX-512F (16 lanes), and AVX512-BF16: the same 16 lanes and products of bf16 pairs.
#![allow(unsafe_code)] // Intrinsics; the token proves that the processor has them.

use std::arch::x86_64::*;

use super::{Bf16, Simd};

/// Proof that the processor has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

/// Proof that the processor has AVX-512F (and AVX2 with FMA).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

/// Proof that the processor has AVX512-BF16 (and AVX-512F).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Bf16(Avx512);

impl Avx2 {
    pub(crate) fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Avx2(()))
    }
}

impl Avx512 {
    pub(crate) fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && Avx2::new().is_some()).then_some(Avx512(()))
    }
}

impl Avx512Bf16 {
    pub(crate) fn new() -> Option<Self> {
        if is_x86_feature_detected!("avx512bf16") { Avx512::new().map(Avx512Bf16) } else { None }
    }

    /// The token of what its f32 kernels use.
    pub(crate) fn avx512(self) -> Avx512 {
        self.0
    }
}

/// Sixteen words: eight set, eight clear. Eight words from offset `8 - n` are a mask of the first n lanes.
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Avx2 {
    #[inline(always)]
    fn mask(self, n: usize) -> __m256i {
        assert!(n <= 8);
        // SAFETY: the token proves AVX2; offset 8 - n plus 8 words stays inside the 16.
        unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - n).cast()) }
    }
}

// Every `unsafe` below: the token proves that the processor has the instruction; pointers come from slices whose
// length is asserted just before.
macro_rules! intrinsic {
    ($e:expr) => {{
        // SAFETY: see the note above the macro.
        unsafe { $e }
    }};
}

#[inline(always)]
fn transpose_4x4(x: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    intrinsic!({
        let [a, b, c, d] = x;
        let (mut a, mut b) = (_mm_loadu_ps(a.as_ptr()), _mm_loadu_ps(b.as_ptr()));
        let (mut c, mut d) = (_mm_loadu_ps(c.as_ptr()), _mm_loadu_ps(d.as_ptr()));
        _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
        let mut y = [[0.0; 4]; 4];
        _mm_storeu_ps(y[0].as_mut_ptr(), a);
        _mm_storeu_ps(y[1].as_mut_ptr(), b);
        _mm_storeu_ps(y[2].as_mut_ptr(), c);
        _mm_storeu_ps(y[3].as_mut_ptr(), d);
        y
    })
}

/// Asks for a cache line; a hint, any address is allowed.
#[inline(always)]
pub(crate) fn prefetch(at: *const f32) {
    // A prefetch reads nothing that the program can see and never faults.
    intrinsic!(_mm_prefetch::<_MM_HINT_T0>(at.cast()))
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        intrinsic!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, s: &[f32]) -> Self::V {
        assert!(s.len() >= 8);
        intrinsic!(_mm256_loadu_ps(s.as_ptr()))
    }
    #[inline(always)]
    fn load_partial(self, s: &[f32]) -> Self::V {
        if s.len() == 8 {
            return self.load(s);
        }
        let mask = self.mask(s.len());
        intrinsic!(_mm256_maskload_ps(s.as_ptr(), mask))
    }
    #[inline(always)]
    fn store(self, v: Self::V, s: &mut [f32]) {
        assert!(s.len() >= 8);
        intrinsic!(_mm256_storeu_ps(s.as_mut_ptr(), v))
    }
    #[inline(always)]
    fn store_partial(self, v: Self::V, s: &mut [f32]) {
        if s.len() == 8 {
            // A masked store is microcode on some processors.
            return self.store(v, s);
        }
        let mask = self.mask(s.len());
        intrinsic!(_mm256_maskstore_ps(s.as_mut_ptr(), mask, v))
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        intrinsic!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        intrinsic!(_mm256_sqrt_ps(a))
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        intrinsic!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn pow2(self, n: Self::V) -> Self::V {
        intrinsic!({
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        })
    }
    #[inline(always)]
    fn select_lt(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V {
        intrinsic!(_mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)))
    }
    #[inline(always)]
    fn low_half(self, a: Self::V) -> Self::V {
        intrinsic!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(a))))
    }
    #[inline(always)]
    fn high_half(self, a: Self::V) -> Self::V {
        intrinsic!(_mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(!0xffff))))
    }
    #[inline(always)]
    fn join_low(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!({
            let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
            let first = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
            _mm256_castsi256_ps(_mm256_or_si256(first, _mm256_slli_epi32::<16>(b)))
        })
    }
    #[inline(always)]
    fn join_high(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!({
            let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
            let second = _mm256_and_si256(b, _mm256_set1_epi32(!0xffff));
            _mm256_castsi256_ps(_mm256_or_si256(_mm256_srli_epi32::<16>(a), second))
        })
    }
    #[inline(always)]
    fn widen(self, pairs: &[f32]) -> Self::V {
        assert!(pairs.len() >= 4);
        intrinsic!({
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(pairs.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
        })
    }
    #[inline(always)]
    fn reduce_add(self, a: Self::V) -> f32 {
        intrinsic!({
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        })
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::V) -> f32 {
        intrinsic!({
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        })
    }
    #[inline(always)]
    fn transpose_4x4(self, x: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
        transpose_4x4(x)
    }
}

impl Avx512 {
    #[inline(always)]
    fn mask(self, n: usize) -> __mmask16 {
        assert!(n <= 16);
        ((1u32 << n) - 1) as __mmask16
    }
}

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        intrinsic!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, s: &[f32]) -> Self::V {
        assert!(s.len() >= 16);
        intrinsic!(_mm512_loadu_ps(s.as_ptr()))
    }
    #[inline(always)]
    fn load_partial(self, s: &[f32]) -> Self::V {
        if s.len() == 16 {
            return self.load(s);
        }
        let mask = self.mask(s.len());
        intrinsic!(_mm512_maskz_loadu_ps(mask, s.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: Self::V, s: &mut [f32]) {
        assert!(s.len() >= 16);
        intrinsic!(_mm512_storeu_ps(s.as_mut_ptr(), v))
    }
    #[inline(always)]
    fn store_partial(self, v: Self::V, s: &mut [f32]) {
        if s.len() == 16 {
            return self.store(v, s);
        }
        let mask = self.mask(s.len());
        intrinsic!(_mm512_mask_storeu_ps(s.as_mut_ptr(), mask, v))
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        intrinsic!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        intrinsic!(_mm512_sqrt_ps(a))
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        intrinsic!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn pow2(self, n: Self::V) -> Self::V {
        intrinsic!(_mm512_scalef_ps(_mm512_set1_ps(1.0), n))
    }
    #[inline(always)]
    fn select_lt(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V {
        intrinsic!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x))
    }
    #[inline(always)]
    fn low_half(self, a: Self::V) -> Self::V {
        intrinsic!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(a))))
    }
    #[inline(always)]
    fn high_half(self, a: Self::V) -> Self::V {
        intrinsic!(_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(!0xffff))))
    }
    #[inline(always)]
    fn join_low(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!({
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            let first = _mm512_and_si512(a, _mm512_set1_epi32(0xffff));
            _mm512_castsi512_ps(_mm512_or_si512(first, _mm512_slli_epi32::<16>(b)))
        })
    }
    #[inline(always)]
    fn join_high(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsic!({
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            let second = _mm512_and_si512(b, _mm512_set1_epi32(!0xffff));
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_srli_epi32::<16>(a), second))
        })
    }
    #[inline(always)]
    fn widen(self, pairs: &[f32]) -> Self::V {
        assert!(pairs.len() >= 8);
        intrinsic!({
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(pairs.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
        })
    }
    #[inline(always)]
    fn reduce_add(self, a: Self::V) -> f32 {
        intrinsic!(_mm512_reduce_add_ps(a))
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::V) -> f32 {
        intrinsic!(_mm512_reduce_max_ps(a))
    }
    #[inline(always)]
    fn transpose_4x4(self, x: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
        transpose_4x4(x)
    }
}

impl Bf16 for Avx512Bf16 {
    type F32 = Avx512;

    #[inline(always)]
    fn f32(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn dot_pairs(self, x: __m512, w: __m512, sum: __m512) -> __m512 {
        let pairs = |v: __m512| intrinsic!(std::mem::transmute::<__m512, __m512bh>(v));
        intrinsic!(_mm512_dpbf16_ps(sum, pairs(x), pairs(w)))
    }

    #[inline(always)]
    fn round_to(self, v: __m512, pairs: &mut [f32]) {
        assert!(pairs.len() >= 8);
        intrinsic!({
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
            _mm256_storeu_si256(pairs.as_mut_ptr().cast(), rounded)
        })
    }

    #[inline(always)]
    fn round_pairs(self, first: __m512, second: __m512) -> __m512 {
        intrinsic!({
            let words = |v| _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v)));
            _mm512_castsi512_ps(_mm512_or_si512(words(first), _mm512_slli_epi32::<16>(words(second))))
        })
    }
}
