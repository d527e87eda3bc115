//! Products in bf16 against a twin in f64 over the rounded numbers; exact ones where nothing is rounded.

use super::super::{matmul, matmul_backward_input, matmul_backward_input_add};
use super::*;
use crate::rows::{Rows, RowsMut, round_rows};
use crate::testing::{assert_close, numbers, on_every_isa};

/// Rows, inputs, outputs: nothing, one, odd depths both ways, around the lanes and the tiles, several items.
const SHAPES: [(usize, usize, usize); 14] = [
    (0, 3, 5),
    (3, 0, 5),
    (3, 5, 0),
    (1, 1, 1),
    (1, 2, 1),
    (2, 15, 16),
    (3, 16, 17),
    (4, 33, 31),
    (7, 31, 33),
    (8, 64, 95),
    (12, 32, 31),
    (13, 33, 64),
    (25, 65, 129),
    (50, 100, 131),
];

/// Numbers as the product sees them: rounded to bf16.
fn rounded(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(f32::from_bits(pair(0.0, x).to_bits()))).collect()
}

/// The rows of `x` as pairs.
fn pairs(ctx: &Context, x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut pairs = vec![f32::NAN; rows * columns.div_ceil(2)];
    round_rows(ctx, &mut pairs, x, columns);
    pairs
}

/// `[y, d_x, d_x added to before]` in f32. In bf16 y and d_x are the same, rounded.
fn both_ways(
    ctx: &Context,
    weight: &Weight,
    rows: usize,
    x: &[f32],
    b: &[f32],
    d_y: &[f32],
    before: &[f32],
) -> Vec<f32> {
    let (inputs, outputs) = (weight.inputs(), weight.outputs());
    let (x, d_y) = (pairs(ctx, x, rows, inputs), pairs(ctx, d_y, rows, outputs));
    let (x, d_y) = (Rows::Bf16(&x), Rows::Bf16(&d_y));
    let mut y = vec![f32::NAN; rows * outputs];
    matmul(ctx, RowsMut::F32(&mut y), x, weight, Some(b));
    let (mut d_x, mut added) = (vec![f32::NAN; rows * inputs], before.to_vec());
    matmul_backward_input(ctx, RowsMut::F32(&mut d_x), d_y, weight);
    matmul_backward_input_add(ctx, &mut added, d_y, weight);
    let (mut y16, mut d_x16) = (vec![f32::NAN; rows * outputs.div_ceil(2)], vec![f32::NAN; rows * inputs.div_ceil(2)]);
    matmul(ctx, RowsMut::Bf16(&mut y16), x, weight, Some(b));
    matmul_backward_input(ctx, RowsMut::Bf16(&mut d_x16), d_y, weight);
    let bits = |x: &[f32]| -> Vec<u32> { x.iter().map(|x| x.to_bits()).collect() };
    assert_eq!(bits(&y16), bits(&pairs(ctx, &y, rows, outputs)), "{rows} x {inputs} -> {outputs}");
    assert_eq!(bits(&d_x16), bits(&pairs(ctx, &d_x, rows, inputs)), "{rows} x {inputs} <- {outputs}");
    [y, d_x, added].concat()
}

/// The twin of [`both_ways`] from a weight `[outputs, inputs]`.
fn twin(
    w: &[f64],
    (rows, inputs, outputs): (usize, usize, usize),
    x: &[f32],
    b: &[f32],
    d_y: &[f32],
    before: &[f32],
) -> Vec<f64> {
    let (x, d_y) = (rounded(x), rounded(d_y));
    let mut all = Vec::new();
    for r in 0..rows {
        for o in 0..outputs {
            let sum: f64 = (0..inputs).map(|k| x[r * inputs + k] * w[o * inputs + k]).sum();
            all.push(sum + f64::from(b[o]));
        }
    }
    let mut d_x = Vec::new();
    for r in 0..rows {
        for i in 0..inputs {
            d_x.push((0..outputs).map(|o| d_y[r * outputs + o] * w[o * inputs + i]).sum::<f64>());
        }
    }
    let added: Vec<f64> = d_x.iter().zip(before).map(|(d, before)| d + f64::from(*before)).collect();
    [all, d_x, added].concat()
}

#[test]
fn products_are_those_of_the_rounded_numbers() {
    for shape in SHAPES {
        let (rows, inputs, outputs) = shape;
        let (x, w, b) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2), numbers(outputs, 3));
        let (d_y, before) = (numbers(rows * outputs, 4), numbers(rows * inputs, 5));
        let want = twin(&rounded(&w), shape, &x, &b, &d_y, &before);
        on_every_isa(
            |ctx| {
                let weight = Weight::pack_bf16(ctx, &w, outputs, inputs, true);
                assert_eq!((weight.outputs(), weight.inputs()), (outputs, inputs));
                both_ways(ctx, &weight, rows, &x, &b, &d_y, &before)
            },
            |isa, got| assert_close(&format!("{isa}, {rows} x {inputs} -> {outputs}"), got, &want, 2e-6),
        );
    }
}

/// Small integers are exact in bf16 and so are their sums: a lost or doubled term shows as a whole number.
#[test]
fn small_integers_come_out_exactly() {
    let integers =
        |len: usize, seed: u32| -> Vec<f32> { numbers(len, seed).iter().map(|x| (x * 9.0).round()).collect() };
    for shape in [(5, 7, 3), (14, 203, 70), (120, 384, 65)] {
        let (rows, inputs, outputs) = shape;
        let (x, w, b) = (integers(rows * inputs, 1), integers(outputs * inputs, 2), integers(outputs, 3));
        let (d_y, before) = (integers(rows * outputs, 4), integers(rows * inputs, 5));
        let want: Vec<f32> = twin(&rounded(&w), shape, &x, &b, &d_y, &before).iter().map(|&x| x as f32).collect();
        on_every_isa(
            |ctx| {
                let weight = Weight::pack_bf16(ctx, &w, outputs, inputs, true);
                both_ways(ctx, &weight, rows, &x, &b, &d_y, &before)
            },
            |isa, got| assert_eq!(got, want, "{isa}"),
        );
    }
}

/// One row at a time shows the packed numbers: forward and backward hold the same.
#[test]
fn both_orientations_hold_the_same_rounded_numbers() {
    let (inputs, outputs) = (37, 21);
    let w = numbers(outputs * inputs, 2);
    let want: Vec<f32> = rounded(&w).iter().map(|&w| w as f32).collect();
    let unit = |len: usize| -> Vec<f32> { (0..len * len).map(|i| f32::from(u8::from(i % (len + 1) == 0))).collect() };
    on_every_isa(
        |ctx| {
            let weight = Weight::pack_bf16(ctx, &w, outputs, inputs, true);
            let (mut columns, mut rows) = (vec![0.0; inputs * outputs], vec![0.0; inputs * outputs]);
            let (x, d_y) = (unit(inputs), unit(outputs));
            let (x, d_y) = (pairs(ctx, &x, inputs, inputs), pairs(ctx, &d_y, outputs, outputs));
            matmul(ctx, RowsMut::F32(&mut columns), Rows::Bf16(&x), &weight, None);
            matmul_backward_input(ctx, RowsMut::F32(&mut rows), Rows::Bf16(&d_y), &weight);
            for i in 0..inputs {
                for o in 0..outputs {
                    assert_eq!(columns[i * outputs + o].to_bits(), rows[o * inputs + i].to_bits());
                }
            }
            rows
        },
        |isa, got| assert_eq!(got, want, "{isa}"),
    );
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_a_thousand() {
    let (rows, inputs, outputs) = (1000, 203, 70);
    let (x, w, b) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2), numbers(outputs, 3));
    let d_y = numbers(rows * outputs, 4);
    on_every_isa(
        |ctx| {
            let weight = Weight::pack_bf16(ctx, &w, outputs, inputs, true);
            let all = both_ways(ctx, &weight, rows, &x, &b, &d_y, &x);
            let (y, rest) = all.split_at(rows * outputs);
            let (d_x, added) = rest.split_at(rows * inputs);
            for row in [0, 1, 499, 999] {
                let (x, d_y) = (&x[row * inputs..][..inputs], &d_y[row * outputs..][..outputs]);
                let one = both_ways(ctx, &weight, 1, x, &b, d_y, x);
                let among = [&y[row * outputs..][..outputs], &d_x[row * inputs..][..inputs]];
                let among = [&among.concat()[..], &added[row * inputs..][..inputs]].concat();
                assert!(one.iter().zip(&among).all(|(a, b)| a.to_bits() == b.to_bits()), "row {row}");
            }
            all
        },
        |isa, got| assert!(got.iter().all(|x| x.is_finite()), "{isa}"),
    );
}

#[test]
fn chosen_rows_are_those_rows_in_that_order() {
    let (rows, inputs, total, chosen) = (5, 19, 40, [39u32, 0, 7, 7, 12]);
    let (x, w, d_y) = (numbers(rows * inputs, 1), numbers(total * inputs, 2), numbers(rows * chosen.len(), 3));
    let picked: Vec<f32> = chosen.iter().flat_map(|&c| w[c as usize * inputs..][..inputs].to_vec()).collect();
    on_every_isa(
        |ctx| {
            let some = Weight::pack_rows_bf16(ctx, &w, inputs, &chosen, true);
            let all = Weight::pack_bf16(ctx, &picked, chosen.len(), inputs, true);
            let b = [0.5; 5];
            let got = both_ways(ctx, &some, rows, &x, &b, &d_y, &x);
            assert_eq!(got, both_ways(ctx, &all, rows, &x, &b, &d_y, &x));
            got
        },
        |isa, got| assert!(got.iter().all(|x| x.is_finite()), "{isa}"),
    );
}

/// What is not a number stays visible, infinities stay infinite; the instruction may take denormal numbers for zeros.
#[test]
fn rows_that_are_not_finite_stay_so_and_denormals_are_small() {
    let x = [f32::NAN, 1.0, f32::INFINITY, 1.0, 1.0e-40, 0.0, f32::MAX, 0.0];
    on_every_isa(
        |ctx| {
            let weight = Weight::pack_bf16(ctx, &[1.0, 2.0], 1, 2, false);
            let mut y = vec![0.0; 4];
            matmul(ctx, RowsMut::F32(&mut y), Rows::Bf16(&pairs(ctx, &x, 4, 2)), &weight, None);
            y
        },
        |isa, y| {
            assert!(y[0].is_nan(), "{isa}");
            assert_eq!(y[1], f32::INFINITY, "{isa}");
            assert!((0.0..1.1e-40).contains(&y[2]), "{isa}: {}", y[2]);
            assert_eq!(y[3], f32::INFINITY, "{isa}: more than the largest bf16");
        },
    );
}

#[test]
fn a_weight_takes_half_the_memory() {
    let ctx = Context::detect();
    let (single, half) =
        (Weight::pack(&ctx, &[0.5; 64 * 64], 64, 64, true), Weight::pack_bf16(&ctx, &[0.5; 64 * 64], 64, 64, true));
    assert_eq!(2 * half.bytes(), single.bytes());
}

#[test]
#[should_panic(expected = "kept as its weight is")]
fn rows_in_f32_are_rounded_before_the_product() {
    let ctx = Context::detect();
    let weight = Weight::pack_bf16(&ctx, &[1.0], 1, 1, false);
    matmul(&ctx, RowsMut::F32(&mut [0.0]), Rows::F32(&[1.0]), &weight, None);
}

/// Where pairs are widened, the second number of a pair is added first, each with one rounding where there is a fused
/// multiply-add; with this input any other order gives another number.
#[test]
fn sums_are_one_chain_of_pairs_in_the_order_of_k() {
    let inputs = 300;
    let x: Vec<f32> = (0..inputs).map(|k| if k % 4 < 2 { 3.0e7 } else { -3.0e7 } + k as f32 * 1.7e5).collect();
    let w = numbers(inputs, 5);
    let exact: Vec<(f32, f32)> = rounded(&x).iter().zip(rounded(&w)).map(|(x, w)| (*x as f32, w as f32)).collect();
    let chain = |multiply_add: fn(f32, f32, f32) -> f32| {
        exact.chunks(2).fold(0.0, |sum, two| two.iter().rev().fold(sum, |sum, (x, w)| multiply_add(*x, *w, sum)))
    };
    on_every_isa(
        |ctx| {
            let weight = Weight::pack_bf16(ctx, &w, 1, inputs, false);
            let mut y = vec![0.0];
            matmul(ctx, RowsMut::F32(&mut y), Rows::Bf16(&pairs(ctx, &x, 1, inputs)), &weight, None);
            y
        },
        |isa, y| {
            let want = if isa == "portable" { chain(|x, w, sum| x * w + sum) } else { chain(f32::mul_add) };
            assert_eq!(y[0].to_bits(), want.to_bits(), "{isa}");
        },
    );
}
