//! One step of the Adam family, and the norm that clipping needs.
//!
//! ```text
//! g = gradient_scale * gradient
//! coupled:   g = g + weight_decay * p              (torch.optim.Adam)
//! before:    p = p - learning_rate * weight_decay * p   (torch.optim.AdamW, before the step)
//! m = m + (1 - beta1) (g - m)        v = beta2 v + (1 - beta2) g^2
//! p = p - learning_rate / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
//! after:     p = p - learning_rate sqrt(1 - beta2^step) / (1 - beta1^step) * m / (sqrt(v) + eps), and then
//!            p = p - learning_rate * weight_decay * p   (the AdamW of transformers before version 5)
//! ```
//! (Kingma & Ba 2015; Loshchilov & Hutter 2019.) The corrections are computed in f64, the rest in f32, as PyTorch does.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Context;
use crate::isa::isa_shells;
use crate::simd::Simd;

/// Parameters of a work item: some ten microseconds from memory.
const BLOCK: usize = 16_384;

/// The numbers of one step of Adam or AdamW.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the mean of the gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root.
    pub eps: f64,
    /// The weight decay, which acts where `decay` says.
    pub weight_decay: f64,
    /// The number of this step, from 1.
    pub step: u64,
    /// Where the weight decay acts.
    pub decay: Decay,
    /// What the gradient is multiplied with first: 1, or what clipping says.
    pub gradient_scale: f64,
}

/// Where the weight decay of a step acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// In the gradient, as an L2 penalty: `torch.optim.Adam`.
    Coupled,
    /// The parameter shrinks before the step: `torch.optim.AdamW`.
    Before,
    /// It shrinks after the step, and eps is added to the uncorrected root: the AdamW of older transformers.
    After,
}

/// One step: parameter, m and v are updated. All slices have the same length.
pub fn adam(ctx: &Context, parameter: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32], step: &AdamStep) {
    let len = parameter.len();
    assert!([gradient.len(), m.len(), v.len()] == [len; 3], "gradient, m and v: as long as the parameter");
    assert!(step.step >= 1, "steps count from 1");
    let factors = Factors::new(step);
    ctx.run_rows(len, BLOCK, [(parameter, 1), (m, 1), (v, 1)], |range, [parameter, m, v], _| {
        adam_block(ctx.isa(), parameter, &gradient[range], m, v, &factors);
    });
}

/// The sum of the squares of x, in f64. Its order follows from the length alone.
pub fn squared_norm(ctx: &Context, x: &[f32]) -> f64 {
    let block = x.len().div_ceil(PARTS).max(BLOCK);
    let sums = [const { AtomicU64::new(0) }; PARTS];
    ctx.run(x.len().div_ceil(block), |item, _| {
        let sum = squares_block(ctx.isa(), &x[item * block..x.len().min((item + 1) * block)]);
        sums[item].store(sum.to_bits(), Ordering::Relaxed);
    });
    sums.iter().map(|sum| f64::from_bits(sum.load(Ordering::Relaxed))).sum()
}

/// At most so many partial sums: they stand on the stack.
const PARTS: usize = 256;

/// The step's constants as the loop wants them.
struct Factors {
    scale: f32,
    /// What p keeps of itself before and after the step, and what of it enters the gradient.
    keep: f32,
    keep_after: f32,
    penalty: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    root_correction: f32,
    eps: f32,
    size: f32,
}

impl Factors {
    fn new(step: &AdamStep) -> Self {
        let count = step.step as f64;
        let kept = (1.0 - step.learning_rate * step.weight_decay) as f32;
        let size = step.learning_rate / (1.0 - step.beta1.powf(count));
        let root = (1.0 - step.beta2.powf(count)).sqrt();
        let after = step.decay == Decay::After;
        Factors {
            scale: step.gradient_scale as f32,
            keep: if step.decay == Decay::Before { kept } else { 1.0 },
            keep_after: if after { kept } else { 1.0 },
            penalty: if step.decay == Decay::Coupled { step.weight_decay as f32 } else { 0.0 },
            one_minus_beta1: (1.0 - step.beta1) as f32,
            beta2: step.beta2 as f32,
            one_minus_beta2: (1.0 - step.beta2) as f32,
            root_correction: if after { 1.0 } else { root as f32 },
            eps: step.eps as f32,
            size: if after { size * root } else { size } as f32,
        }
    }
}

isa_shells! {
    fn adam_block(isa, parameter: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32], factors: &Factors) = update;
    fn squares_block(isa, x: &[f32]) -> f64 = squares;
}

#[inline(always)]
fn update<S: Simd>(s: S, parameter: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32], factors: &Factors) {
    let [scale, keep, keep_after, penalty] =
        [factors.scale, factors.keep, factors.keep_after, factors.penalty].map(|x| s.splat(x));
    let [one_minus_beta1, beta2, one_minus_beta2] =
        [factors.one_minus_beta1, factors.beta2, factors.one_minus_beta2].map(|x| s.splat(x));
    let [root_correction, eps, size] = [factors.root_correction, factors.eps, factors.size].map(|x| s.splat(x));
    let chunks = parameter
        .chunks_mut(S::LANES)
        .zip(gradient.chunks(S::LANES))
        .zip(m.chunks_mut(S::LANES).zip(v.chunks_mut(S::LANES)));
    for ((p_at, g_at), (m_at, v_at)) in chunks {
        let p = s.load_partial(p_at);
        let g = s.mul_add(penalty, p, s.mul(s.load_partial(g_at), scale));
        let p = s.mul(p, keep);
        let m = s.load_partial(m_at);
        let m = s.mul_add(one_minus_beta1, s.sub(g, m), m);
        let v = s.mul_add(one_minus_beta2, s.mul(g, g), s.mul(beta2, s.load_partial(v_at)));
        let root = s.add(s.div(s.sqrt(v), root_correction), eps);
        s.store_partial(s.mul(s.sub(p, s.mul(size, s.div(m, root))), keep_after), p_at);
        s.store_partial(m, m_at);
        s.store_partial(v, v_at);
    }
}

/// Sixteen chains in f64, then added in order: the same bits on every instruction set, as squares of f32 are exact.
#[inline(always)]
fn squares<S: Simd>(_: S, x: &[f32]) -> f64 {
    let mut sums = [0.0f64; 16];
    let mut chunks = x.chunks_exact(16);
    for chunk in &mut chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            let x = f64::from(*x);
            *sum += x * x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(chunks.remainder()) {
        let x = f64::from(*x);
        *sum += x * x;
    }
    sums.iter().sum()
}
