//! Packed products against a naive twin in f64; bits that do not depend on neighbours or threads.

use super::*;
use crate::testing::{assert_close, central_differences, numbers, on_every_isa, wide};

/// Rows, inputs, outputs: nothing, one, around the lanes and the tiles of every instruction set, several items.
const SHAPES: [(usize, usize, usize); 16] = [
    (0, 3, 5),
    (3, 0, 5),
    (3, 5, 0),
    (1, 1, 1),
    (1, 15, 16),
    (2, 16, 17),
    (3, 17, 15),
    (4, 50, 50),
    (5, 7, 8),
    (6, 9, 26),
    (7, 31, 33),
    (11, 8, 7),
    (12, 32, 31),
    (13, 33, 64),
    (25, 65, 129),
    (50, 100, 130),
];

/// The naive twin of `y = x W^T + b`.
fn reference(x: &[f64], w: &[f64], bias: Option<&[f64]>, rows: usize, outputs: usize, inputs: usize) -> Vec<f64> {
    let mut y = vec![0.0; rows * outputs];
    for r in 0..rows {
        for o in 0..outputs {
            let sum: f64 = (0..inputs).map(|k| x[r * inputs + k] * w[o * inputs + k]).sum();
            y[r * outputs + o] = sum + bias.map_or(0.0, |b| b[o]);
        }
    }
    y
}

/// The naive twin of `d_x = d_y W`.
fn reference_backward(d_y: &[f64], w: &[f64], rows: usize, outputs: usize, inputs: usize) -> Vec<f64> {
    let mut d_x = vec![0.0; rows * inputs];
    for r in 0..rows {
        for i in 0..inputs {
            d_x[r * inputs + i] = (0..outputs).map(|o| d_y[r * outputs + o] * w[o * inputs + i]).sum();
        }
    }
    d_x
}

#[test]
fn forward_is_the_product_with_and_without_bias() {
    for (rows, inputs, outputs) in SHAPES {
        let (x, w, b) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2), numbers(outputs, 3));
        for bias in [None, Some(&b[..])] {
            let want = reference(&wide(&x), &wide(&w), bias.map(wide).as_deref(), rows, outputs, inputs);
            on_every_isa(
                |ctx| {
                    let weight = Weight::pack(ctx, &w, outputs, inputs, false);
                    assert_eq!((weight.outputs(), weight.inputs()), (outputs, inputs));
                    let mut y = vec![f32::NAN; rows * outputs];
                    matmul(ctx, RowsMut::F32(&mut y), Rows::F32(&x), &weight, bias);
                    y
                },
                |isa, y| assert_close(&format!("{isa}, {rows} x {inputs} -> {outputs}"), y, &want, 2e-6),
            );
        }
        let before = numbers(rows * outputs, 4);
        let product = reference(&wide(&x), &wide(&w), None, rows, outputs, inputs);
        let want: Vec<f64> = product.iter().zip(&before).map(|(a, b)| a + f64::from(*b)).collect();
        on_every_isa(
            |ctx| {
                let mut y = before.clone();
                matmul_add(ctx, &mut y, Rows::F32(&x), &Weight::pack(ctx, &w, outputs, inputs, false));
                y
            },
            |isa, y| assert_close(&format!("{isa}, {rows} x {inputs} -> {outputs}, added"), y, &want, 2e-6),
        );
    }
}

#[test]
fn backward_is_the_product_with_the_transpose_and_add_adds() {
    for (rows, inputs, outputs) in SHAPES {
        let (d_y, w, before) = (numbers(rows * outputs, 1), numbers(outputs * inputs, 2), numbers(rows * inputs, 3));
        let want = reference_backward(&wide(&d_y), &wide(&w), rows, outputs, inputs);
        let sum: Vec<f64> = want.iter().zip(&before).map(|(a, b)| a + f64::from(*b)).collect();
        let both = [want, sum].concat();
        on_every_isa(
            |ctx| {
                let weight = Weight::pack(ctx, &w, outputs, inputs, true);
                let (mut d_x, mut added) = (vec![f32::NAN; rows * inputs], before.clone());
                matmul_backward_input(ctx, RowsMut::F32(&mut d_x), Rows::F32(&d_y), &weight);
                matmul_backward_input_add(ctx, &mut added, Rows::F32(&d_y), &weight);
                [d_x, added].concat()
            },
            |isa, d_x| assert_close(&format!("{isa}, {rows} x {inputs} <- {outputs}"), d_x, &both, 2e-6),
        );
    }
}

#[test]
fn the_twins_backward_is_the_gradient_of_its_forward() {
    let (rows, inputs, outputs) = (3, 5, 4);
    let (x, w) = (wide(&numbers(rows * inputs, 1)), wide(&numbers(outputs * inputs, 2)));
    let d_y = wide(&numbers(rows * outputs, 3));
    let loss =
        |x: &[f64]| -> f64 { reference(x, &w, None, rows, outputs, inputs).iter().zip(&d_y).map(|(y, d)| y * d).sum() };
    let got: Vec<f32> = central_differences(&x, loss).iter().map(|&g| g as f32).collect();
    assert_close("d_x", &got, &reference_backward(&d_y, &w, rows, outputs, inputs), 1e-6);
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_a_thousand() {
    let (rows, inputs, outputs) = (1000, 203, 70);
    let (x, w, b) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2), numbers(outputs, 3));
    let d_y = numbers(rows * outputs, 4);
    on_every_isa(
        |ctx| {
            let weight = Weight::pack(ctx, &w, outputs, inputs, true);
            let (mut y, mut d_x) = (vec![0.0; rows * outputs], vec![0.0; rows * inputs]);
            matmul(ctx, RowsMut::F32(&mut y), Rows::F32(&x), &weight, Some(&b));
            matmul_backward_input(ctx, RowsMut::F32(&mut d_x), Rows::F32(&d_y), &weight);
            for row in [0, 1, 499, 999] {
                let (mut one, mut d_one) = (vec![0.0; outputs], vec![0.0; inputs]);
                matmul(ctx, RowsMut::F32(&mut one), Rows::F32(&x[row * inputs..][..inputs]), &weight, Some(&b));
                matmul_backward_input(
                    ctx,
                    RowsMut::F32(&mut d_one),
                    Rows::F32(&d_y[row * outputs..][..outputs]),
                    &weight,
                );
                assert_eq!(one, y[row * outputs..][..outputs], "row {row}");
                assert_eq!(d_one, d_x[row * inputs..][..inputs], "row {row} backward");
            }
            y
        },
        |isa, y| {
            let want = reference(&wide(&x), &wide(&w), Some(&wide(&b)), rows, outputs, inputs);
            assert_close(isa, y, &want, 2e-6);
        },
    );
}

/// The tile sums in the order of k: with this input any other order gives another number.
#[test]
fn sums_are_one_chain_in_the_order_of_k() {
    let inputs = 300;
    let x: Vec<f32> = (0..inputs).map(|k| if k % 2 == 0 { 3.0e7 } else { -3.0e7 } + k as f32 * 1.7).collect();
    let w = numbers(inputs, 5);
    on_every_isa(
        |ctx| {
            let mut y = vec![0.0];
            matmul(ctx, RowsMut::F32(&mut y), Rows::F32(&x), &Weight::pack(ctx, &w, 1, inputs, false), None);
            y
        },
        |isa, y| {
            let fused = x.iter().zip(&w).fold(0.0f32, |sum, (x, w)| x.mul_add(*w, sum));
            let rounded = x.iter().zip(&w).fold(0.0f32, |sum, (x, w)| x * w + sum);
            assert_eq!(y[0].to_bits(), if isa == "portable" { rounded } else { fused }.to_bits(), "{isa}");
        },
    );
}

#[test]
fn chosen_rows_are_those_rows_in_that_order() {
    let (rows, inputs, total, chosen) = (5, 19, 40, [39u32, 0, 7, 7, 12]);
    let (x, w, d_y) = (numbers(rows * inputs, 1), numbers(total * inputs, 2), numbers(rows * chosen.len(), 3));
    let picked: Vec<f32> = chosen.iter().flat_map(|&c| w[c as usize * inputs..][..inputs].to_vec()).collect();
    let want = [
        reference(&wide(&x), &wide(&picked), None, rows, chosen.len(), inputs),
        reference_backward(&wide(&d_y), &wide(&picked), rows, chosen.len(), inputs),
    ]
    .concat();
    on_every_isa(
        |ctx| {
            let weight = Weight::pack_rows(ctx, &w, inputs, &chosen, true);
            let (mut y, mut d_x) = (vec![0.0; rows * chosen.len()], vec![0.0; rows * inputs]);
            matmul(ctx, RowsMut::F32(&mut y), Rows::F32(&x), &weight, None);
            matmul_backward_input(ctx, RowsMut::F32(&mut d_x), Rows::F32(&d_y), &weight);
            [y, d_x].concat()
        },
        |isa, got| assert_close(isa, got, &want, 2e-6),
    );
}

/// The naive twin of `d_w = d_y^T x`.
fn reference_of_weight(d_y: &[f64], x: &[f64], rows: usize, outputs: usize, inputs: usize) -> Vec<f64> {
    let mut d_w = vec![0.0; outputs * inputs];
    for (at, d_w) in d_w.iter_mut().enumerate() {
        let (o, i) = (at / inputs, at % inputs);
        *d_w = (0..rows).map(|r| d_y[r * outputs + o] * x[r * inputs + i]).sum();
    }
    d_w
}

#[test]
fn the_weights_gradient_is_the_third_product() {
    for (rows, inputs, outputs) in SHAPES.into_iter().chain([(300, 70, 150), (1000, 3, 2)]) {
        let (d_y, x) = (numbers(rows * outputs, 1), numbers(rows * inputs, 2));
        let want = reference_of_weight(&wide(&d_y), &wide(&x), rows, outputs, inputs);
        on_every_isa(
            |ctx| {
                let mut d_w = vec![f32::NAN; outputs * inputs];
                let mut scratch = vec![f32::NAN; matmul_backward_weight_scratch_len(ctx, rows, outputs, inputs)];
                matmul_backward_weight(ctx, &mut d_w, &d_y, &x, outputs, inputs, &mut scratch);
                d_w
            },
            |isa, d_w| assert_close(&format!("{isa}, {rows} x {inputs} -> {outputs}"), d_w, &want, 1e-5),
        );
    }
}

#[test]
fn the_twins_weight_gradient_is_the_gradient_of_its_forward() {
    let (rows, inputs, outputs) = (3, 5, 4);
    let (x, w) = (wide(&numbers(rows * inputs, 1)), wide(&numbers(outputs * inputs, 2)));
    let d_y = wide(&numbers(rows * outputs, 3));
    let loss =
        |w: &[f64]| -> f64 { reference(&x, w, None, rows, outputs, inputs).iter().zip(&d_y).map(|(y, d)| y * d).sum() };
    let got: Vec<f32> = central_differences(&w, loss).iter().map(|&g| g as f32).collect();
    assert_close("d_w", &got, &reference_of_weight(&d_y, &x, rows, outputs, inputs), 1e-6);
}

#[test]
fn a_repacked_weight_is_the_new_weight() {
    let (rows, inputs, outputs, chosen) = (5, 37, 41, [40u32, 0, 7]);
    let (before, after) = (numbers(outputs * inputs, 1), numbers(outputs * inputs, 2));
    let (x, d_y) = (numbers(rows * inputs, 3), numbers(rows * outputs, 4));
    on_every_isa(
        |ctx| {
            let products = |weight: &Weight| {
                let (mut y, mut d_x) = (vec![0.0; rows * weight.outputs()], vec![0.0; rows * inputs]);
                matmul(ctx, RowsMut::F32(&mut y), Rows::F32(&x), weight, None);
                matmul_backward_input(ctx, RowsMut::F32(&mut d_x), Rows::F32(&d_y[..rows * weight.outputs()]), weight);
                [y, d_x].concat()
            };
            let mut weight = Weight::pack(ctx, &before, outputs, inputs, true);
            let mut rows = Weight::pack_rows(ctx, &before, inputs, &chosen, true);
            weight.repack(ctx, &after);
            rows.repack_rows(ctx, &after, &chosen);
            let new = [
                products(&Weight::pack(ctx, &after, outputs, inputs, true)),
                products(&Weight::pack_rows(ctx, &after, inputs, &chosen, true)),
            ];
            let got = [products(&weight), products(&rows)];
            assert_eq!(got, new);
            got.concat()
        },
        |_, _| {},
    );
}

#[test]
#[should_panic(expected = "packed without gradient")]
fn backward_needs_its_packing() {
    let ctx = Context::detect();
    let weight = Weight::pack(&ctx, &[1.0], 1, 1, false);
    matmul_backward_input(&ctx, RowsMut::F32(&mut [0.0]), Rows::F32(&[1.0]), &weight);
}

/// The items of a plan meet every tile of every panel once, and the tiles every row once.
#[test]
fn a_plan_covers_everything_once() {
    let ctx = Context::detect();
    for (rows, inputs, outputs) in [(0, 4, 4), (1, 4, 100), (29, 64, 4000), (1000, 200, 70), (5000, 300, 33)] {
        let weight = Weight::pack(&ctx, &vec![0.0; inputs * outputs], outputs, inputs, false);
        let plan = Plan::new(rows, &weight.forward.view(), 6, 2);
        let mut met = vec![0; plan.panels * rows];
        for item in 0..plan.items() {
            let (panels, tiles) = plan.item(item);
            for panel in panels {
                for row in tiles.clone().flat_map(|tile| plan.tile(tile)) {
                    met[panel * rows + row] += 1;
                }
            }
        }
        assert!(met.iter().all(|&times| times == 1), "{rows} x {inputs} -> {outputs}");
    }
}
