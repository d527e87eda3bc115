//! The layers that a model is made of, frozen or trained: linear, norm, and the bare tables.
//!
//! A frozen layer has its numbers, packed, and nothing else. A trained one also knows the places of its parameters
//! among the model's: its backward writes their gradients, and after a step of the optimiser it packs them anew.

use crate::ops;
use crate::ops::{Hidden, NormSaved};
use crate::parameter::Parameter;
use crate::tensor::{Device, Tensor};

/// `y = x W^T + b`.
pub(super) struct Linear {
    pub(super) packed: ops::Linear,
    /// Weight and bias among the model's parameters.
    pub(super) trained: Option<[usize; 2]>,
}

impl Linear {
    /// `x [rows, inputs] -> y [rows, outputs]`
    pub(super) fn forward(&self, device: &Device, x: &Tensor) -> Tensor {
        device.linear(x, &self.packed)
    }

    /// The same, for another product to read or the attention.
    pub(super) fn forward_narrow(&self, device: &Device, x: &Tensor) -> Tensor {
        device.linear_narrow(x, &self.packed)
    }

    /// `d_y -> d_x`, and the gradients of a trained layer, for which the forward's input was kept.
    pub(super) fn backward(
        &self,
        device: &Device,
        d_y: &Tensor,
        x: Option<&Tensor>,
        parameters: &mut [Parameter],
    ) -> Tensor {
        self.backward_weight(device, d_y, x, parameters);
        device.linear_backward(d_y, &self.packed)
    }

    /// The same, for another product to read or the attention.
    pub(super) fn backward_narrow(
        &self,
        device: &Device,
        d_y: &Tensor,
        x: Option<&Tensor>,
        parameters: &mut [Parameter],
    ) -> Tensor {
        self.backward_weight(device, d_y, x, parameters);
        device.linear_backward_narrow(d_y, &self.packed)
    }

    /// `d_x += d_y W`, else as [`Linear::backward`].
    pub(super) fn backward_add(
        &self,
        device: &Device,
        d_x: &mut Tensor,
        d_y: &Tensor,
        x: Option<&Tensor>,
        parameters: &mut [Parameter],
    ) {
        self.backward_weight(device, d_y, x, parameters);
        device.linear_backward_add(d_x, d_y, &self.packed);
    }

    fn backward_weight(&self, device: &Device, d_y: &Tensor, x: Option<&Tensor>, parameters: &mut [Parameter]) {
        let (Some([weight, bias]), Some(x)) = (self.trained, x) else { return };
        device.linear_backward_weight(d_y, x, &mut parameters[weight].gradient);
        device.column_sums(d_y, &mut parameters[bias].gradient);
    }

    /// Takes over what the optimiser made of its parameters.
    pub(super) fn repack(&mut self, device: &Device, parameters: &[Parameter]) {
        if let Some([weight, bias]) = self.trained {
            device.repack_linear(&mut self.packed, &parameters[weight].value, Some(&parameters[bias].value));
        }
    }
}

/// A layer norm.
pub(super) struct Norm {
    pub(super) norm: ops::LayerNorm,
    /// gamma and beta among the model's parameters.
    pub(super) trained: Option<[usize; 2]>,
}

impl Norm {
    /// The norm of `x + residual`, row by row.
    pub(super) fn forward(&self, device: &Device, x: &Tensor, residual: Option<&Tensor>) -> (Hidden, NormSaved) {
        device.layer_norm(x, residual, &self.norm)
    }

    /// The norm of `x`, for products alone to read.
    pub(super) fn forward_narrow(&self, device: &Device, x: &Tensor) -> (Tensor, NormSaved) {
        device.layer_norm_narrow(x, &self.norm)
    }

    /// The gradient of `x` (and of the residual: they are the same) plus `other`, which reaches it on another way; and
    /// those of a trained norm.
    pub(super) fn backward(
        &self,
        device: &Device,
        d_y: &Tensor,
        other: Option<&Tensor>,
        saved: &NormSaved,
        parameters: &mut [Parameter],
    ) -> Hidden {
        if let Some([gamma, beta]) = self.trained {
            let (before, behind) = parameters.split_at_mut(beta);
            device.layer_norm_backward_weight(d_y, saved, &mut before[gamma].gradient, &mut behind[0].gradient);
        }
        device.layer_norm_backward(d_y, other, saved, &self.norm)
    }

    /// Takes over what the optimiser made of its parameters.
    pub(super) fn repack(&mut self, device: &Device, parameters: &[Parameter]) {
        if let Some([gamma, beta]) = self.trained {
            device.copy_into(&mut self.norm.gamma, &parameters[gamma].value);
            device.copy_into(&mut self.norm.beta, &parameters[beta].value);
        }
    }
}

/// A table that is read as it stands: there is no second copy of a trained one.
pub(super) enum Table {
    Frozen(Tensor),
    /// Its place among the model's parameters.
    Trained(usize),
}

impl Table {
    pub(super) fn value<'a>(&'a self, parameters: &'a [Parameter]) -> &'a Tensor {
        match self {
            Table::Frozen(tensor) => tensor,
            Table::Trained(at) => &parameters[*at].value,
        }
    }

    /// The gradient to write, of a trained one.
    pub(super) fn gradient<'a>(&self, parameters: &'a mut [Parameter]) -> Option<&'a mut Tensor> {
        match self {
            Table::Frozen(_) => None,
            Table::Trained(at) => Some(&mut parameters[*at].gradient),
        }
    }
}
