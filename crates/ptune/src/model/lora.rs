//! LoRA (Hu et al. 2021): trained low-rank additions to named projections of a frozen model.
//!
//! ```text
//! y = x W^T + b + s (x A^T) B^T      A [rank, inputs], B [outputs, rank];  s = alpha / rank, or alpha / sqrt(rank)
//! ```
//! A starts uniform within 1 / sqrt(inputs) (Kaiming with a = sqrt 5) and B at zero, as in PEFT, so that the model is at
//! first what it was. A and B are f32 over weights of any precision. Layers that a checkpoint holds in one tensor have
//! an A and a B each; a layer that several blocks share has one of each. There is no dropout of the input.
//!
//! A and B are parameters of the model, because their gradients come where those of trained weights do; unlike these they
//! are put into a loaded model, whose own numbers stay.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::layer::Linear;
use super::saved::SavedAs;
use super::spec::{BlockSpec, LinearSpec, ModelSpec};
use super::{Gradients, Model};
use crate::checkpoint::Weights;
use crate::keys::{Checked, check, within};
use crate::parameter::{Group, Parameter};
use crate::rng::Rng;
use crate::tensor::{Device, Tensor};
use crate::{Result, ops};

/// No layer is made of more.
const LARGEST_RANK: usize = 1024;
/// Far beyond what anybody uses.
const LARGEST_ALPHA: f64 = 1e6;

/// The linear layers of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Projection {
    /// Of the attention: its queries.
    Query,
    /// Its keys.
    Key,
    /// Its values.
    Value,
    /// What it gives.
    Output,
    /// Of the MLP: into it.
    Up,
    /// Out of it.
    Down,
    /// Into it, of what the gate of a gated MLP is made of.
    Gate,
}

impl Projection {
    /// All of them, in the order of their parameters.
    pub const ALL: [Projection; 7] = [
        Projection::Query,
        Projection::Key,
        Projection::Value,
        Projection::Output,
        Projection::Up,
        Projection::Down,
        Projection::Gate,
    ];

    /// The name in run files and adapters.
    pub fn name(self) -> &'static str {
        match self {
            Projection::Query => "query",
            Projection::Key => "key",
            Projection::Value => "value",
            Projection::Output => "output",
            Projection::Up => "up",
            Projection::Down => "down",
            Projection::Gate => "gate",
        }
    }
}

impl BlockSpec {
    /// A linear layer, if the block has it.
    pub fn projection(&self, projection: Projection) -> Option<&LinearSpec> {
        match projection {
            Projection::Query => Some(&self.attention.query),
            Projection::Key => Some(&self.attention.key),
            Projection::Value => Some(&self.attention.value),
            Projection::Output => Some(&self.attention.output),
            Projection::Up => Some(&self.mlp.up),
            Projection::Down => Some(&self.mlp.down),
            Projection::Gate => self.mlp.gate.as_ref(),
        }
    }
}

/// Which projections have a low-rank addition, and of what kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rows of A and columns of B.
    pub rank: usize,
    /// What the addition is multiplied by, times the rank or its root.
    pub alpha: f64,
    /// Whether alpha is divided by the root of the rank (rank-stabilised LoRA) instead of the rank.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rslora: bool,
    /// The projections, in every block.
    pub targets: Vec<Projection>,
}

impl Lora {
    /// The factor of the addition.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f64;
        (self.alpha / if self.rslora { rank.sqrt() } else { rank }) as f32
    }

    /// The tensors of A and B of a layer. One that shares its tensor with others has its own name behind that of the tensor:
    /// `h.0.attn.c_attn.query.lora_A.weight`.
    pub fn tensor_names(projection: Projection, layer: &LinearSpec) -> [String; 2] {
        let part = if layer.stored.outputs > layer.outputs { format!(".{}", projection.name()) } else { String::new() };
        ["lora_A", "lora_B"].map(|matrix| format!("{}{part}.{matrix}.weight", layer.name))
    }

    /// Finds values that make no sense, by their key behind `prefix`.
    pub(crate) fn check(&self, prefix: &str) -> Checked {
        within(&format!("{prefix}rank"), self.rank, 1, LARGEST_RANK)?;
        let message = format!("{}: must be above 0 and at most {LARGEST_ALPHA}", self.alpha);
        check(self.alpha > 0.0 && self.alpha <= LARGEST_ALPHA, &format!("{prefix}alpha"), message)?;
        let key = format!("{prefix}targets");
        check(!self.targets.is_empty(), &key, "is empty; name at least one projection, such as \"query\"")?;
        let different: BTreeSet<_> = self.targets.iter().collect();
        check(different.len() == self.targets.len(), &key, "names a projection twice")
    }

    /// Finds a target that the model does not have.
    pub(crate) fn check_targets(&self, spec: &ModelSpec, key: &str) -> Checked {
        for target in &self.targets {
            let has = spec.blocks.iter().all(|block| block.projection(*target).is_some());
            check(has, key, format!("this model ({}) has no '{}' in its blocks", spec.family, target.name()))?;
        }
        Ok(())
    }
}

impl Model {
    /// Adds low-rank additions at their beginning: drawn from `rng`, they change no output yet. The model must be frozen and
    /// have none; [`Gradients::Inputs`] if they are to be trained.
    pub fn add_lora(&mut self, lora: &Lora, rng: &mut Rng) {
        let mut draw = |_: &str, [rows, columns]: [usize; 2], starts_at_zero: bool| {
            let bound = if starts_at_zero { 0.0 } else { 1.0 / (columns as f32).sqrt() };
            Ok((0..rows * columns).map(|_| if starts_at_zero { 0.0 } else { rng.symmetric(bound) }).collect())
        };
        self.attach(lora, &mut draw).expect("drawing does not fail");
    }

    /// Adds trained low-rank additions.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape, or not finite, by its name.
    pub fn load_lora(&mut self, lora: &Lora, weights: &Weights) -> Result<()> {
        self.attach(lora, &mut |name, shape, _| {
            let mut numbers = Vec::new();
            weights.read_into(name, &shape, &mut numbers)?;
            Ok(numbers)
        })
    }

    /// The low-rank additions.
    pub fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    fn attach(&mut self, lora: &Lora, numbers: Numbers<'_>) -> Result<()> {
        assert!(self.parameters.is_empty(), "low-rank additions are to a frozen model without any");
        let Model { spec, device, blocks, parameters, saved_as, gradients, .. } = self;
        let gradient = *gradients != Gradients::None;
        let mut additions = Additions { lora, device, gradient, numbers, parameters, saved_as };
        for (block, spec) in blocks.iter_mut().zip(&spec.blocks) {
            block.add_low_rank(&mut additions, spec)?;
        }
        self.lora = Some(lora.clone());
        Ok(())
    }
}

/// The numbers of a tensor, by its name, its shape, and whether it starts at zero.
type Numbers<'a> = &'a mut dyn FnMut(&str, [usize; 2], bool) -> Result<Vec<f32>>;

/// Gives layers their low-rank additions, and the model the parameters of these.
pub(super) struct Additions<'a> {
    lora: &'a Lora,
    device: &'a Device,
    gradient: bool,
    numbers: Numbers<'a>,
    parameters: &'a mut Vec<Parameter>,
    saved_as: &'a mut Vec<SavedAs>,
}

impl Additions<'_> {
    /// Parameters so far.
    pub(super) fn parameters(&self) -> usize {
        self.parameters.len()
    }

    /// Gives a layer its addition, if it is to have one.
    pub(super) fn add(&mut self, projection: Projection, layer: &mut Linear, spec: &LinearSpec) -> Result<()> {
        if !self.lora.targets.contains(&projection) {
            return Ok(());
        }
        let rank = self.lora.rank;
        let shapes = [[rank, spec.inputs], [spec.outputs, rank]];
        let at = [self.parameters.len(), self.parameters.len() + 1];
        for ((name, shape), is_b) in Lora::tensor_names(projection, spec).into_iter().zip(shapes).zip([false, true]) {
            let numbers = (self.numbers)(&name, shape, is_b)?;
            let value = self.device.upload(shape[0], shape[1], &numbers);
            self.parameters.push(Parameter::new(self.device, name.clone(), Group::Backbone, value));
            self.saved_as.push(SavedAs::whole(name, &shape));
        }
        let [a, b] = at.map(|at| &self.parameters[at].value);
        layer.low_rank =
            Some(LowRank { packed: self.device.pack_low_rank(a, b, self.lora.scale(), self.gradient), at });
        Ok(())
    }
}

/// The low-rank addition of a layer.
pub(super) struct LowRank {
    pub(super) packed: ops::LowRank,
    /// A and B among the model's parameters.
    at: [usize; 2],
}

impl LowRank {
    /// Writes the gradients of A and B from that of the layer's output and the layer's input.
    pub(super) fn backward_weight(&self, device: &Device, d_y: &Tensor, x: &Tensor, parameters: &mut [Parameter]) {
        let [a, b] = self.at;
        let (before, behind) = parameters.split_at_mut(b);
        device.low_rank_backward_weight(d_y, x, &self.packed, &mut before[a].gradient, &mut behind[0].gradient);
    }

    /// Takes over what the optimiser made of A and B.
    pub(super) fn repack(&mut self, device: &Device, parameters: &[Parameter]) {
        let [a, b] = self.at.map(|at| &parameters[at].value);
        device.repack_low_rank(&mut self.packed, a, b);
    }
}
