//! The mask against its definition, number by number, and the independence it promises.

use super::*;
use crate::testing::{assert_close, numbers, on_every_isa};

/// Three spans of 1, 5 and 30 rows.
fn spans() -> Vec<Span> {
    let span = |rows: std::ops::Range<usize>| Span { end: rows.end, rows, parent: None, past: 0..0 };
    vec![span(0..1), span(1..6), span(6..36)]
}

const KEYS: [SpanKey; 3] = [key(5 << 40 | 9, 7), key(5 << 40 | 9, 1 << 40), key(8, 3)];

const fn key(seed: u64, key: u64) -> SpanKey {
    SpanKey { seed, key }
}

fn dropout(probability: f32) -> Dropout<'static> {
    Dropout { probability, layer: 4, span_keys: &KEYS }
}

/// The naive twin: the multiplier of one number.
fn multiplier(d: &Dropout<'_>, span: usize, row: u32, column: u32) -> f64 {
    let SpanKey { seed, key } = d.span_keys[span];
    let counter = [key as u32, (key >> 32) as u32, d.layer, u32::MAX];
    let [low, high, ..] = philox(counter, [seed as u32, (seed >> 32) as u32]);
    let words = philox([row, column / 64 * 16 + column % 16, 1, 0], [low, high]);
    let share = f64::from(words[(column % 64 / 16) as usize]) / 4_294_967_296.0;
    if share < f64::from(d.probability) { 0.0 } else { 1.0 / (1.0 - f64::from(d.probability)) }
}

#[test]
fn every_number_follows_its_name() {
    // All rows, and some: what a last block asks for.
    for rows in [(0..36).collect::<Vec<u32>>(), vec![0, 3, 35], vec![]] {
        for columns in [1, 15, 16, 17, 63, 64, 65, 130] {
            let x = numbers(rows.len() * columns, 1);
            let d = dropout(0.3);
            let want: Vec<f64> = (0..x.len())
                .map(|at| {
                    let (row, column) = (rows[at / columns] as usize, at % columns);
                    let span = spans().iter().position(|span| span.rows.contains(&row)).expect("a span");
                    let within = row - spans()[span].rows.start;
                    f64::from(x[at]) * multiplier(&d, span, within as u32, column as u32)
                })
                .collect();
            let kernel = |ctx: &Context| {
                let mut y = x.clone();
                dropout_rows(ctx, &mut y, columns, &rows, &spans(), &d);
                y
            };
            on_every_isa(kernel, |isa, y| assert_close(&format!("{isa}, {columns} columns"), y, &want, 1e-6));
        }
    }
}

#[test]
fn the_share_is_kept_and_every_part_of_the_name_counts() {
    let ctx = Context::detect();
    let rows: Vec<u32> = (0..36).collect();
    let mask = |d: Dropout<'_>| {
        let mut x = vec![1.0; 36 * 1000];
        dropout_rows(&ctx, &mut x, 1000, &rows, &spans(), &d);
        x
    };
    let first = mask(dropout(0.1));
    let dropped = first.iter().filter(|x| **x == 0.0).count() as f64 / first.len() as f64;
    assert!((dropped - 0.1).abs() < 0.01, "{dropped}");
    let other_seed = [key(1, 7), KEYS[1], KEYS[2]];
    assert_ne!(mask(Dropout { span_keys: &other_seed, ..dropout(0.1) }), first);
    assert_ne!(mask(Dropout { layer: 5, ..dropout(0.1) }), first);
    let other_key = [KEYS[0], key(KEYS[1].seed, 1), KEYS[2]];
    assert_ne!(mask(Dropout { span_keys: &other_key, ..dropout(0.1) }), first);
    assert!(mask(dropout(0.0)).iter().all(|x| *x == 1.0));
}

/// A span in another place of another batch keeps its mask.
#[test]
fn a_span_alone_has_the_mask_it_has_among_others() {
    let ctx = Context::detect();
    let (all, x) = ((0..36).collect::<Vec<u32>>(), numbers(36 * 50, 1));
    let mut batch = x.clone();
    dropout_rows(&ctx, &mut batch, 50, &all, &spans(), &dropout(0.5));
    let mut alone = x[50..300].to_vec();
    let span = Span { rows: 0..5, end: 5, parent: None, past: 0..0 };
    let d = Dropout { span_keys: &KEYS[1..2], ..dropout(0.5) };
    dropout_rows(&ctx, &mut alone, 50, &[0, 1, 2, 3, 4], &[span], &d);
    assert_eq!(alone, batch[50..300]);
}
