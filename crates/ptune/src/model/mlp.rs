//! The feed-forward part of a block: `down(activation(up(x)))`.

use ptune_kernels::Activation;

use super::layer::Linear;
use super::load::Loader;
use super::lora::{Additions, Projection};
use super::spec::MlpSpec;
use crate::Result;
use crate::parameter::Parameter;
use crate::tensor::{Device, Tensor};

pub(super) struct Mlp {
    up: Linear,
    activation: Activation,
    down: Linear,
}

/// What the backward needs.
pub(super) struct MlpSaved {
    /// The activation's input `[rows, inner]`.
    up: Tensor,
    /// The input, where a layer is trained.
    x: Option<Tensor>,
}

impl Mlp {
    pub(super) fn load(loader: &mut Loader<'_>, spec: &MlpSpec) -> Result<Self> {
        Ok(Mlp { up: loader.linear(&spec.up)?, activation: spec.activation, down: loader.linear(&spec.down)? })
    }

    /// `x [rows, hidden] -> y [rows, hidden]`. The inner rows, the widest of the model, are in the device's narrow dtype.
    pub(super) fn forward(&self, device: &Device, x: &Tensor) -> (Tensor, MlpSaved) {
        let up = self.up.forward_narrow(device, x);
        let y = self.down.forward(device, &device.activation(&up, self.activation));
        (y, MlpSaved { up, x: None })
    }

    /// `d_y -> d_x`. A trained layer's input after the activation is computed again: that costs less than keeping the
    /// widest rows of the model.
    pub(super) fn backward(
        &self,
        device: &Device,
        d_y: &Tensor,
        saved: &MlpSaved,
        parameters: &mut [Parameter],
    ) -> Tensor {
        let active = self.down.needs_input().then(|| device.activation(&saved.up, self.activation));
        let d_active = self.down.backward_narrow(device, d_y, active.as_ref(), parameters);
        let d_up = device.activation_backward(d_active, &saved.up, self.activation);
        self.up.backward(device, &d_up, saved.x.as_ref(), parameters)
    }

    pub(super) fn repack(&mut self, device: &Device, parameters: &[Parameter]) {
        self.up.repack(device, parameters);
        self.down.repack(device, parameters);
    }

    /// Whether the input must be kept.
    pub(super) fn needs_input(&self) -> bool {
        self.up.needs_input()
    }

    /// Gives the layers their low-rank additions.
    pub(super) fn add_low_rank(&mut self, additions: &mut Additions<'_>, spec: &MlpSpec) -> Result<()> {
        additions.add(Projection::Up, &mut self.up, &spec.up)?;
        additions.add(Projection::Down, &mut self.down, &spec.down)
    }
}

impl MlpSaved {
    /// Keeps the forward's input.
    pub(super) fn with_input(self, x: Option<Tensor>) -> Self {
        MlpSaved { x, ..self }
    }
}
