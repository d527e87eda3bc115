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
