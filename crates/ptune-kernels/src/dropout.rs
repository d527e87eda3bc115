//! Dropout of rows: each number is set to zero with a probability, and those that stay are divided by `1 - probability`.
//!
//! What is dropped follows from site, span key (with its seed), row within the span and column alone, by Philox:
//! `philox([span key low, high, site, 2^32 - 1], seed)` gives a key for the span and the site; under it, word
//! `column % 64 / 16` of `philox([row, column / 64 * 16 + column % 16, 1, 0])` decides about one number. (Sixteen columns
//! side by side take the same word of sixteen counters, so the generator runs in vectors.) The fourth word of the first
//! counter is the head in the attention's dropout, and no model has so many. The backward is the same product: nothing
//! is saved.

#[cfg(test)]
mod tests;

use crate::attention::{Dropout, Span, SpanKey};
use crate::context::rows_per_item;
use crate::isa::isa_shells;
use crate::simd::Simd;
use crate::{Context, philox};

/// Columns whose decisions come from one counter block of each lane: four words of [`LANES`] counters.
const GROUP: usize = 4 * LANES;
/// Counters side by side.
const LANES: usize = 16;
/// A number costs about as much as four of a copy.
const COST: usize = 4;

/// `x = x * mask / (1 - probability)`, in place: `x` is `[rows.len(), columns]`, row i of it stands in the row `rows[i]`
/// of the batch. `dropout.layer` numbers the sites of a model. It is its own backward.
pub fn dropout_rows(ctx: &Context, x: &mut [f32], columns: usize, rows: &[u32], spans: &[Span], dropout: &Dropout<'_>) {
    assert_eq!(x.len(), rows.len() * columns, "x: rows x columns");
    assert_eq!(spans.len(), dropout.span_keys.len(), "a key for each span");
    assert!((0.0..1.0).contains(&dropout.probability));
    let threshold = (f64::from(dropout.probability) * 4_294_967_296.0) as u32;
    let scale = 1.0 / (1.0 - dropout.probability);
    let block = (rows_per_item(columns) / COST).max(1);
    ctx.run_rows(rows.len(), block, [(x, columns)], |range, [x], _| {
        for (row, x) in rows[range].iter().zip(x.chunks_exact_mut(columns.max(1))) {
            let row = *row as usize;
            let span = spans.partition_point(|span| span.rows.end <= row);
            let within = (row - spans[span].rows.start) as u32;
            drop_out(ctx.isa(), x, within, key(dropout, span), threshold, scale);
        }
    });
}

/// The key of a span at a site.
fn key(dropout: &Dropout<'_>, span: usize) -> [u32; 2] {
    let SpanKey { seed, key } = dropout.span_keys[span];
    let counter = [key as u32, (key >> 32) as u32, dropout.layer, u32::MAX];
    let [low, high, ..] = philox(counter, [seed as u32, (seed >> 32) as u32]);
    [low, high]
}

isa_shells! {
    fn drop_out(isa, x: &mut [f32], row: u32, key: [u32; 2], threshold: u32, scale: f32) = drop_out_generic;
}

#[inline(always)]
fn drop_out_generic<S: Simd>(_: S, x: &mut [f32], row: u32, key: [u32; 2], threshold: u32, scale: f32) {
    for (group, x) in x.chunks_mut(GROUP).enumerate() {
        let words = words(row, (group * LANES) as u32, key);
        for (words, x) in words.iter().zip(x.chunks_mut(LANES)) {
            for (x, word) in x.iter_mut().zip(words) {
                *x *= if *word < threshold { 0.0 } else { scale };
            }
        }
    }
}

/// Word w of the counters `[row, first + i, 1, 0]`, as `[w][i]`: [`philox`] in lanes, which the compiler turns into
/// vectors.
#[inline(always)]
fn words(row: u32, first: u32, key: [u32; 2]) -> [[u32; LANES]; 4] {
    let mut words = [[0; LANES]; 4];
    let mut counters = [[row; LANES], [0; LANES], [1; LANES], [0; LANES]];
    for i in 0..LANES {
        counters[1][i] = first + i as u32;
    }
    for i in 0..LANES {
        let [a, b, c, d] = philox([counters[0][i], counters[1][i], counters[2][i], counters[3][i]], key);
        (words[0][i], words[1][i], words[2][i], words[3][i]) = (a, b, c, d);
    }
    words
}
