//! Tensors of a checkpoint -> layers: read one at a time into one reused buffer, packed at once, never held twice.

use super::spec::{LinearSpec, NormSpec};
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
        Loader { device, weights, gradient, buffer: Vec::new(), bias: Vec::new(), loaded: 0, total, progress }
    }

    /// A linear layer with a bias.
    pub(super) fn linear(&mut self, spec: &LinearSpec) -> Result<Linear> {
        self.weights.read_into(&format!("{}.weight", spec.name), &[spec.outputs, spec.inputs], &mut self.buffer)?;
        self.weights.read_into(&format!("{}.bias", spec.name), &[spec.outputs], &mut self.bias)?;
        self.count(2);
        Ok(self.device.pack_linear(&self.buffer, Some(&self.bias), spec.outputs, spec.inputs, self.gradient))
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
