//! Against the formula in f64, and the gradient against central differences of that formula.

use super::*;
use crate::rows::{round_rows, widen_rows};
use crate::testing::{assert_close, central_differences, numbers, on_every_isa, wide};

struct Case {
    positions: Vec<u32>,
    heads: usize,
    head_dim: usize,
    half: usize,
    cosines: Vec<f32>,
    sines: Vec<f32>,
    x: Vec<f32>,
    d_y: Vec<f32>,
}

/// Positions of the table of each case.
const POSITIONS: usize = 40;

fn cases() -> impl Iterator<Item = Case> {
    // Whole heads and parts of them, odd halves, one plane, more than one work item.
    let sizes = [
        (0, 1, 4, 2),
        (1, 1, 2, 1),
        (3, 2, 6, 3),
        (5, 3, 10, 1),
        (4, 2, 16, 8),
        (3, 1, 34, 17),
        (2, 5, 20, 5),
        (3, 2, 66, 16),
        (2, 2, 7, 3),
        (300, 4, 32, 16),
    ];
    sizes.into_iter().map(|(rows, heads, head_dim, half)| {
        // Angles that grow from plane to plane, with a factor of 1.5 on all.
        let angle = |i: usize| (i / half) as f64 * 0.7f64.powi((i % half) as i32);
        let table = |f: fn(f64) -> f64| (0..POSITIONS * half).map(|i| (1.5 * f(angle(i))) as f32).collect();
        let columns = heads * head_dim;
        Case {
            positions: (0..rows).map(|row| (row * 7 % POSITIONS) as u32).collect(),
            heads,
            head_dim,
            half,
            cosines: table(f64::cos),
            sines: table(f64::sin),
            x: numbers(rows * columns, 1),
            d_y: numbers(rows * columns, 2),
        }
    })
}

impl Case {
    fn columns(&self) -> usize {
        self.heads * self.head_dim
    }

    fn table(&self) -> RotaryTable<'_> {
        RotaryTable { cosines: &self.cosines, sines: &self.sines, half: self.half }
    }

    /// The naive twin.
    fn turned_f64(&self, x: &[f64]) -> Vec<f64> {
        let mut y = x.to_vec();
        for (row, position) in self.positions.iter().enumerate() {
            for (head, i) in (0..self.heads).flat_map(|head| (0..self.half).map(move |i| (head, i))) {
                let first = row * self.columns() + head * self.head_dim + i;
                let at = *position as usize * self.half + i;
                let (cosine, sine) = (f64::from(self.cosines[at]), f64::from(self.sines[at]));
                let (a, b) = (x[first], x[first + self.half]);
                (y[first], y[first + self.half]) = (a * cosine - b * sine, b * cosine + a * sine);
            }
        }
        y
    }

    /// What becomes of `x`, forward or backward, in either dtype.
    fn run(&self, ctx: &Context, dtype: Dtype, x: &[f32], backward: bool) -> Vec<f32> {
        let (kernel, columns) = (if backward { rotary_backward } else { rotary }, self.columns());
        ctx.reserve(rotary_scratch_len(columns));
        let mut memory = x.to_vec();
        if dtype == Dtype::F32 {
            kernel(ctx, RowsMut::F32(&mut memory), &self.positions, self.table(), self.head_dim, columns);
            return memory;
        }
        let mut pairs = vec![9.0; x.len() / 2];
        round_rows(ctx, &mut pairs, x, columns);
        kernel(ctx, RowsMut::Bf16(&mut pairs), &self.positions, self.table(), self.head_dim, columns);
        widen_rows(ctx, &mut memory, &pairs, columns);
        memory
    }
}

#[test]
fn forward_equals_the_formula() {
    for c in cases() {
        let want = c.turned_f64(&wide(&c.x));
        on_every_isa(|ctx| c.run(ctx, Dtype::F32, &c.x, false), |name, y| assert_close(name, y, &want, 3e-7));
    }
}

#[test]
fn backward_equals_central_differences() {
    for c in cases().filter(|c| c.positions.len() < 10) {
        let loss = |x: &[f64]| -> f64 { c.turned_f64(x).iter().zip(&c.d_y).map(|(y, d)| y * f64::from(*d)).sum() };
        let want = central_differences(&wide(&c.x), loss);
        on_every_isa(|ctx| c.run(ctx, Dtype::F32, &c.d_y, true), |name, d| assert_close(name, d, &want, 1e-6));
    }
}

/// Rows in bf16 are those of the rounded numbers, turned in f32 and rounded once: bit for bit.
#[test]
fn pairs_are_the_rounded_results() {
    for c in cases().filter(|c| c.head_dim.is_multiple_of(2)) {
        for backward in [false, true] {
            let kernel = |ctx: &Context| {
                let rounded = |x: &[f32]| {
                    let (mut pairs, mut y) = (vec![9.0; x.len() / 2], vec![9.0; x.len()]);
                    round_rows(ctx, &mut pairs, x, c.columns());
                    widen_rows(ctx, &mut y, &pairs, c.columns());
                    y
                };
                let want = rounded(&c.run(ctx, Dtype::F32, &rounded(&c.x), backward));
                let got = c.run(ctx, Dtype::Bf16, &c.x, backward);
                assert!(got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()));
                got
            };
            on_every_isa(kernel, |_, _| {});
        }
    }
}

#[test]
fn a_row_alone_equals_the_row_among_others() {
    for isa in crate::Isa::available() {
        let ctx = Context::new(isa, 2);
        let mut c = cases().last().expect("there are cases");
        let last = (c.positions.len() - 1) * c.columns();
        let all = c.run(&ctx, Dtype::F32, &c.x, false)[last..].to_vec();
        c.positions.drain(..c.positions.len() - 1);
        assert_eq!(c.run(&ctx, Dtype::F32, &c.x[last..], false), all);
    }
}
