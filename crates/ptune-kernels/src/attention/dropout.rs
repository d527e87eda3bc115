//! The keep-mask of attention dropout, from Philox alone.
//!
//! `philox([span key low, high, layer, head], seed)` gives a key for the span, layer and head; under it,
//! `philox([row within the span, ordinal / 4, 0, 0])[ordinal % 4]` decides about one probability.

use super::{Dropout, SpanKey};
use crate::philox;

/// The mask of one span and head.
#[derive(Clone, Copy)]
pub(super) struct Mask {
    key: [u32; 2],
    /// Words below it are dropped.
    threshold: u64,
    /// What a kept probability is multiplied by.
    scale: f32,
}

impl Mask {
    pub(super) fn new(dropout: &Dropout, span: usize, head: usize) -> Self {
        let SpanKey { seed, key } = dropout.span_keys[span];
        let counter = [key as u32, (key >> 32) as u32, dropout.layer, head as u32];
        let [low, high, ..] = philox(counter, [seed as u32, (seed >> 32) as u32]);
        Mask {
            key: [low, high],
            threshold: (f64::from(dropout.probability) * 4_294_967_296.0) as u64,
            scale: 1.0 / (1.0 - dropout.probability),
        }
    }

    /// Calls `f(ordinal, multiplier)` for each of `keys` keys, as the row `row` of the span sees them.
    pub(super) fn multipliers(&self, row: usize, keys: usize, mut f: impl FnMut(usize, f32)) {
        let mut words = [0; 4];
        for ordinal in 0..keys {
            if ordinal.is_multiple_of(4) {
                words = philox([row as u32, (ordinal / 4) as u32, 0, 0], self.key);
            }
            f(ordinal, if u64::from(words[ordinal % 4]) < self.threshold { 0.0 } else { self.scale });
        }
    }
}
