//! The fastest that this machine multiplies and adds: a loop over registers that touches no memory. What the products
//! reach is measured against it.

use std::hint::black_box;

use crate::Context;
use crate::isa::isa_shells;
use crate::simd::Simd;

/// Chains that run side by side: enough to hide the latency, few enough to stay in registers.
const CHAINS: usize = 12;

/// Runs `turns` turns of the loop on every thread and returns how many floating-point operations (a multiply-add
/// counts two) were done together. The caller holds the clock.
pub fn multiply_add_peak(ctx: &Context, turns: usize) -> f64 {
    ctx.run(ctx.threads(), |_, _| {
        black_box(chains(ctx.isa(), turns));
    });
    2.0 * (CHAINS * ctx.isa().lanes() * turns * ctx.threads()) as f64
}

isa_shells! {
    fn chains(isa, turns: usize) -> f32 = chains_of;
}

#[inline(always)]
fn chains_of<S: Simd>(s: S, turns: usize) -> f32 {
    let (a, b) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
    let mut sums = [s.splat(black_box(1.0)); CHAINS];
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = s.mul_add(*sum, a, b);
        }
    }
    sums.into_iter().map(|sum| s.reduce_add(sum)).sum()
}
