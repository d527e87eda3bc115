//! Against the formula in f64, and the gradient against central differences of that formula.

use super::*;
use crate::add;
use crate::rows::{round_rows, widen_rows};
use crate::testing::{assert_close, central_differences, numbers, on_every_isa, wide};

const EPS: f32 = 1e-5;

/// The naive twin: y of one row z; an empty `beta` is none.
fn norm_f64(kind: NormKind, z: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
    let n = z.len() as f64;
    let mean = if kind == NormKind::Layer { z.iter().sum::<f64>() / n } else { 0.0 };
    let variance = z.iter().map(|z| (z - mean) * (z - mean)).sum::<f64>() / n;
    let inverse = 1.0 / (variance + f64::from(EPS)).sqrt();
    let beta = |i: usize| beta.get(i).copied().unwrap_or_default();
    (0..z.len()).map(|i| (z[i] - mean) * inverse * gamma[i] + beta(i)).collect()
}

struct Case {
    kind: NormKind,
    rows: usize,
    columns: usize,
    x: Vec<f32>,
    residual: Option<Vec<f32>>,
    gamma: Vec<f32>,
    /// Empty where there is none.
    beta: Vec<f32>,
    d_y: Vec<f32>,
}

fn cases() -> impl Iterator<Item = Case> {
    // Blocks of several items too: 700 rows of 130 columns are two.
    let sizes = [(0, 5), (1, 1), (3, 7), (2, 8), (3, 9), (2, 15), (2, 16), (1, 17), (2, 26), (3, 50), (700, 130)];
    let kinds = [(NormKind::Layer, true), (NormKind::Layer, false), (NormKind::Rms, false), (NormKind::Rms, true)];
    let cases = sizes.into_iter().enumerate().flat_map(move |size| kinds.map(|kind| (size, kind)));
    cases.map(|((i, (rows, columns)), (kind, beta))| Case {
        kind,
        rows,
        columns,
        // A mean far from zero, as real rows have.
        x: numbers(rows * columns, 1).iter().map(|x| x + 3.0).collect(),
        residual: (i % 2 == 0).then(|| numbers(rows * columns, 2)),
        gamma: numbers(columns, 3),
        beta: if beta { numbers(columns, 4) } else { Vec::new() },
        d_y: numbers(rows * columns, 5),
    })
}

impl Case {
    fn beta(&self) -> Option<&[f32]> {
        Some(self.beta.as_slice()).filter(|beta| !beta.is_empty())
    }
}

/// y, then normalized, then the inverse deviations.
fn forward_of(ctx: &Context, c: &Case) -> [Vec<f32>; 3] {
    let n = c.rows * c.columns;
    let [mut y, mut z, mut inverse] = [vec![9.0; n], vec![9.0; n], vec![9.0; c.rows]];
    let residual = c.residual.as_deref();
    ctx.reserve(norm_scratch_len(c.columns));
    let output = NormOutput { exact: Some(&mut y), rounded: None };
    let normalized = RowsMut::F32(&mut z);
    norm(ctx, c.kind, output, normalized, &mut inverse, &c.x, residual, &c.gamma, c.beta(), EPS, c.columns);
    [y, z, inverse]
}

fn in_pairs(ctx: &Context, x: &[f32], columns: usize) -> Vec<f32> {
    let mut pairs = vec![9.0; x.len() / columns * columns.div_ceil(2)];
    round_rows(ctx, &mut pairs, x, columns);
    pairs
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// What is written rounded is what is written exactly, then rounded.
#[test]
fn pairs_are_the_rounded_results() {
    for c in cases() {
        let half = c.rows * c.columns.div_ceil(2);
        let kernel = |ctx: &Context| {
            let [y, z, inverse] = forward_of(ctx, &c);
            let [mut y16, mut z16] = [vec![9.0; half], vec![9.0; half]];
            let mut inverse16 = vec![9.0; c.rows];
            let output = NormOutput { exact: None, rounded: Some(&mut y16) };
            let (normalized, residual) = (RowsMut::Bf16(&mut z16), c.residual.as_deref());
            norm(ctx, c.kind, output, normalized, &mut inverse16, &c.x, residual, &c.gamma, c.beta(), EPS, c.columns);
            assert_eq!(bits(&y16), bits(&in_pairs(ctx, &y, c.columns)));
            assert_eq!(bits(&z16), bits(&in_pairs(ctx, &z, c.columns)));
            assert_eq!(inverse, inverse16);

            let mut z = vec![9.0; z.len()];
            widen_rows(ctx, &mut z, &z16, c.columns);
            let [mut want, mut d_x] = [vec![9.0; z.len()], vec![9.0; z.len()]];
            let mut d_x16 = vec![9.0; half];
            let output = NormOutput { exact: Some(&mut want), rounded: None };
            norm_backward_input(ctx, c.kind, output, &c.d_y, None, Rows::F32(&z), &inverse, &c.gamma, c.columns);
            add(ctx, &mut want, &c.x);
            let output = NormOutput { exact: Some(&mut d_x), rounded: Some(&mut d_x16) };
            let normalized = Rows::Bf16(&z16);
            norm_backward_input(ctx, c.kind, output, &c.d_y, Some(&c.x), normalized, &inverse, &c.gamma, c.columns);
            assert_eq!(bits(&d_x), bits(&want));
            assert_eq!(bits(&d_x16), bits(&in_pairs(ctx, &want, c.columns)));
            d_x
        };
        on_every_isa(kernel, |_, _| {});
    }
}

fn input(c: &Case) -> Vec<f64> {
    let residual = c.residual.clone().unwrap_or(vec![0.0; c.x.len()]);
    c.x.iter().zip(residual).map(|(x, r)| f64::from(x + r)).collect()
}

#[test]
fn forward_equals_the_formula() {
    for c in cases() {
        let (gamma, beta) = (wide(&c.gamma), wide(&c.beta));
        let want: Vec<f64> = input(&c).chunks(c.columns).flat_map(|z| norm_f64(c.kind, z, &gamma, &beta)).collect();
        on_every_isa(|ctx| forward_of(ctx, &c)[0].clone(), |name, y| assert_close(name, y, &want, 5e-6));
    }
}

#[test]
fn backward_equals_central_differences() {
    for c in cases().filter(|c| c.columns > 1 && c.rows < 100) {
        let (gamma, beta, d_y) = (wide(&c.gamma), wide(&c.beta), wide(&c.d_y));
        let loss = |z: &[f64]| -> f64 {
            let y = z.chunks(c.columns).flat_map(|z| norm_f64(c.kind, z, &gamma, &beta));
            y.zip(&d_y).map(|(y, d)| y * d).sum()
        };
        let want = central_differences(&input(&c), loss);
        let kernel = |ctx: &Context| {
            let [_, z, inverse] = forward_of(ctx, &c);
            let mut d_x = vec![9.0; z.len()];
            let output = NormOutput { exact: Some(&mut d_x), rounded: None };
            norm_backward_input(ctx, c.kind, output, &c.d_y, None, Rows::F32(&z), &inverse, &c.gamma, c.columns);
            d_x
        };
        on_every_isa(kernel, |name, d_x| assert_close(name, d_x, &want, 1e-5));
    }
}

#[test]
fn the_gradients_of_gamma_and_beta_equal_central_differences() {
    for c in cases().filter(|c| c.rows > 0) {
        let (z, d_y) = (input(&c), wide(&c.d_y));
        let loss = |weights: &[f64]| -> f64 {
            let (gamma, beta) = weights.split_at(c.columns);
            let y = z.chunks(c.columns).flat_map(|z| norm_f64(c.kind, z, gamma, beta));
            y.zip(&d_y).map(|(y, d)| y * d).sum()
        };
        let want = central_differences(&wide(&[c.gamma.clone(), c.beta.clone()].concat()), loss);
        let kernel = |ctx: &Context| {
            let [_, z, _] = forward_of(ctx, &c);
            let (mut d_gamma, mut d_beta) = (vec![9.0; c.columns], vec![9.0; c.beta.len()]);
            let to_beta = c.beta().map(|_| d_beta.as_mut_slice());
            norm_backward_weight(ctx, &mut d_gamma, to_beta, &c.d_y, &z, c.columns);
            [d_gamma, d_beta].concat()
        };
        on_every_isa(kernel, |name, d| assert_close(name, d, &want, 2e-5));
    }
}

#[test]
fn a_row_alone_equals_the_row_among_others() {
    for isa in crate::Isa::available() {
        let ctx = Context::new(isa, 2);
        let mut c = cases().last().expect("there are cases");
        let last = (c.rows - 1) * c.columns..;
        let all = forward_of(&ctx, &c)[0][last.clone()].to_vec();
        c.rows = 1;
        c.x.drain(..last.start);
        c.residual = c.residual.map(|r| r[last].to_vec());
        assert_eq!(forward_of(&ctx, &c)[0], all);
    }
}
