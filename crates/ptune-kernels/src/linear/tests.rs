//! Trainable products against a naive twin in f64.

use super::*;
use crate::testing::{assert_close, central_differences, numbers, on_every_isa, wide};

/// Rows, inputs, outputs: nothing, one, around the lanes and the tiles, several items.
const SHAPES: [(usize, usize, usize); 14] = [
    (0, 3, 5),
    (3, 0, 5),
    (3, 5, 0),
    (1, 1, 1),
    (1, 7, 9),
    (1, 300, 33),
    (2, 8, 17),
    (3, 9, 15),
    (4, 26, 4),
    (5, 15, 3),
    (7, 16, 50),
    (9, 17, 50),
    (64, 50, 26),
    (9, 700, 301),
];

/// The naive twins of forward, gradient to the input, to the weight and to the bias.
fn reference(x: &[f64], w: &[f64], b: &[f64], rows: usize) -> Vec<f64> {
    let outputs = b.len();
    let inputs = w.len().checked_div(outputs).unwrap_or(0);
    (0..rows * outputs)
        .map(|at| {
            let (r, o) = (at / outputs, at % outputs);
            b[o] + (0..inputs).map(|i| x[r * inputs + i] * w[o * inputs + i]).sum::<f64>()
        })
        .collect()
}

fn reference_backward(d_y: &[f64], x: &[f64], w: &[f64], sizes: (usize, usize, usize)) -> [Vec<f64>; 3] {
    let (rows, inputs, outputs) = sizes;
    let (mut d_x, mut d_w, mut d_b) = (vec![0.0; rows * inputs], vec![0.0; outputs * inputs], vec![0.0; outputs]);
    for r in 0..rows {
        for o in 0..outputs {
            let d = d_y[r * outputs + o];
            d_b[o] += d;
            for i in 0..inputs {
                d_x[r * inputs + i] += d * w[o * inputs + i];
                d_w[o * inputs + i] += d * x[r * inputs + i];
            }
        }
    }
    [d_x, d_w, d_b]
}

#[test]
fn forward_is_the_product() {
    for (rows, inputs, outputs) in SHAPES {
        let (x, w, b) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2), numbers(outputs, 3));
        let none = reference(&wide(&x), &wide(&w), &vec![0.0; outputs], rows);
        let want = [reference(&wide(&x), &wide(&w), &wide(&b), rows), none].concat();
        on_every_isa(
            |ctx| {
                let (mut y, mut none) = (vec![f32::NAN; rows * outputs], vec![f32::NAN; rows * outputs]);
                linear(ctx, &mut y, &x, &w, Some(&b), outputs, inputs);
                linear(ctx, &mut none, &x, &w, None, outputs, inputs);
                [y, none].concat()
            },
            |isa, y| assert_close(&format!("{isa}, {rows} x {inputs} -> {outputs}"), y, &want, 2e-6),
        );
    }
}

#[test]
fn backward_is_the_twins() {
    for sizes in SHAPES {
        let (rows, inputs, outputs) = sizes;
        let (x, w, d_y) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2), numbers(rows * outputs, 3));
        let before = numbers(rows * inputs, 4);
        let [d_x, d_w, d_b] = reference_backward(&wide(&d_y), &wide(&x), &wide(&w), sizes);
        let added: Vec<f64> = d_x.iter().zip(&before).map(|(d, b)| d + f64::from(*b)).collect();
        let want = [d_x, added, d_w.clone(), d_w, d_b].concat();
        on_every_isa(
            |ctx| {
                let (mut d_x, mut added) = (vec![f32::NAN; rows * inputs], before.clone());
                let (mut d_w, mut d_b) = (vec![f32::NAN; outputs * inputs], vec![f32::NAN; outputs]);
                let mut d_w_only = d_w.clone();
                linear_backward_input(ctx, &mut d_x, &d_y, &w, outputs, inputs);
                linear_backward_input_add(ctx, &mut added, &d_y, &w, outputs, inputs);
                linear_backward_weight(ctx, &mut d_w, Some(&mut d_b), &d_y, &x, outputs, inputs);
                linear_backward_weight(ctx, &mut d_w_only, None, &d_y, &x, outputs, inputs);
                [d_x, added, d_w, d_w_only, d_b].concat()
            },
            |isa, got| assert_close(&format!("{isa}, {rows} x {inputs} <- {outputs}"), got, &want, 2e-6),
        );
    }
}

#[test]
fn the_twins_backward_is_the_gradient_of_its_forward() {
    let sizes @ (rows, inputs, outputs) = (3, 5, 4);
    let (x, w, b) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2), numbers(outputs, 3));
    let (x, w, b, d_y) = (wide(&x), wide(&w), wide(&b), wide(&numbers(rows * outputs, 4)));
    let loss = |y: Vec<f64>| -> f64 { y.iter().zip(&d_y).map(|(y, d)| y * d).sum() };
    let want = reference_backward(&d_y, &x, &w, sizes);
    let got = [
        central_differences(&x, |x| loss(reference(x, &w, &b, rows))),
        central_differences(&w, |w| loss(reference(&x, w, &b, rows))),
        central_differences(&b, |b| loss(reference(&x, &w, b, rows))),
    ];
    for (got, want) in got.iter().zip(&want) {
        let got: Vec<f32> = got.iter().map(|&g| g as f32).collect();
        assert_close("gradient", &got, want, 1e-6);
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others() {
    let (rows, inputs, outputs) = (1000, 77, 61);
    let (x, w, b) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2), numbers(outputs, 3));
    let d_y = numbers(rows * outputs, 4);
    on_every_isa(
        |ctx| {
            let (mut y, mut d_x) = (vec![0.0; rows * outputs], vec![0.0; rows * inputs]);
            linear(ctx, &mut y, &x, &w, Some(&b), outputs, inputs);
            linear_backward_input(ctx, &mut d_x, &d_y, &w, outputs, inputs);
            for row in [0, 3, 998, 999] {
                let (mut one, mut d_one) = (vec![0.0; outputs], vec![0.0; inputs]);
                linear(ctx, &mut one, &x[row * inputs..][..inputs], &w, Some(&b), outputs, inputs);
                linear_backward_input(ctx, &mut d_one, &d_y[row * outputs..][..outputs], &w, outputs, inputs);
                assert_eq!(one, y[row * outputs..][..outputs], "row {row}");
                assert_eq!(d_one, d_x[row * inputs..][..inputs], "row {row} backward");
            }
            y
        },
        |isa, y| assert_close(isa, y, &reference(&wide(&x), &wide(&w), &wide(&b), rows), 2e-6),
    );
}
