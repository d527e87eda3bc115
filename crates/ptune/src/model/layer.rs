//! The layers that a model is made of, frozen or trained: linear, norm, and the bare tables.
//!
//! A frozen layer has its numbers, packed, and nothing else. A trained one also knows the places of its parameters
//! among the model's: its backward writes their gradients, and after a step of the optimiser it packs them anew. A linear layer of a
//! frozen model may get low-rank additions with each pass (`lora.rs`).

use super::lora::{LayerLora, LoraGradients};
use crate::ops;
use crate::ops::{Hidden, NormSaved};
use crate::parameter::Parameter;
use crate::tensor::{Device, Tensor};

/// The places of a trained layer's weight and bias among the model's parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trained {
    pub(super) weight: usize,
    pub(super) bias: Option<usize>,
}

/// Where a backward writes the gradients of what is trained.
pub(super) struct Learned<'a> {
    /// The model's parameters; empty of a frozen one.
    pub(super) parameters: &'a mut [Parameter],
    /// Those of the additions of this pass.
    pub(super) lora: LoraGradients,
}

/// `y = x W^T + b`, perhaps with low-rank additions.
pub(super) struct Linear {
    pub(super) packed: ops::Linear,
    pub(super) trained: Option<Trained>,
}

impl Linear {
    /// Whether its backward needs the forward's input.
    pub(super) fn needs_input(&self, lora: &LayerLora<'_>) -> bool {
        self.trained.is_some() || !lora.is_empty()
    }

    /// `x [rows, inputs] -> y [rows, outputs]`
    pub(super) fn forward(&self, device: &Device, x: &Tensor, lora: &LayerLora<'_>) -> Tensor {
        let mut y = device.linear(x, &self.packed);
        lora.add(device, &mut y, x);
        y
    }

    /// The same, for another product to read or the attention.
    pub(super) fn forward_narrow(&self, device: &Device, x: &Tensor, lora: &LayerLora<'_>) -> Tensor {
        if lora.is_empty() {
            device.linear_narrow(x, &self.packed)
        } else {
            device.narrowed(self.forward(device, x, lora))
        }
    }

    /// `d_y -> d_x`, and the gradients of what is trained, for which the forward's input was kept.
    pub(super) fn backward(
        &self,
        device: &Device,
        d_y: &Tensor,
        x: Option<&Tensor>,
        lora: &LayerLora<'_>,
        learned: &mut Learned<'_>,
    ) -> Tensor {
        self.backward_weight(device, d_y, x, lora, learned);
        self.backward_input(device, d_y, lora)
    }

    /// The same, for another product to read or the attention.
    pub(super) fn backward_narrow(
        &self,
        device: &Device,
        d_y: &Tensor,
        x: Option<&Tensor>,
        lora: &LayerLora<'_>,
        learned: &mut Learned<'_>,
    ) -> Tensor {
        if !lora.is_empty() {
            return device.narrowed(self.backward(device, d_y, x, lora, learned));
        }
        self.backward_weight(device, d_y, x, lora, learned);
        device.linear_backward_narrow(d_y, &self.packed)
    }

    /// `d_y -> d_x`
    pub(super) fn backward_input(&self, device: &Device, d_y: &Tensor, lora: &LayerLora<'_>) -> Tensor {
        let mut d_x = device.linear_backward(d_y, &self.packed);
        lora.backward_add(device, &mut d_x, d_y);
        d_x
    }

    /// `d_x += `[`Linear::backward_input`]
    pub(super) fn backward_input_add(&self, device: &Device, d_x: &mut Tensor, d_y: &Tensor, lora: &LayerLora<'_>) {
        device.linear_backward_add(d_x, d_y, &self.packed);
        lora.backward_add(device, d_x, d_y);
    }

    /// The gradients of a trained layer, or of low-rank additions, for which the forward's input was kept.
    pub(super) fn backward_weight(
        &self,
        device: &Device,
        d_y: &Tensor,
        x: Option<&Tensor>,
        lora: &LayerLora<'_>,
        learned: &mut Learned<'_>,
    ) {
        let Some(x) = x else { return };
        if let Some(Trained { weight, bias }) = self.trained {
            device.linear_backward_weight(d_y, x, &mut learned.parameters[weight].gradient);
            if let Some(bias) = bias {
                device.column_sums(d_y, &mut learned.parameters[bias].gradient);
            }
        }
        lora.backward_weight(device, d_y, x, &mut learned.lora);
    }

    /// Adds its numbers, if they stay, to `all`.
    pub(super) fn frozen<'a>(&'a self, all: &mut Vec<&'a [f32]>) {
        if self.trained.is_none() {
            all.extend(self.packed.numbers());
        }
    }

    /// Takes over what the optimiser made of its parameters.
    pub(super) fn repack(&mut self, device: &Device, parameters: &[Parameter]) {
        if let Some(Trained { weight, bias }) = self.trained {
            let bias = bias.map(|bias| &parameters[bias].value);
            device.repack_linear(&mut self.packed, &parameters[weight].value, bias);
        }
    }
}

/// Layer norm or RMS norm.
pub(super) struct Norm {
    pub(super) norm: ops::Norm,
    /// gamma and beta among the model's parameters.
    pub(super) trained: Option<Trained>,
}

impl Norm {
    /// The norm of `x + residual`, row by row.
    pub(super) fn forward(&self, device: &Device, x: &Tensor, residual: Option<&Tensor>) -> (Hidden, NormSaved) {
        device.norm(x, residual, &self.norm)
    }

    /// The norm of `x`, for products alone to read.
    pub(super) fn forward_narrow(&self, device: &Device, x: &Tensor) -> (Tensor, NormSaved) {
        device.norm_narrow(x, &self.norm)
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
        self.backward_weight(device, d_y, saved, parameters);
        device.norm_backward(d_y, other, saved, &self.norm)
    }

    /// The gradient of `x` of a norm over each head, and those of a trained norm.
    pub(super) fn backward_heads(
        &self,
        device: &Device,
        d_y: &Tensor,
        saved: &NormSaved,
        parameters: &mut [Parameter],
    ) -> Tensor {
        self.backward_weight(device, d_y, saved, parameters);
        device.norm_of_heads_backward(d_y, saved, &self.norm)
    }

    fn backward_weight(&self, device: &Device, d_y: &Tensor, saved: &NormSaved, parameters: &mut [Parameter]) {
        let Some(Trained { weight, bias }) = self.trained else { return };
        // A bias stands behind its weight.
        let (before, behind) = parameters.split_at_mut(weight + 1);
        let d_bias = bias.map(|bias| &mut behind[bias - weight - 1].gradient);
        device.norm_backward_weight(d_y, saved, &mut before[weight].gradient, d_bias);
    }

    /// As [`Linear::frozen`].
    pub(super) fn frozen<'a>(&'a self, all: &mut Vec<&'a [f32]>) {
        if self.trained.is_none() {
            all.push(self.norm.gamma.read());
            all.extend(self.norm.beta.as_ref().map(Tensor::read));
        }
    }

    /// Takes over what the optimiser made of its parameters.
    pub(super) fn repack(&mut self, device: &Device, parameters: &[Parameter]) {
        let Some(Trained { weight, bias }) = self.trained else { return };
        device.copy_into(&mut self.norm.gamma, &parameters[weight].value);
        if let (Some(beta), Some(bias)) = (&mut self.norm.beta, bias) {
            device.copy_into(beta, &parameters[bias].value);
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

    /// As [`Linear::frozen`].
    pub(super) fn frozen<'a>(&'a self, all: &mut Vec<&'a [f32]>) {
        if let Table::Frozen(tensor) = self {
            all.push(tensor.read());
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
