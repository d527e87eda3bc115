//! Frozen weights in bf16: half the memory of f32, twice its speed with AVX512-BF16, f32's speed elsewhere.
//!
//! The panels hold pairs along k (see `simd/bf16.rs`); an odd depth ends in a pair with a zero. Forward and backward
//! panels round the same numbers, so the two products are exact transposes of each other. The rows of x come as pairs, too;
//! sums and bias are f32, and the finished sum is kept as f32 or rounded.
//!
//! An element is one chain of pairs in the order of k; of a pair, the second number is added first, as the instruction of
//! AVX512-BF16 does. That takes denormal numbers for zeros and leaves none; else AVX-512F gives the same bits.

#[cfg(test)]
mod tests;

use super::pack::Panels;
use super::tile::{Factors, Input, Output, Tile};
use super::{Plan, Weight, block_of};
use crate::Context;
use crate::isa::bf16_shells;
use crate::simd::{Bf16, Simd, pair};

impl Weight {
    /// Packs `weight` `[outputs, inputs]` rounded to bf16; with `gradient` also for the backward product.
    pub fn pack_bf16(ctx: &Context, weight: &[f32], outputs: usize, inputs: usize, gradient: bool) -> Self {
        assert_eq!(weight.len(), outputs * inputs, "weight: outputs x inputs");
        Self::pack_pairs(ctx, weight, outputs, inputs, |row| row, gradient)
    }

    /// Packs the given `rows` of `weight` `[any, inputs]` only: output i of the product is row `rows[i]`.
    pub fn pack_rows_bf16(ctx: &Context, weight: &[f32], inputs: usize, rows: &[u32], gradient: bool) -> Self {
        let all = weight.len().checked_div(inputs).unwrap_or(usize::MAX);
        assert!(rows.iter().all(|&row| (row as usize) < all), "a row beyond the weight");
        Self::pack_pairs(ctx, weight, rows.len(), inputs, |i| rows[i] as usize, gradient)
    }

    fn pack_pairs(
        ctx: &Context,
        weight: &[f32],
        outputs: usize,
        inputs: usize,
        row: impl Fn(usize) -> usize + Sync,
        gradient: bool,
    ) -> Self {
        let mut forward = Panels::zeros(ctx, inputs.div_ceil(2), outputs);
        forward.fill(ctx, |panel, width, columns| {
            for (c, column) in columns.enumerate() {
                let (twos, last) = weight[row(column) * inputs..][..inputs].as_chunks::<2>();
                let pairs = twos.iter().map(|[first, second]| pair(*first, *second));
                let pairs = pairs.chain(last.iter().map(|only| pair(*only, 0.0)));
                for (to, pair) in panel.iter_mut().skip(c).step_by(width).zip(pairs) {
                    *to = pair;
                }
            }
        });
        let backward = gradient.then(|| {
            let mut backward = Panels::zeros(ctx, outputs.div_ceil(2), inputs);
            backward.fill(ctx, |panel, width, columns| {
                let of_row = |i: usize| &weight[row(i) * inputs..][columns.clone()];
                for (k, to) in panel.chunks_exact_mut(width).enumerate() {
                    let first = of_row(2 * k).iter();
                    let second = (2 * k + 1 < outputs).then(|| of_row(2 * k + 1));
                    for (c, (to, first)) in to.iter_mut().zip(first).enumerate() {
                        *to = pair(*first, second.map_or(0.0, |second| second[c]));
                    }
                }
            });
            backward
        });
        Weight { forward, backward, inputs, bf16: true, isa: ctx.isa().name() }
    }
}

bf16_shells! {
    pub(super) fn block(isa, y: &Output, x: &Input, panels: &Panels<&[f32]>, plan: &Plan, item: usize) = block_of_pairs;
}

/// Each number is a pair.
#[derive(Clone, Copy)]
struct Pairs<B>(B);

impl<B: Bf16> Factors<B::F32> for Pairs<B> {
    #[inline(always)]
    fn multiply_add(
        self,
        _: B::F32,
        x: <B::F32 as Simd>::V,
        w: <B::F32 as Simd>::V,
        sum: <B::F32 as Simd>::V,
    ) -> <B::F32 as Simd>::V {
        self.0.dot_pairs(x, w, sum)
    }

    #[inline(always)]
    fn store_rounded(self, _: B::F32, v: <B::F32 as Simd>::V, pairs: &mut [f32], numbers: usize) {
        self.0.store_rounded(v, pairs, numbers);
    }
}

#[inline(always)]
fn block_of_pairs<B: Bf16<F32: Tile>>(b: B, y: &Output, x: &Input, panels: &Panels<&[f32]>, plan: &Plan, item: usize) {
    block_of(b.f32(), Pairs(b), y, x, panels, plan, item);
}
