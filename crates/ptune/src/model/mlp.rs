//! The feed-forward part of a block: `down(activation(up(x)))`.

use ptune_kernels::Activation;

use super::load::Loader;
use super::spec::MlpSpec;
use crate::Result;
use crate::ops::Linear;
use crate::tensor::{Device, Tensor};

pub(super) struct Mlp {
    up: Linear,
    activation: Activation,
    down: Linear,
}

impl Mlp {
    pub(super) fn load(loader: &mut Loader<'_>, spec: &MlpSpec) -> Result<Self> {
        Ok(Mlp { up: loader.linear(&spec.up)?, activation: spec.activation, down: loader.linear(&spec.down)? })
    }

    /// `x [rows, hidden] -> y [rows, hidden]` and, for the backward, the activation's input `[rows, inner]`.
    pub(super) fn forward(&self, device: &Device, x: &Tensor) -> (Tensor, Tensor) {
        let up = device.linear(x, &self.up);
        let y = device.linear(&device.activation(&up, self.activation), &self.down);
        (y, up)
    }

    /// `d_y -> d_x`.
    pub(super) fn backward(&self, device: &Device, d_y: &Tensor, up: &Tensor) -> Tensor {
        let d_inner = device.linear_backward(d_y, &self.down);
        device.linear_backward(&device.activation_backward(&d_inner, up, self.activation), &self.up)
    }
}
