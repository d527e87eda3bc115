//! Tensors of a checkpoint -> layers: read one at a time into one reused buffer, packed at once, never held twice.

use std::ops::Range;

use super::spec::{LinearSpec, NormSpec, Stored};
use crate::Result;
use crate::checkpoint::Weights;
use crate::ops::{LayerNorm, Linear};
use crate::tensor::{Device, Tensor};

/// Reads layers by name and tells how far it is.
pub(super) struct Loader<'a> {
    pub(super) device: &'a Device,
    weights: &'a Weights,
    /// Whether a gradient will flow through the layers.
    gradient: bool,
    buffer: Vec<f32>,
    bias: Vec<f32>,
    transposed: Vec<f32>,
    /// The name of the shared tensors that `buffer` and `bias` hold.
    fused: Option<String>,
    loaded: usize,
    total: usize,
    progress: &'a mut dyn FnMut(usize, usize),
}

impl<'a> Loader<'a> {
    /// `progress(loaded, total)` is called after each of the `total` tensors that the checkpoint holds.
    pub(super) fn new(
        device: &'a Device,
        weights: &'a Weights,
        gradient: bool,
        progress: &'a mut dyn FnMut(usize, usize),
    ) -> Self {
        let total = weights.names().count();
        Loader {
            device,
            weights,
            gradient,
            buffer: Vec::new(),
            bias: Vec::new(),
            transposed: Vec::new(),
            fused: None,
            loaded: 0,
            total,
            progress,
        }
    }

    /// A linear layer with a bias.
    pub(super) fn linear(&mut self, spec: &LinearSpec) -> Result<Linear> {
        let weight = format!("{}.weight", spec.name);
        // Layers that share a tensor come one after the other: it is read once.
        if self.fused.as_ref() != Some(&spec.name) {
            self.weights.read_into(&weight, &spec.stored_shape(), &mut self.buffer)?;
            self.weights.read_into(&format!("{}.bias", spec.name), &[spec.stored.outputs], &mut self.bias)?;
            self.fused = (spec.stored.outputs > spec.outputs).then(|| spec.name.clone());
            self.count(2);
        }
        let Stored { transposed, outputs: stored, first } = spec.stored;
        let mine = first..first + spec.outputs;
        let rows = mine.start * spec.inputs..mine.end * spec.inputs;
        let weight = if transposed {
            transpose(&mut self.transposed, &self.buffer, stored, mine.clone());
            &self.transposed[..]
        } else {
            &self.buffer[rows]
        };
        Ok(self.device.pack_linear(weight, Some(&self.bias[mine]), spec.outputs, spec.inputs, self.gradient))
    }

    /// A layer norm over `width` columns.
    pub(super) fn norm(&mut self, spec: &NormSpec, width: usize) -> Result<LayerNorm> {
        let old = format!("{}.gamma", spec.name);
        let (gamma, beta) =
            if self.weights.contains(&old) { (old, "beta") } else { (spec.name.clone() + ".weight", "bias") };
        let gamma = self.matrix(&gamma, &[width])?;
        let beta = self.matrix(&format!("{}.{beta}", spec.name), &[width])?;
        Ok(LayerNorm { gamma, beta, eps: spec.eps })
    }

    /// A table `[rows, columns]`, or a vector as one row.
    pub(super) fn matrix(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.fused = None;
        self.weights.read_into(name, shape, &mut self.buffer)?;
        self.count(1);
        let columns = shape[shape.len() - 1];
        Ok(self.device.upload(self.buffer.len() / columns, columns, &self.buffer))
    }

    fn count(&mut self, tensors: usize) {
        self.loaded += tensors;
        (self.progress)(self.loaded.min(self.total), self.total);
    }
}

/// The columns `mine` of a matrix with `columns` columns, as rows.
fn transpose(out: &mut Vec<f32>, matrix: &[f32], columns: usize, mine: Range<usize>) {
    /// Rows taken together, so that a cache line is read for all its columns at once.
    const BLOCK: usize = 16;
    let rows = matrix.len() / columns;
    out.clear();
    out.resize(mine.len() * rows, 0.0);
    for start in (0..rows).step_by(BLOCK) {
        let block = start..rows.min(start + BLOCK);
        for (to, column) in mine.clone().enumerate() {
            for row in block.clone() {
                out[to * rows + row] = matrix[row * columns + column];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_columns_become_rows_for_awkward_sizes() {
        for (rows, columns, mine) in [(1, 1, 0..1), (3, 6, 2..4), (17, 5, 0..5), (33, 9, 6..9)] {
            let matrix: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let mut out = vec![-1.0; 3];
            transpose(&mut out, &matrix, columns, mine.clone());
            let expected: Vec<f32> =
                mine.flat_map(|column| (0..rows).map(move |row| (row * columns + column) as f32)).collect();
            assert_eq!(out, expected, "{rows} x {columns}");
        }
    }
}
