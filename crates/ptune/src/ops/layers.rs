//! A model's linear layers, norms and activations: to the input only, see `weights.rs` for what is trained.

use ptune_kernels::{self as kernels, Activation, Dtype};

use crate::profile::{Doing, Operation};
use crate::tensor::{Device, Precision, Tensor};

/// A linear layer `y = x W^T + b`, packed for this device's products.
pub struct Linear {
    pub(super) weight: kernels::Weight,
    pub(super) bias: Option<Tensor>,
}

/// A layer norm `y = (x - mean) / sqrt(variance + eps) * gamma + beta`.
pub struct LayerNorm {
    pub(crate) gamma: Tensor,
    pub(crate) beta: Tensor,
    pub(crate) eps: f32,
}

/// What the backward of a layer norm needs: normalised rows `[rows, columns]` and inverse deviations `[rows]`.
pub struct NormSaved {
    pub(super) normalized: Tensor,
    pub(super) inverse_deviation: Tensor,
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

    /// A copy of `x` in bf16.
    pub(crate) fn rounded(&self, x: &Tensor) -> Tensor {
        let mut y = self.uninitialised_as(Dtype::Bf16, x.rows(), x.columns());
        kernels::round_rows(&self.doing(Operation::Rows), y.memory_mut(), x.data(), x.columns());
        y
    }

    /// The layer norm of `x + residual`, row by row.
    pub(crate) fn layer_norm(&self, x: &Tensor, residual: Option<&Tensor>, norm: &LayerNorm) -> (Tensor, NormSaved) {
        let (rows, columns) = (x.rows(), x.columns());
        let mut y = self.uninitialised(rows, columns);
        let mut normalized = self.uninitialised(rows, columns);
        let mut inverse_deviation = self.uninitialised(rows, 1);
        kernels::layer_norm(
            &self.doing(Operation::Norms),
            y.data_mut(),
            normalized.data_mut(),
            inverse_deviation.data_mut(),
            x.data(),
            residual.map(Tensor::data),
            norm.gamma.data(),
            norm.beta.data(),
            norm.eps,
            columns,
        );
        (y, NormSaved { normalized, inverse_deviation })
    }

    /// The gradient of `x` (and of the residual: they are the same).
    pub(crate) fn layer_norm_backward(&self, d_y: &Tensor, saved: &NormSaved, norm: &LayerNorm) -> Tensor {
        let mut d_x = self.uninitialised(d_y.rows(), d_y.columns());
        kernels::layer_norm_backward_input(
            &self.doing(Operation::Norms),
            d_x.data_mut(),
            d_y.data(),
            saved.normalized.data(),
            saved.inverse_deviation.data(),
            norm.gamma.data(),
            d_y.columns(),
        );
        d_x
    }

    /// Only these rows of what a layer norm saved.
    pub(crate) fn gather_saved(&self, saved: &NormSaved, rows: &[u32]) -> NormSaved {
        NormSaved {
            normalized: self.gather_rows(&saved.normalized, rows),
            inverse_deviation: self.gather_rows(&saved.inverse_deviation, rows),
        }
    }

    /// An activation, element by element.
    pub(crate) fn activation(&self, x: &Tensor, kind: Activation) -> Tensor {
        let mut y = self.uninitialised(x.rows(), x.columns());
        kernels::activation(&self.doing(Operation::Activations), y.data_mut(), x.data(), kind);
        y
    }

    /// `d_x = d_y f'(x)`.
    pub(crate) fn activation_backward(&self, d_y: &Tensor, x: &Tensor, kind: Activation) -> Tensor {
        let mut d_x = self.uninitialised(x.rows(), x.columns());
        kernels::activation_backward(&self.doing(Operation::Activations), d_x.data_mut(), d_y.data(), x.data(), kind);
        d_x
    }
}
