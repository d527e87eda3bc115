//! A model's linear layers and activations: to the input only, see `weights.rs` for what is trained.

use ptune_kernels::{self as kernels, Activation, Dtype, NormOutput};

use crate::profile::{Doing, Operation};
use crate::tensor::{Device, Precision, Tensor};

/// A linear layer `y = x W^T + b`, packed for this device's products.
pub struct Linear {
    pub(super) weight: kernels::Weight,
    pub(super) bias: Option<Tensor>,
}

impl Linear {
    /// Its numbers as they lie in memory.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = &[f32]> {
        self.weight.numbers().chain(self.bias.as_ref().map(Tensor::read))
    }
}

/// Rows between layers, or their gradient: in f32, as residuals add them up, and where the device multiplies bf16
/// perhaps a rounded copy for products to read.
pub(crate) struct Hidden {
    pub(crate) exact: Tensor,
    pub(crate) rounded: Option<Tensor>,
}

impl Hidden {
    /// What a product reads.
    pub(crate) fn factor(&self) -> &Tensor {
        self.rounded.as_ref().unwrap_or(&self.exact)
    }

    /// What a product reads, alone.
    pub(crate) fn into_factor(self) -> Tensor {
        self.rounded.unwrap_or(self.exact)
    }

    pub(super) fn output(&mut self) -> NormOutput<'_> {
        let rounded = self.rounded.as_mut().map(Tensor::memory_mut);
        NormOutput { exact: Some(self.exact.data_mut()), rounded }
    }
}

impl From<Tensor> for Hidden {
    fn from(exact: Tensor) -> Self {
        Hidden { exact, rounded: None }
    }
}

impl Device {
    /// Packs a weight `[outputs, inputs]` in the device's precision; with `gradient`, also for the backward.
    pub(crate) fn pack_linear(
        &self,
        weight: &[f32],
        bias: Option<&[f32]>,
        outputs: usize,
        inputs: usize,
        gradient: bool,
    ) -> Linear {
        let pack = match self.precision {
            Precision::F32 => kernels::Weight::pack,
            Precision::Bf16 => kernels::Weight::pack_bf16,
        };
        let weight = pack(&self.doing(Operation::Packing), weight, outputs, inputs, gradient);
        Linear { weight, bias: bias.map(|b| self.upload(1, outputs, b)) }
    }

    /// Packs only the given rows of a weight `[outputs, inputs]`: the label columns of a head.
    pub(crate) fn pack_linear_rows(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        rows: &[u32],
        gradient: bool,
    ) -> Linear {
        let pack = match self.precision {
            Precision::F32 => kernels::Weight::pack_rows,
            Precision::Bf16 => kernels::Weight::pack_rows_bf16,
        };
        let weight = pack(&self.doing(Operation::Packing), weight.data(), weight.columns(), rows, gradient);
        let bias = bias.map(|b| {
            let chosen: Vec<f32> = rows.iter().map(|&r| b.data()[r as usize]).collect();
            self.upload(1, rows.len(), &chosen)
        });
        Linear { weight, bias }
    }

    /// `y [rows, outputs] = x [rows, inputs] W^T + b`, in f32.
    pub(crate) fn linear(&self, x: &Tensor, layer: &Linear) -> Tensor {
        self.linear_as(Dtype::F32, x, layer)
    }

    /// The same for another product to read, or the attention.
    pub(crate) fn linear_narrow(&self, x: &Tensor, layer: &Linear) -> Tensor {
        self.linear_as(self.narrow(), x, layer)
    }

    fn linear_as(&self, dtype: Dtype, x: &Tensor, layer: &Linear) -> Tensor {
        let rounded = self.as_factor(x, layer);
        let x = rounded.as_ref().unwrap_or(x);
        let mut y = self.uninitialised_as(dtype, x.rows(), layer.weight.outputs());
        let doing = self.product(Operation::Products, x.rows(), layer);
        kernels::matmul(&doing, y.view_mut(), x.view(), &layer.weight, layer.bias.as_ref().map(Tensor::data));
        y
    }

    /// `d_x = d_y W`, in f32.
    pub(crate) fn linear_backward(&self, d_y: &Tensor, layer: &Linear) -> Tensor {
        self.linear_backward_as(Dtype::F32, d_y, layer)
    }

    /// The same for another product to read, or the attention.
    pub(crate) fn linear_backward_narrow(&self, d_y: &Tensor, layer: &Linear) -> Tensor {
        self.linear_backward_as(self.narrow(), d_y, layer)
    }

    fn linear_backward_as(&self, dtype: Dtype, d_y: &Tensor, layer: &Linear) -> Tensor {
        let rounded = self.as_factor(d_y, layer);
        let d_y = rounded.as_ref().unwrap_or(d_y);
        let mut d_x = self.uninitialised_as(dtype, d_y.rows(), layer.weight.inputs());
        let doing = self.product(Operation::ProductsBackward, d_y.rows(), layer);
        kernels::matmul_backward_input(&doing, d_x.view_mut(), d_y.view(), &layer.weight);
        d_x
    }

    /// `d_x += d_y W`, in f32.
    pub(crate) fn linear_backward_add(&self, d_x: &mut Tensor, d_y: &Tensor, layer: &Linear) {
        let rounded = self.as_factor(d_y, layer);
        let d_y = rounded.as_ref().unwrap_or(d_y);
        let doing = self.product(Operation::ProductsBackward, d_y.rows(), layer);
        kernels::matmul_backward_input_add(&doing, d_x.data_mut(), d_y.view(), &layer.weight);
    }

    /// The clock and the count of a product of `rows` rows with a layer's weight.
    fn product(&self, operation: Operation, rows: usize, layer: &Linear) -> Doing<'_> {
        self.doing_sums(operation, rows * layer.weight.inputs() * layer.weight.outputs())
    }

    /// `x` as the layer's weight is kept, where it is not so yet.
    fn as_factor(&self, x: &Tensor, layer: &Linear) -> Option<Tensor> {
        (x.dtype() != layer.weight.dtype()).then(|| self.rounded(x))
    }

    /// `x`, of f32, as another product reads it or the attention.
    pub(crate) fn narrowed(&self, x: Tensor) -> Tensor {
        if self.narrow() == Dtype::Bf16 { self.rounded(&x) } else { x }
    }

    /// A copy of `x` for products alone to read.
    pub(crate) fn narrow_copy(&self, x: &Tensor) -> Tensor {
        if self.narrow() == Dtype::Bf16 { self.rounded(x) } else { self.copy(x) }
    }

    /// A copy of bf16 rows in f32.
    pub(crate) fn widened(&self, x: &Tensor) -> Tensor {
        let mut y = self.uninitialised(x.rows(), x.columns());
        kernels::widen_rows(&self.doing(Operation::Rows), y.data_mut(), x.memory(), x.columns());
        y
    }

    /// A copy of `x` in bf16.
    pub(crate) fn rounded(&self, x: &Tensor) -> Tensor {
        let mut y = self.uninitialised_as(Dtype::Bf16, x.rows(), x.columns());
        kernels::round_rows(&self.doing(Operation::Rows), y.memory_mut(), x.data(), x.columns());
        y
    }

    /// Rows in f32, and a place for their rounded copy.
    pub(super) fn hidden(&self, rows: usize, columns: usize) -> Hidden {
        let rounded = self.narrow() == Dtype::Bf16;
        Hidden {
            exact: self.uninitialised(rows, columns),
            rounded: rounded.then(|| self.uninitialised_as(Dtype::Bf16, rows, columns)),
        }
    }

    /// These rows of `x`.
    pub(crate) fn gather_hidden(&self, x: &Hidden, rows: &[u32]) -> Hidden {
        Hidden {
            exact: self.gather_rows(&x.exact, rows),
            rounded: x.rounded.as_ref().map(|rounded| self.gather_rows(rounded, rows)),
        }
    }

    /// An activation, element by element, in the dtype of `x`.
    pub(crate) fn activation(&self, x: &Tensor, kind: Activation) -> Tensor {
        let mut y = self.uninitialised_as(x.dtype(), x.rows(), x.columns());
        kernels::activation(&self.doing(Operation::Activations), y.view_mut(), x.view(), kind);
        y
    }

    /// `d_y f'(x)`, where `d_y` stood: nothing else needs it.
    pub(crate) fn activation_backward(&self, mut d_y: Tensor, x: &Tensor, kind: Activation) -> Tensor {
        kernels::activation_backward(&self.doing(Operation::Activations), d_y.view_mut(), x.view(), kind);
        d_y
    }

    /// `kind(gate) up`, element by element, in their dtype.
    pub(crate) fn gated(&self, gate: &Tensor, up: &Tensor, kind: Activation) -> Tensor {
        let mut y = self.uninitialised_as(gate.dtype(), gate.rows(), gate.columns());
        kernels::gated(&self.doing(Operation::Activations), y.view_mut(), gate.view(), up.view(), kind);
        y
    }

    /// The gradients of `gate` and of `up`, the latter where `d_y` stood: nothing else needs it.
    pub(crate) fn gated_backward(
        &self,
        mut d_y: Tensor,
        gate: &Tensor,
        up: &Tensor,
        kind: Activation,
    ) -> (Tensor, Tensor) {
        let mut d_gate = self.uninitialised_as(gate.dtype(), gate.rows(), gate.columns());
        let doing = self.doing(Operation::Activations);
        kernels::gated_backward(&doing, d_gate.view_mut(), d_y.view_mut(), gate.view(), up.view(), kind);
        (d_gate, d_y)
    }
}
