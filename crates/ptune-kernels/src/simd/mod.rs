//! The vector vocabulary: the two dozen operations a kernel may use, written once per instruction set.
//!
//! A kernel is one `#[inline(always)]` function over `S: Simd`; [`isa_shells!`](crate::isa) wraps it once per
//! instruction set. A token of a type that implements `Simd` can only be made where the processor has the
//! instructions (`new() -> Option<Self>`), so holding the token is the proof and every method is safe.
//!
//! Horizontal sums add the lanes in a fixed tree, so a result depends on the instruction set but on nothing else.

mod bf16;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use bf16::{Bf16, pair};
pub(crate) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, Avx512Bf16, prefetch};

/// Asks for a cache line, where there is an instruction for it.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn prefetch(_: *const f32) {}

/// A token of an instruction set, and its operations on vectors of [`Simd::LANES`] f32.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// A vector of `LANES` f32.
    type V: Copy;
    /// Lanes of a vector.
    const LANES: usize;

    fn splat(self, x: f32) -> Self::V;
    /// The first `LANES` numbers of `s`; panics when there are fewer.
    fn load(self, s: &[f32]) -> Self::V;
    /// All of `s` (at most `LANES` numbers), zeros behind.
    fn load_partial(self, s: &[f32]) -> Self::V;
    fn store(self, v: Self::V, s: &mut [f32]);
    /// The first `s.len()` (at most `LANES`) lanes of `v`.
    fn store_partial(self, v: Self::V, s: &mut [f32]);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the instruction set can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn sqrt(self, a: Self::V) -> Self::V;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `2^n` for an integral `n` in -126..=127.
    fn pow2(self, n: Self::V) -> Self::V;
    /// `x` where `a < b`, `y` elsewhere (also where either is NaN).
    fn select_lt(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// The bf16 number in the lower half of each lane, as f32.
    fn low_half(self, a: Self::V) -> Self::V;
    /// The bf16 number in the upper half of each lane, as f32.
    fn high_half(self, a: Self::V) -> Self::V;
    /// The pair of the two lower halves in each lane, that of `a` first.
    fn join_low(self, a: Self::V, b: Self::V) -> Self::V;
    /// The pair of the two upper halves in each lane, that of `a` first.
    fn join_high(self, a: Self::V, b: Self::V) -> Self::V;
    /// The bf16 numbers of the first `LANES / 2` pairs, in their order, as f32; panics when there are fewer.
    fn widen(self, pairs: &[f32]) -> Self::V;
    fn reduce_add(self, a: Self::V) -> f32;
    fn reduce_max(self, a: Self::V) -> f32;
    /// Rows to columns.
    #[inline(always)]
    fn transpose_4x4(self, x: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
        std::array::from_fn(|c| [x[0][c], x[1][c], x[2][c], x[3][c]])
    }
}

/// The next `LANES` numbers of `x`, or all that are left with zeros behind.
#[inline(always)]
pub(crate) fn load_up_to<S: Simd>(s: S, x: &[f32]) -> S::V {
    if x.len() >= S::LANES { s.load(x) } else { s.load_partial(x) }
}

/// Like [`load_up_to`] with `fill` behind: minus infinity for a maximum or a sum of exponentials.
#[inline(always)]
pub(crate) fn load_up_to_or<S: Simd>(s: S, x: &[f32], fill: f32) -> S::V {
    if x.len() >= S::LANES {
        s.load(x)
    } else {
        let mut lanes = [fill; 16];
        lanes[..x.len()].copy_from_slice(x);
        s.load(&lanes)
    }
}

/// Stores as many lanes as `y` takes.
#[inline(always)]
pub(crate) fn store_up_to<S: Simd>(s: S, v: S::V, y: &mut [f32]) {
    if y.len() >= S::LANES { s.store(v, y) } else { s.store_partial(v, y) }
}
