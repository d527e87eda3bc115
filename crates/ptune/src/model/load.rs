//! Tensors of a checkpoint -> layers: read one at a time into one reused buffer, packed at once. A frozen tensor is never
//! held twice; a trained one is also a parameter.

use std::ops::Range;

use super::Gradients;
use super::layer::{Linear, Norm, Table};
use super::saved::SavedAs;
use super::spec::{LinearSpec, NormSpec, Stored};
use crate::Result;
use crate::checkpoint::Weights;
use crate::ops::LayerNorm;
use crate::parameter::{Group, Parameter};
use crate::tensor::{Device, Tensor};

/// Reads layers by name and tells how far it is.
pub(super) struct Loader<'a> {
    pub(super) device: &'a Device,
    weights: &'a Weights,
    /// Trained tensors that replace those of `weights`.
    tuned: &'a [Weights],
    gradients: Gradients,
    /// The group of what is loaded next.
    pub(super) group: Group,
    /// What is trained, and how a checkpoint has it.
    pub(super) parameters: Vec<Parameter>,
    pub(super) saved_as: Vec<SavedAs>,
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
        tuned: &'a [Weights],
        gradients: Gradients,
        progress: &'a mut dyn FnMut(usize, usize),
    ) -> Self {
        let total = weights.names().count();
        Loader {
            device,
            weights,
            tuned,
            gradients,
            group: Group::Backbone,
            parameters: Vec::new(),
            saved_as: Vec::new(),
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
        let (weight, bias) = (format!("{}.weight", spec.name), format!("{}.bias", spec.name));
        // Layers that share a tensor come one after the other: it is read once.
        if self.fused.as_ref() != Some(&spec.name) {
            self.source(&weight).read_into(&weight, &spec.stored_shape(), &mut self.buffer)?;
            self.source(&bias).read_into(&bias, &[spec.stored.outputs], &mut self.bias)?;
            self.fused = (spec.stored.outputs > spec.outputs).then(|| spec.name.clone());
            self.count(2);
        }
        let Stored { transposed, outputs: stored, first } = spec.stored;
        let mine = first..first + spec.outputs;
        let numbers = if transposed {
            transpose(&mut self.transposed, &self.buffer, stored, mine.clone());
            &self.transposed[..]
        } else {
            &self.buffer[mine.start * spec.inputs..mine.end * spec.inputs]
        };
        let biases = &self.bias[mine];
        let gradient = self.gradients != Gradients::None;
        let packed = self.device.pack_linear(numbers, Some(biases), spec.outputs, spec.inputs, gradient);
        if self.gradients != Gradients::Weights {
            return Ok(Linear { packed, trained: None });
        }
        let numbers = self.device.upload(spec.outputs, spec.inputs, numbers);
        let biases = self.device.upload(1, spec.outputs, biases);
        let as_weight = SavedAs { name: weight, shape: spec.stored_shape().into(), transposed, first };
        let as_bias = SavedAs { name: bias, shape: vec![stored], transposed: false, first };
        let trained = Some([self.parameter(numbers, as_weight, true), self.parameter(biases, as_bias, false)]);
        Ok(Linear { packed, trained })
    }

    /// A layer norm over `width` columns.
    pub(super) fn norm(&mut self, spec: &NormSpec, width: usize) -> Result<Norm> {
        let old = format!("{}.gamma", spec.name);
        let (gamma_name, beta) =
            if self.weights.contains(&old) { (old, "beta") } else { (spec.name.clone() + ".weight", "bias") };
        let beta_name = format!("{}.{beta}", spec.name);
        let gamma = self.matrix(&gamma_name, &[width])?;
        let beta = self.matrix(&beta_name, &[width])?;
        let trained = (self.gradients == Gradients::Weights).then(|| {
            let copies = [self.device.copy(&gamma), self.device.copy(&beta)];
            let [gamma, beta] = copies;
            [(gamma, gamma_name), (beta, beta_name)]
                .map(|(tensor, name)| self.parameter(tensor, SavedAs::whole(name, &[width]), false))
        });
        Ok(Norm { norm: LayerNorm { gamma, beta, eps: spec.eps }, trained })
    }

    /// A table `[rows, columns]`.
    pub(super) fn table(&mut self, name: &str, shape: &[usize; 2]) -> Result<Table> {
        let tensor = self.matrix(name, shape)?;
        Ok(self.as_table(tensor, SavedAs::whole(name.into(), shape), true))
    }

    /// A bias that is read as it stands.
    pub(super) fn bias(&mut self, name: &str, len: usize) -> Result<Table> {
        let tensor = self.matrix(name, &[len])?;
        Ok(self.as_table(tensor, SavedAs::whole(name.into(), &[len]), false))
    }

    fn as_table(&mut self, tensor: Tensor, saved_as: SavedAs, decays: bool) -> Table {
        match self.gradients {
            Gradients::Weights => Table::Trained(self.parameter(tensor, saved_as, decays)),
            _ => Table::Frozen(tensor),
        }
    }

    /// Makes a tensor a parameter of the model; its place.
    fn parameter(&mut self, value: Tensor, saved_as: SavedAs, decays: bool) -> usize {
        let name =
            if saved_as.first > 0 { format!("{}.{}", saved_as.name, saved_as.first) } else { saved_as.name.clone() };
        self.parameters.push(Parameter { decays, ..Parameter::new(self.device, name, self.group, value) });
        self.saved_as.push(saved_as);
        self.parameters.len() - 1
    }

    /// A matrix, or a vector as one row.
    fn matrix(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.fused = None;
        self.source(name).read_into(name, shape, &mut self.buffer)?;
        self.count(1);
        let columns = shape[shape.len() - 1];
        Ok(self.device.upload(self.buffer.len() / columns, columns, &self.buffer))
    }

    /// The file of a tensor: a trained one if there is one.
    fn source(&self, name: &str) -> &'a Weights {
        self.tuned.iter().find(|weights| weights.contains(name)).unwrap_or(self.weights)
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
