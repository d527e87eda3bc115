//! What happens to the heads of queries and of keys between projection and attention: a norm over each head, then a turn by
//! the row's position. Either may be missing.

use std::sync::Arc;

use ptune_kernels::Dtype;

use super::layer::Norm;
use super::load::Loader;
use super::spec::{AttentionSpec, RotarySpec};
use crate::Result;
use crate::ops::{NormSaved, Rotary};
use crate::parameter::Parameter;
use crate::tensor::{Device, Tensor};

/// Of the queries, or of the keys.
pub(super) struct Heads {
    norm: Option<Norm>,
    rotary: Option<Arc<Rotary>>,
    head_dim: usize,
}

impl Heads {
    /// Those of the queries and of the keys.
    pub(super) fn load(
        loader: &mut Loader<'_>,
        spec: &AttentionSpec,
        rotary: Option<Arc<Rotary>>,
    ) -> Result<[Heads; 2]> {
        let (head_dim, again) = (spec.head_dim, rotary.clone());
        let [query, key] = match &spec.head_norms {
            Some([query, key]) => [Some(loader.norm(query, head_dim)?), Some(loader.norm(key, head_dim)?)],
            None => [None, None],
        };
        Ok([Heads { norm: query, rotary, head_dim }, Heads { norm: key, rotary: again, head_dim }])
    }

    /// Whether the projection must give f32: a norm reads nothing else.
    pub(super) fn reads_exact(&self) -> bool {
        self.norm.is_some()
    }

    /// `x [positions, heads * head_dim]` -> the same, as the attention takes it.
    pub(super) fn forward(&self, device: &Device, x: Tensor, positions: &[u32]) -> (Tensor, Option<NormSaved>) {
        let (mut y, saved) = match &self.norm {
            Some(norm) => {
                let (y, saved) = norm.forward_narrow(device, &x);
                (y, Some(saved))
            }
            None => (x, None),
        };
        if let Some(rotary) = &self.rotary {
            device.rotary(&mut y, positions, self.head_dim, rotary);
        }
        (y, saved)
    }

    /// `d_y -> d_x`, and the gradients of a trained norm.
    pub(super) fn backward(
        &self,
        device: &Device,
        mut d_y: Tensor,
        positions: &[u32],
        saved: Option<&NormSaved>,
        parameters: &mut [Parameter],
    ) -> Tensor {
        if let Some(rotary) = &self.rotary {
            device.rotary_backward(&mut d_y, positions, self.head_dim, rotary);
        }
        let (Some(norm), Some(saved)) = (&self.norm, saved) else { return d_y };
        let exact = if d_y.dtype() == Dtype::Bf16 { device.widened(&d_y) } else { d_y };
        norm.backward_heads(device, &exact, saved, parameters)
    }

    /// The numbers that stay, into `all`.
    pub(super) fn frozen<'a>(&'a self, all: &mut Vec<&'a [f32]>) {
        self.norm.iter().for_each(|norm| norm.frozen(all));
    }

    pub(super) fn repack(&mut self, device: &Device, parameters: &[Parameter]) {
        if let Some(norm) = &mut self.norm {
            norm.repack(device, parameters);
        }
    }
}

/// The rotary embedding of each attention; equal ones are one.
pub(super) fn rotaries<'a>(specs: impl IntoIterator<Item = &'a AttentionSpec>) -> Vec<Option<Arc<Rotary>>> {
    let mut known: Vec<(&RotarySpec, Arc<Rotary>)> = Vec::new();
    let rotary = |spec: &'a AttentionSpec| {
        let spec = spec.rotary.as_ref()?;
        if let Some((_, rotary)) = known.iter().find(|(known, _)| *known == spec) {
            return Some(Arc::clone(rotary));
        }
        let rotary = Arc::new(Rotary::new(spec.frequencies.clone(), spec.factor));
        known.push((spec, Arc::clone(&rotary)));
        Some(rotary)
    };
    specs.into_iter().map(rotary).collect()
}
