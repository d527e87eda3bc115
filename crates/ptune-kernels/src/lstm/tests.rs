//! The LSTM against a naive twin in f64, its gradients against central differences.

use super::*;
use crate::testing::{assert_close, central_differences, numbers, on_every_isa, wide};

/// Steps, input, hidden, layers: no step, one, hidden widths around the lanes.
const SHAPES: [LstmShape; 8] = [
    LstmShape { steps: 0, input: 3, hidden: 2, layers: 2 },
    LstmShape { steps: 1, input: 1, hidden: 1, layers: 1 },
    LstmShape { steps: 1, input: 5, hidden: 3, layers: 2 },
    LstmShape { steps: 2, input: 3, hidden: 7, layers: 1 },
    LstmShape { steps: 3, input: 9, hidden: 8, layers: 2 },
    LstmShape { steps: 4, input: 2, hidden: 9, layers: 3 },
    LstmShape { steps: 9, input: 4, hidden: 5, layers: 2 },
    LstmShape { steps: 2, input: 2, hidden: 17, layers: 1 },
];

/// The lengths of all parameters, in the order of the cells and of their fields.
fn lengths(shape: &LstmShape) -> Vec<usize> {
    let &LstmShape { input, hidden: n, layers, .. } = shape;
    (0..2 * layers).flat_map(|at| [4 * n * if at < 2 { input } else { 2 * n }, 4 * n * n, 4 * n, 4 * n]).collect()
}

fn split<'a, T>(mut all: &'a [T], shape: &LstmShape) -> Vec<&'a [T]> {
    let mut parts = Vec::new();
    for len in lengths(shape) {
        let (part, rest) = all.split_at(len);
        parts.push(part);
        all = rest;
    }
    parts
}

fn cells<'a>(parameters: &'a [f32], shape: &LstmShape) -> Vec<LstmCell<'a>> {
    let cell = |p: &[&'a [f32]]| LstmCell { weight_ih: p[0], weight_hh: p[1], bias_ih: p[2], bias_hh: p[3] };
    split(parameters, shape).chunks(4).map(cell).collect()
}

/// The naive twin of the forward.
fn reference(x: &[f64], parameters: &[f64], shape: &LstmShape) -> Vec<f64> {
    let &LstmShape { steps, hidden: n, layers, .. } = shape;
    let parts = split(parameters, shape);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let mut input = x.to_vec();
    for layer in 0..layers {
        let width = if layer == 0 { shape.input } else { 2 * n };
        let mut output = vec![0.0; steps * 2 * n];
        for d in 0..2 {
            let at = 4 * (2 * layer + d);
            let (mut h, mut c) = (vec![0.0; n], vec![0.0; n]);
            for step in 0..steps {
                let t = if d == 0 { step } else { steps - 1 - step };
                let z: Vec<f64> = (0..4 * n)
                    .map(|row| {
                        let from_x: f64 = (0..width).map(|i| parts[at][row * width + i] * input[t * width + i]).sum();
                        let from_h: f64 = (0..n).map(|i| parts[at + 1][row * n + i] * h[i]).sum();
                        from_x + from_h + parts[at + 2][row] + parts[at + 3][row]
                    })
                    .collect();
                for j in 0..n {
                    c[j] = sigmoid(z[n + j]) * c[j] + sigmoid(z[j]) * z[2 * n + j].tanh();
                    h[j] = sigmoid(z[3 * n + j]) * c[j].tanh();
                    output[t * 2 * n + d * n + j] = h[j];
                }
            }
        }
        input = output;
    }
    input
}

/// y, d_x and all parameters' gradients of the kernels.
fn run(ctx: &Context, x: &[f32], parameters: &[f32], d_y: &[f32], shape: &LstmShape) -> Vec<f32> {
    ctx.reserve(lstm_scratch_len(shape));
    let cells = cells(parameters, shape);
    let mut saved = vec![f32::NAN; lstm_saved_len(shape)];
    let (mut y, mut d_x) = (vec![f32::NAN; d_y.len()], vec![f32::NAN; x.len()]);
    let mut gradients: Vec<Vec<f32>> = lengths(shape).iter().map(|&len| vec![f32::NAN; len]).collect();
    lstm(ctx, &mut y, &mut saved, x, &cells, shape);
    let mut d_cells: Vec<LstmCellGradient> = gradients
        .chunks_mut(4)
        .map(|g| {
            let [weight_ih, weight_hh, bias_ih, bias_hh] = g else { unreachable!("four a cell") };
            LstmCellGradient { weight_ih, weight_hh, bias_ih, bias_hh }
        })
        .collect();
    lstm_backward(ctx, &mut d_x, &mut d_cells, d_y, x, &mut saved, &cells, shape);
    [y, d_x, gradients.concat()].concat()
}

#[test]
fn forward_and_gradients_are_the_twins() {
    for shape in SHAPES {
        let x = numbers(shape.steps * shape.input, 1);
        let parameters: Vec<f32> = numbers(lengths(&shape).iter().sum(), 2).iter().map(|p| 0.6 * p).collect();
        let d_y = numbers(shape.steps * 2 * shape.hidden, 3);
        let (wide_x, wide_parameters, wide_d_y) = (wide(&x), wide(&parameters), wide(&d_y));
        let loss = |x: &[f64], parameters: &[f64]| -> f64 {
            reference(x, parameters, &shape).iter().zip(&wide_d_y).map(|(y, d)| y * d).sum()
        };
        let want = [
            reference(&wide_x, &wide_parameters, &shape),
            central_differences(&wide_x, |x| loss(x, &wide_parameters)),
            central_differences(&wide_parameters, |parameters| loss(&wide_x, parameters)),
        ];
        on_every_isa(
            |ctx| run(ctx, &x, &parameters, &d_y, &shape),
            |isa, got| {
                let mut from = 0;
                for (what, want) in ["y", "d_x", "gradients"].iter().zip(&want) {
                    let got = &got[from..from + want.len()];
                    assert_close(&format!("{isa}, {shape:?}, {what}"), got, want, 3e-6);
                    from += want.len();
                }
            },
        );
    }
}

/// Numbers of PyTorch 2's `nn.LSTM(2, 2, num_layers=2, bidirectional=True)` in f64: parameter number n (in the order
/// of the cells) is 0.5 sin(0.7 n), x 0.9 cos(1.3 n), d_y sin(0.4 n).
#[test]
fn pytorch_has_the_same_numbers() {
    let shape = LstmShape { steps: 3, input: 2, hidden: 2, layers: 2 };
    let series = |len: usize, f: fn(f64) -> f64| -> Vec<f32> { (0..len).map(|i| f(i as f64) as f32).collect() };
    let x = series(6, |i| 0.9 * (1.3 * i).cos());
    let parameters = series(224, |i| 0.5 * (0.7 * i).sin());
    let d_y = series(12, |i| (0.4 * i).sin());
    let y = [
        0.023462002,
        -0.015006860,
        -0.181723648,
        -0.257537015,
        0.043125225,
        -0.029407555,
        -0.138013810,
        -0.228558007,
        0.062736262,
        -0.044779454,
        -0.074590233,
        -0.161735042,
    ];
    let d_x = [-0.000278195, -0.002327273, 0.001561642, -0.001764536, -0.001890578, -0.000329408];
    let d_weight_hh_reverse = [0.000263147, 0.000183748, 0.000273332, 0.000158352, 0.000063707, 0.000055589];
    let d_bias_hh_second = [0.020816171, -0.004569917, 0.004175754, 0.000828869, 0.201968470, 0.203011744];
    on_every_isa(
        |ctx| run(ctx, &x, &parameters, &d_y, &shape),
        |isa, got| {
            assert_close(&format!("{isa}, y"), &got[..12], &y, 2e-6);
            assert_close(&format!("{isa}, d_x"), &got[12..18], &d_x, 2e-6);
            let parts = split(&got[18..], &shape);
            assert_close(&format!("{isa}, weight_hh_l0_reverse"), &parts[5][..6], &d_weight_hh_reverse, 2e-6);
            assert_close(&format!("{isa}, bias_hh_l1"), &parts[11][..6], &d_bias_hh_second, 2e-6);
        },
    );
}
