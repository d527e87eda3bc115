//! Queries and keys turned by their positions.

use std::sync::{Arc, Mutex, PoisonError};

use ptune_kernels::{self as kernels, RotaryTable};

use crate::profile::Operation;
use crate::tensor::{Device, Tensor};

/// The angles of a rotary embedding: plane i of a row at position p is turned by `p frequencies[i]`.
pub struct Rotary {
    frequencies: Vec<f32>,
    /// On what is turned.
    factor: f32,
    /// Cosines and sines of the positions that were needed so far: a model may have many more than a run has.
    table: Mutex<Arc<Table>>,
}

#[derive(Default)]
struct Table {
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

/// The fewest positions of a table.
const FEWEST_POSITIONS: usize = 256;

impl Rotary {
    pub(crate) fn new(frequencies: Vec<f32>, factor: f32) -> Self {
        Rotary { frequencies, factor, table: Mutex::default() }
    }

    /// A table of at least so many positions; it doubles, so that few are made.
    fn table(&self, positions: usize) -> Arc<Table> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.cosines.len() < positions * self.frequencies.len() {
            *table = Arc::new(self.table_of(positions.next_power_of_two().max(FEWEST_POSITIONS)));
        }
        Arc::clone(&table)
    }

    /// The angle is rounded to f32, as in what the model was trained with; the rest is exact.
    fn table_of(&self, positions: usize) -> Table {
        let angles = || (0..positions).flat_map(|p| self.frequencies.iter().map(move |f| f64::from(p as f32 * f)));
        let factor = f64::from(self.factor);
        Table {
            cosines: angles().map(|angle| (angle.cos() * factor) as f32).collect(),
            sines: angles().map(|angle| (angle.sin() * factor) as f32).collect(),
        }
    }
}

impl Device {
    /// Turns `x [positions, heads * head_dim]` where it stands.
    pub(crate) fn rotary(&self, x: &mut Tensor, positions: &[u32], head_dim: usize, rotary: &Rotary) {
        self.turn(kernels::rotary, x, positions, head_dim, rotary);
    }

    /// The gradient of what was turned becomes that of what it was before.
    pub(crate) fn rotary_backward(&self, d: &mut Tensor, positions: &[u32], head_dim: usize, rotary: &Rotary) {
        self.turn(kernels::rotary_backward, d, positions, head_dim, rotary);
    }

    fn turn(
        &self,
        kernel: impl FnOnce(&kernels::Context, kernels::RowsMut<'_>, &[u32], RotaryTable<'_>, usize, usize),
        x: &mut Tensor,
        positions: &[u32],
        head_dim: usize,
        rotary: &Rotary,
    ) {
        let table = rotary.table(positions.iter().max().map_or(0, |last| *last as usize + 1));
        let (half, columns) = (rotary.frequencies.len(), x.columns());
        self.reserve(kernels::rotary_scratch_len(columns));
        let table = RotaryTable { cosines: &table.cosines, sines: &table.sines, half };
        kernel(&self.doing(Operation::Rotary), x.view_mut(), positions, table, head_dim, columns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_table_begins_with_the_smaller_one() {
        let rotary = Rotary::new(vec![1.0, 0.25, 0.01], 1.5);
        let small = rotary.table(3);
        assert_eq!(small.cosines.len(), 3 * FEWEST_POSITIONS);
        assert_eq!((small.cosines[0], small.sines[0], small.sines[3]), (1.5, 0.0, (1f64.sin() * 1.5) as f32));
        let large = rotary.table(3 * FEWEST_POSITIONS);
        assert_eq!(large.sines.len(), 3 * 4 * FEWEST_POSITIONS);
        assert_eq!(small.cosines, large.cosines[..small.cosines.len()]);
        // What is there is used again.
        assert!(Arc::ptr_eq(&large, &rotary.table(3)));
    }
}
