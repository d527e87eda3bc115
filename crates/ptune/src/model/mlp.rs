//! The feed-forward part of a block: `down(activation(up(x)))`, or with a gate `down(activation(gate(x)) up(x))`.

use ptune_kernels::Activation;

use super::layer::{Learned, Linear};
use super::load::Loader;
use super::lora::{BlockLora, Projection};
use super::spec::MlpSpec;
use crate::Result;
use crate::parameter::Parameter;
use crate::tensor::{Device, Tensor};

pub(super) struct Mlp {
    gate: Option<Linear>,
    up: Linear,
    activation: Activation,
    down: Linear,
}

/// What the backward needs.
pub(super) struct MlpSaved {
    /// The gate's output `[rows, inner]`, where there is one.
    gate: Option<Tensor>,
    /// The activation's input `[rows, inner]`, or what the gate lets through.
    up: Tensor,
    /// The input, where a layer is trained.
    x: Option<Tensor>,
}

impl Mlp {
    pub(super) fn load(loader: &mut Loader<'_>, spec: &MlpSpec) -> Result<Self> {
        let gate = spec.gate.as_ref().map(|gate| loader.linear(gate)).transpose()?;
        Ok(Mlp { gate, up: loader.linear(&spec.up)?, activation: spec.activation, down: loader.linear(&spec.down)? })
    }

    /// `x [rows, hidden] -> y [rows, hidden]`, at the rows `at` of the batch. The inner rows, the widest of the model, are in
    /// the device's narrow dtype.
    pub(super) fn forward(&self, device: &Device, x: &Tensor, lora: BlockLora<'_>, at: &[u32]) -> (Tensor, MlpSaved) {
        let gate = self.gate.as_ref().map(|gate| gate.forward_narrow(device, x, &lora.to(Projection::Gate, at)));
        let saved = MlpSaved { gate, up: self.up.forward_narrow(device, x, &lora.to(Projection::Up, at)), x: None };
        (self.down.forward(device, &self.active(device, &saved), &lora.to(Projection::Down, at)), saved)
    }

    /// What `down` reads.
    fn active(&self, device: &Device, saved: &MlpSaved) -> Tensor {
        match &saved.gate {
            Some(gate) => device.gated(gate, &saved.up, self.activation),
            None => device.activation(&saved.up, self.activation),
        }
    }

    /// `d_y -> d_x`. A trained layer's input after the activation is computed again: that costs less than keeping the
    /// widest rows of the model.
    pub(super) fn backward(
        &self,
        device: &Device,
        d_y: &Tensor,
        saved: &MlpSaved,
        lora: BlockLora<'_>,
        at: &[u32],
        learned: &mut Learned<'_>,
    ) -> Tensor {
        let [down, up] = [Projection::Down, Projection::Up].map(|projection| lora.to(projection, at));
        let active = self.down.needs_input(&down).then(|| self.active(device, saved));
        let d_active = self.down.backward_narrow(device, d_y, active.as_ref(), &down, learned);
        let (Some(gate), Some(gate_out)) = (&self.gate, &saved.gate) else {
            let d_up = device.activation_backward(d_active, &saved.up, self.activation);
            return self.up.backward(device, &d_up, saved.x.as_ref(), &up, learned);
        };
        let (d_gate, d_up) = device.gated_backward(d_active, gate_out, &saved.up, self.activation);
        let mut d_x = gate.backward(device, &d_gate, saved.x.as_ref(), &lora.to(Projection::Gate, at), learned);
        self.up.backward_weight(device, &d_up, saved.x.as_ref(), &up, learned);
        self.up.backward_input_add(device, &mut d_x, &d_up, &up);
        d_x
    }

    pub(super) fn repack(&mut self, device: &Device, parameters: &[Parameter]) {
        if let Some(gate) = &mut self.gate {
            gate.repack(device, parameters);
        }
        self.up.repack(device, parameters);
        self.down.repack(device, parameters);
    }

    /// The numbers that stay, into `all`.
    pub(super) fn frozen<'a>(&'a self, all: &mut Vec<&'a [f32]>) {
        let layers = self.gate.iter().chain([&self.up, &self.down]);
        layers.for_each(|layer| layer.frozen(all));
    }

    /// Whether the input must be kept.
    pub(super) fn needs_input(&self, lora: BlockLora<'_>, at: &[u32]) -> bool {
        self.up.needs_input(&lora.to(Projection::Up, at))
            || self.gate.as_ref().is_some_and(|gate| gate.needs_input(&lora.to(Projection::Gate, at)))
    }
}

impl MlpSaved {
    /// Keeps the forward's input.
    pub(super) fn with_input(self, x: Option<Tensor>) -> Self {
        MlpSaved { x, ..self }
    }
}
