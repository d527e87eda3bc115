//! Against the formulas in f64, up to a whole vocabulary, and the gradient against central differences.

use super::*;
use crate::testing::{assert_close, central_differences, numbers, on_every_isa, wide};

const SIZES: [(usize, usize); 12] =
    [(0, 3), (1, 1), (3, 2), (2, 7), (2, 8), (3, 9), (2, 15), (1, 16), (2, 17), (2, 26), (3, 50), (5, 30_522)];

fn log_sum_exp_f64(x: &[f64]) -> f64 {
    let max = x.iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x));
    max + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
}

/// Far below zero: a maximum that looked behind the last column would be zero and all exponentials too.
fn logits(rows: usize, columns: usize) -> Vec<f32> {
    numbers(rows * columns, 1).iter().map(|x| x * 10.0 - 120.0).collect()
}

fn targets(rows: usize, columns: usize) -> Vec<u32> {
    (0..rows).map(|row| ((row * 7 + columns - 1) % columns) as u32).collect()
}

#[test]
fn forward_equals_the_formula() {
    for (rows, columns) in SIZES {
        let (x, targets) = (logits(rows, columns), targets(rows, columns));
        let sums: Vec<f64> = wide(&x).chunks(columns).map(log_sum_exp_f64).collect();
        let losses = (0..rows).map(|row| sums[row] - f64::from(x[row * columns + targets[row] as usize]));
        let want: Vec<f64> = losses.chain(sums.iter().copied()).collect();
        let kernel = |ctx: &Context| {
            let mut y = vec![9.0; 2 * rows];
            let (losses, sums) = y.split_at_mut(rows);
            softmax_cross_entropy(ctx, losses, sums, &x, &targets, columns);
            y
        };
        on_every_isa(kernel, |name, y| assert_close(&format!("{name} {rows}x{columns}"), y, &want, 5e-7));
    }
}

#[test]
fn softmax_equals_the_formula() {
    for (rows, columns) in SIZES {
        let x = logits(rows, columns);
        let probabilities = |row: &[f64]| {
            let sum = log_sum_exp_f64(row);
            row.iter().map(|x| (x - sum).exp()).collect::<Vec<_>>()
        };
        let want: Vec<f64> = wide(&x).chunks(columns).flat_map(probabilities).collect();
        let kernel = |ctx: &Context| {
            let mut y = vec![9.0; x.len()];
            softmax(ctx, &mut y, &x, columns);
            y
        };
        on_every_isa(kernel, |name, y| assert_close(name, y, &want, 3e-6));
    }
}

#[test]
fn backward_equals_central_differences() {
    for (rows, columns) in SIZES.into_iter().filter(|(_, columns)| *columns < 1000) {
        let (x, targets) = (logits(rows, columns), targets(rows, columns));
        let loss = |x: &[f64]| -> f64 {
            let rows = x.chunks(columns).zip(&targets);
            rows.map(|(x, t)| (log_sum_exp_f64(x) - x[*t as usize]) * 0.25).sum()
        };
        let want = central_differences(&wide(&x), loss);
        let kernel = |ctx: &Context| {
            let (mut d, mut losses, mut sums) = (vec![9.0; x.len()], vec![9.0; rows], vec![9.0; rows]);
            softmax_cross_entropy(ctx, &mut losses, &mut sums, &x, &targets, columns);
            softmax_cross_entropy_backward(ctx, &mut d, &x, &sums, &targets, 0.25, columns);
            d
        };
        on_every_isa(kernel, |name, d| assert_close(name, d, &want, 1e-5));
    }
}

#[test]
fn a_column_of_minus_infinity_is_left_out() {
    for isa in crate::Isa::available() {
        let ctx = Context::new(isa, 1);
        let (mut probabilities, mut loss, mut sum) = ([9.0; 3], [9.0], [9.0]);
        let x = [1.0, f32::NEG_INFINITY, 1.0];
        softmax(&ctx, &mut probabilities, &x, 3);
        assert_eq!(probabilities[1], 0.0);
        assert!((probabilities[0] - 0.5).abs() < 1e-6 && probabilities[0] == probabilities[2]);
        softmax_cross_entropy(&ctx, &mut loss, &mut sum, &x, &[2], 3);
        assert!((loss[0] - 2f32.ln()).abs() < 1e-6);
    }
}

/// Places of `rows` x `columns` logits in no order, some of them twice; rows above the first may have none.
fn places(rows: usize, columns: usize) -> Vec<(u32, u32)> {
    let place = |i: usize| ((i * 5 % rows) as u32 / 2 * 2, (i * i * 3 % columns) as u32);
    (0..if rows == 0 { 0 } else { 9 }).map(place).collect()
}

fn log_probabilities_f64(x: &[f64], places: &[(u32, u32)], columns: usize) -> Vec<f64> {
    let row = |row: u32| &x[row as usize * columns..][..columns];
    places.iter().map(|(r, c)| row(*r)[*c as usize] - log_sum_exp_f64(row(*r))).collect()
}

#[test]
fn log_probabilities_equal_the_formula() {
    for (rows, columns) in SIZES {
        let (x, places) = (logits(rows, columns), places(rows, columns));
        let sums = wide(&x).chunks(columns).map(log_sum_exp_f64).collect::<Vec<_>>();
        let want = [log_probabilities_f64(&wide(&x), &places, columns), sums].concat();
        let kernel = |ctx: &Context| {
            let mut y = vec![9.0; places.len() + rows];
            let (values, sums) = y.split_at_mut(places.len());
            log_probabilities(ctx, values, sums, &x, &places, columns);
            y
        };
        on_every_isa(kernel, |name, y| assert_close(&format!("{name} {rows}x{columns}"), y, &want, 5e-7));
    }
}

#[test]
fn log_probabilities_backward_equals_central_differences() {
    for (rows, columns) in SIZES.into_iter().filter(|(_, columns)| *columns < 1000) {
        let (x, places) = (logits(rows, columns), places(rows, columns));
        let weights = numbers(places.len(), 5);
        let sum = |x: &[f64]| -> f64 {
            let values = log_probabilities_f64(x, &places, columns);
            values.iter().zip(&weights).map(|(v, w)| v * f64::from(*w)).sum()
        };
        let want = central_differences(&wide(&x), sum);
        let mut chosen: Vec<_> = places.iter().zip(&weights).map(|((row, column), w)| (*row, *column, *w)).collect();
        chosen.sort_by_key(|(row, column, _)| (*row, *column));
        let kernel = |ctx: &Context| {
            let (mut d, mut values, mut sums) = (vec![9.0; x.len()], vec![9.0; places.len()], vec![9.0; rows]);
            log_probabilities(ctx, &mut values, &mut sums, &x, &places, columns);
            log_probabilities_backward(ctx, &mut d, &x, &sums, &chosen, columns);
            d
        };
        on_every_isa(kernel, |name, d| assert_close(&format!("{name} {rows}x{columns}"), d, &want, 1e-5));
    }
}

/// A token that is all but certain: what is missing from 1 must not be lost in rounding.
#[test]
fn the_gradient_of_a_certain_token_keeps_its_digits() {
    let missing = 1e-12_f32; // of the probability exp(-1e-12)
    let kernel = |ctx: &Context| {
        let mut d = vec![9.0; 3];
        log_probabilities_backward(ctx, &mut d, &[-missing, -30.0, -30.0], &[0.0], &[(0, 0, 0.5)], 3);
        d
    };
    on_every_isa(kernel, |name, d| assert!((d[0] / (0.5 * missing) - 1.0).abs() < 1e-5, "{name}: {d:?}"));
}
