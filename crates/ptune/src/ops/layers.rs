//! A model's linear layers, norms and activations: to the input only, see `weights.rs` for what is trained.

use ptune_kernels::{self as kernels, Activation};

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

    /// A product of `rows` rows with a layer's weight.
    fn product(&self, operation: Operation, rows: usize, layer: &Linear) -> Doing<'_> {
        self.reserve_shared(layer.weight.rounded_rows_len(rows));
        self.doing_sums(operation, rows * layer.weight.inputs() * layer.weight.outputs())
    }

    /// `y [rows, outputs] = x [rows, inputs] W^T + b`.
    pub(crate) fn linear(&self, x: &Tensor, layer: &Linear) -> Tensor {
        let mut y = self.uninitialised(x.rows(), layer.weight.outputs());
        kernels::matmul(
            &self.product(Operation::Products, x.rows(), layer),
            y.data_mut(),
            x.data(),
            &layer.weight,
            layer.bias.as_ref().map(Tensor::data),
        );
        y
    }

    /// `d_x = d_y W`.
    pub(crate) fn linear_backward(&self, d_y: &Tensor, layer: &Linear) -> Tensor {
        let mut d_x = self.uninitialised(d_y.rows(), layer.weight.inputs());
        kernels::matmul_backward_input(
            &self.product(Operation::ProductsBackward, d_y.rows(), layer),
            d_x.data_mut(),
            d_y.data(),
            &layer.weight,
        );
        d_x
    }

    /// `d_x += d_y W`.
    pub(crate) fn linear_backward_add(&self, d_x: &mut Tensor, d_y: &Tensor, layer: &Linear) {
        kernels::matmul_backward_input_add(
            &self.product(Operation::ProductsBackward, d_y.rows(), layer),
            d_x.data_mut(),
            d_y.data(),
            &layer.weight,
        );
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
