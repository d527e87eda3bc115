//! A trainable parameter: its value, its gradient, and the group whose learning rate it follows.

use crate::tensor::{Device, Tensor};

/// The parameter groups of a run; each has its own learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The prompt encoder.
    Prompt,
    /// The language model's weights.
    Backbone,
    /// What only the language-model head has: not a decoder that is the word table.
    Head,
}

/// A trainable matrix `[rows, columns]` (a vector has one row) with a gradient of the same shape.
pub struct Parameter {
    /// Its name: that of the same parameter in PyTorch (`lstm_head.weight_ih_l0`). A part of a fused tensor has the first
    /// of its outputs behind it (`c_attn.weight.768`).
    pub name: String,
    /// Its group.
    pub group: Group,
    /// Whether weight decay shrinks it. In the model, biases and the weights of norms are left alone; in the prompt
    /// encoder, as in the reference, nothing is (spec: P-tuning section 3).
    pub decays: bool,
    /// The value.
    pub value: Tensor,
    /// The gradient of the last backward, overwritten by each.
    pub gradient: Tensor,
}

impl Parameter {
    /// A parameter with its initial value and a gradient of zeros.
    pub fn new(device: &Device, name: impl Into<String>, group: Group, value: Tensor) -> Self {
        let gradient = device.zeros(value.rows(), value.columns());
        Parameter { name: name.into(), group, decays: true, value, gradient }
    }

    /// How many numbers are trained.
    pub fn count(&self) -> usize {
        self.value.rows() * self.value.columns()
    }
}
