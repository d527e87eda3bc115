//! Rows to columns, four by four.

use crate::isa::isa_shells;
use crate::simd::Simd;

isa_shells! {
    /// `y[d, i] = x[i, d]` for `rows` rows of `columns` numbers; rows of `x` and `y` have `x_row` and `y_row` numbers.
    pub(crate) fn transposed(
        isa, y: &mut [f32], y_row: usize, x: &[f32], x_row: usize, rows: usize, columns: usize,
    ) = generic;
}

#[inline(always)]
fn generic<S: Simd>(s: S, y: &mut [f32], y_row: usize, x: &[f32], x_row: usize, rows: usize, columns: usize) {
    let whole = (rows - rows % 4, columns - columns % 4);
    for i in (0..whole.0).step_by(4) {
        let [a, b, c, d] = [0, 1, 2, 3].map(|r| x[(i + r) * x_row..][..columns].as_chunks::<4>().0);
        for (column, (((a, b), c), d)) in a.iter().zip(b).zip(c).zip(d).enumerate() {
            for (r, row) in s.transpose_4x4([*a, *b, *c, *d]).iter().enumerate() {
                y[(4 * column + r) * y_row + i..][..4].copy_from_slice(row);
            }
        }
    }
    for i in 0..rows {
        let first = if i < whole.0 { whole.1 } else { 0 };
        for d in first..columns {
            y[d * y_row + i] = x[i * x_row + d];
        }
    }
}
