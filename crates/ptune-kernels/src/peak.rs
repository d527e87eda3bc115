//! The fastest that this machine multiplies and adds: a loop over registers that touches no memory. What the products
//! reach is measured against it.

use std::hint::black_box;

use crate::Context;
use crate::isa::{bf16_shells, isa_shells};
use crate::simd::{Bf16, Simd, pair};

/// Runs `turns` turns of the loop on every thread and returns how many floating-point operations (a multiply-add
/// counts two) were done together. The caller holds the clock.
pub fn multiply_add_peak(ctx: &Context, turns: usize) -> f64 {
    // Enough chains side by side to hide the latency, few enough to stay in registers.
    let (chains, run): (usize, fn(_, _) -> f32) =
        if ctx.isa().name() == "portable" { (4, four_chains) } else { (12, twelve_chains) };
    ctx.run(ctx.threads(), |_, _| {
        black_box(run(ctx.isa(), turns));
    });
    2.0 * (chains * ctx.isa().lanes() * turns * ctx.threads()) as f64
}

/// As [`multiply_add_peak`], with bf16 numbers.
pub fn bf16_multiply_add_peak(ctx: &Context, turns: usize) -> f64 {
    ctx.run(ctx.threads(), |_, _| {
        black_box(chains_of_pairs(ctx.isa(), turns));
    });
    4.0 * (12 * ctx.isa().lanes() * turns * ctx.threads()) as f64
}

bf16_shells! {
    fn chains_of_pairs(isa, turns: usize) -> f32 = pairs;
}

#[inline(always)]
fn pairs<B: Bf16>(b: B, turns: usize) -> f32 {
    let s = b.f32();
    let (x, w) = black_box((s.splat(pair(0.5, 0.25)), s.splat(pair(0.001, 0.001))));
    let mut sums = black_box([s.splat(1.0); 12]);
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = b.dot_pairs(x, w, *sum);
        }
    }
    black_box(sums).into_iter().map(|sum| s.reduce_add(sum)).sum()
}

isa_shells! {
    fn four_chains(isa, turns: usize) -> f32 = chains::<_, 4>;
    fn twelve_chains(isa, turns: usize) -> f32 = chains::<_, 12>;
}

#[inline(always)]
fn chains<S: Simd, const N: usize>(s: S, turns: usize) -> f32 {
    let (a, b) = black_box((s.splat(0.999), s.splat(0.001)));
    let mut sums = black_box([s.splat(1.0); N]);
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = s.mul_add(*sum, a, b);
        }
    }
    // Stored together, the portable arrays become vectors (see the tile of the products).
    black_box(sums).into_iter().map(|sum| s.reduce_add(sum)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn counts_what_all_threads_do() {
        for isa in Isa::available() {
            let one = multiply_add_peak(&Context::new(isa, 1), 10);
            assert_eq!(one, (2 * 10 * isa.lanes() * if isa.name() == "portable" { 4 } else { 12 }) as f64);
            assert_eq!(multiply_add_peak(&Context::new(isa, 2), 10), 2.0 * one);
            let pairs = bf16_multiply_add_peak(&Context::new(isa, 2), 10);
            assert_eq!(pairs, (2 * 4 * 10 * isa.lanes() * 12) as f64);
        }
    }
}
