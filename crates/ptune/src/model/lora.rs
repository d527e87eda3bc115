//! LoRA (Hu et al. 2021): trained low-rank additions to named projections of a frozen model.
//!
//! ```text
//! y = x W^T + b + s (x A^T) B^T      A [rank, inputs], B [outputs, rank];  s = alpha / rank, or alpha / sqrt(rank)
//! ```
//! A starts uniform within 1 / sqrt(inputs) (Kaiming with a = sqrt 5) and B at zero, as in PEFT, so that the model is at
//! first what it was. A and B are f32 over weights of any precision. Layers that a checkpoint holds in one tensor have
//! an A and a B each; a layer that several blocks share has one of each. There is no dropout of the input.
//!
//! They are no part of the model: a pass is given them ([`Inject`](super::Inject)), each to the rows that are its own, as
//! prompts are. So one frozen model serves those of many tasks and seeds, together in a pass or one after the other.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

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

/// Low-rank additions to a model: those that a learner trains, or an adapter's. They stand beside the model, and
/// [`Inject`](super::Inject) puts them into a pass.
pub struct Additions {
    lora: Lora,
    device: Device,
    /// A and B of each layer, block by block, in the order of [`Projection::ALL`].
    parameters: Vec<Parameter>,
    /// The same, packed: one for two parameters.
    packed: Vec<ops::LowRank>,
    /// Which of them each projection of each block has.
    places: Vec<[Option<usize>; Projection::ALL.len()]>,
}

impl Additions {
    /// At their beginning: drawn from `rng`, they change no output yet. `model` is one with [`Gradients::Inputs`] where they
    /// are to be trained.
    pub fn new(model: &Model, lora: &Lora, rng: &mut Rng) -> Self {
        let mut draw = |_: &str, [rows, columns]: [usize; 2], starts_at_zero: bool| {
            let bound = if starts_at_zero { 0.0 } else { 1.0 / (columns as f32).sqrt() };
            Ok((0..rows * columns).map(|_| if starts_at_zero { 0.0 } else { rng.symmetric(bound) }).collect())
        };
        Self::of(model, lora, &mut draw).expect("drawing does not fail")
    }

    /// Trained ones.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape, or not finite, by its name.
    pub fn load(model: &Model, lora: &Lora, weights: &Weights) -> Result<Self> {
        Self::of(model, lora, &mut |name, shape, _| {
            let mut numbers = Vec::new();
            weights.read_into(name, &shape, &mut numbers)?;
            Ok(numbers)
        })
    }

    fn of(model: &Model, lora: &Lora, numbers: Numbers<'_>) -> Result<Self> {
        let (device, gradient) = (&model.device, model.gradients != Gradients::None);
        let (mut parameters, mut packed, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for block in &model.spec.blocks {
            let mut of_block = [None; Projection::ALL.len()];
            for (projection, place) in Projection::ALL.into_iter().zip(&mut of_block) {
                let layer = block.projection(projection).filter(|_| lora.targets.contains(&projection));
                let Some(layer) = layer else { continue };
                let shapes = [[lora.rank, layer.inputs], [layer.outputs, lora.rank]];
                let names = Lora::tensor_names(projection, layer);
                for ((name, shape), is_b) in names.into_iter().zip(shapes).zip([false, true]) {
                    let numbers = numbers(&name, shape, is_b)?;
                    let value = device.upload(shape[0], shape[1], &numbers);
                    parameters.push(Parameter::new(device, name, Group::Backbone, value));
                }
                let [.., a, b] = &parameters[..] else { unreachable!("two were pushed") };
                *place = Some(packed.len());
                packed.push(device.pack_low_rank(&a.value, &b.value, lora.scale(), gradient));
            }
            places.push(of_block);
        }
        Ok(Additions { lora: lora.clone(), device: device.clone(), parameters, packed, places })
    }

    /// Their kind.
    pub fn lora(&self) -> &Lora {
        &self.lora
    }

    /// A and B of each layer.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The same, for an optimiser; [`Additions::repack`] must follow.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    /// Takes over what the optimiser made of the parameters.
    pub fn repack(&mut self) {
        for (packed, pair) in self.packed.iter_mut().zip(self.parameters.chunks_exact(2)) {
            self.device.repack_low_rank(packed, &pair[0].value, &pair[1].value);
        }
    }
}

/// The numbers of a tensor, by its name, its shape, and whether it starts at zero.
type Numbers<'a> = &'a mut dyn FnMut(&str, [usize; 2], bool) -> Result<Vec<f32>>;

/// Additions to some rows of a batch.
#[derive(Clone)]
pub struct LoraRows<'a> {
    /// The rows: a range may go on behind the last. Those of several stand behind one another.
    pub rows: Range<usize>,
    /// What is added there.
    pub additions: &'a Additions,
}

impl<'a> LoraRows<'a> {
    /// To all rows of any batch.
    pub fn all(additions: &'a Additions) -> Self {
        LoraRows { rows: 0..usize::MAX, additions }
    }
}

/// The additions to the layers of a block in one pass.
#[derive(Clone, Copy)]
pub(super) struct BlockLora<'a> {
    pub(super) all: &'a [LoraRows<'a>],
    pub(super) block: usize,
}

impl<'a> BlockLora<'a> {
    /// Those to one of its layers, which reads the rows `rows` of the batch.
    pub(super) fn to(&self, projection: Projection, rows: &[u32]) -> LayerLora<'a> {
        let place = Projection::ALL.iter().position(|other| *other == projection).expect("one of them");
        let row = |at: usize| rows.partition_point(|row| (*row as usize) < at);
        let part = |(learner, part): (usize, &'a LoraRows<'a>)| {
            let pair = part.additions.places[self.block][place]?;
            let (matrices, rows) = (&part.additions.packed[pair], row(part.rows.start)..row(part.rows.end));
            Some(LoraPart { rows, learner, pair, matrices })
        };
        LayerLora { parts: self.all.iter().enumerate().filter_map(part).filter(|part| !part.rows.is_empty()).collect() }
    }
}

/// The additions to a linear layer.
#[derive(Default)]
pub(super) struct LayerLora<'a> {
    parts: Vec<LoraPart<'a>>,
}

struct LoraPart<'a> {
    /// Rows of the layer's input.
    rows: Range<usize>,
    learner: usize,
    pair: usize,
    matrices: &'a ops::LowRank,
}

impl LayerLora<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// `y += s (x A^T) B^T`
    pub(super) fn add(&self, device: &Device, y: &mut Tensor, x: &Tensor) {
        for part in &self.parts {
            device.low_rank_add(y, x, &part.rows, part.matrices);
        }
    }

    /// `d_x += s (d_y B) A`
    pub(super) fn backward_add(&self, device: &Device, d_x: &mut Tensor, d_y: &Tensor) {
        for part in &self.parts {
            device.low_rank_backward_add(d_x, d_y, &part.rows, part.matrices);
        }
    }

    /// The gradients of A and B from that of the layer's output and the layer's input.
    pub(super) fn backward_weight(&self, device: &Device, d_y: &Tensor, x: &Tensor, gradients: &mut LoraGradients) {
        for part in &self.parts {
            let d = device.low_rank_backward_weight(d_y, x, &part.rows, part.matrices);
            gradients.add(device, part.learner, part.pair, d);
        }
    }
}

/// The gradients of A and B of a pass's additions, as far as the backward has come.
#[derive(Default)]
pub(super) struct LoraGradients {
    learners: Vec<Vec<Option<[Tensor; 2]>>>,
}

impl LoraGradients {
    pub(super) fn new(all: &[LoraRows<'_>]) -> Self {
        let none = |part: &LoraRows<'_>| part.additions.packed.iter().map(|_| None).collect();
        LoraGradients { learners: all.iter().map(none).collect() }
    }

    /// A layer that several of the model's share has the sum.
    fn add(&mut self, device: &Device, learner: usize, pair: usize, d: [Tensor; 2]) {
        match &mut self.learners[learner][pair] {
            Some(sums) => sums.iter_mut().zip(&d).for_each(|(sum, d)| device.add(sum, d)),
            empty => *empty = Some(d),
        }
    }

    /// Of each of the pass's additions, in the order of their parameters. What no row reached is zero.
    pub(super) fn into_each(self, device: &Device, all: &[LoraRows<'_>]) -> Vec<Vec<Tensor>> {
        let of_pair = |(d, pair): (Option<[Tensor; 2]>, &[Parameter])| {
            let zeros = |of: &Parameter| device.zeros(of.value.rows(), of.value.columns());
            d.unwrap_or_else(|| [zeros(&pair[0]), zeros(&pair[1])])
        };
        let of_learner = |(learner, part): (Vec<_>, &LoraRows<'_>)| {
            learner.into_iter().zip(part.additions.parameters.chunks_exact(2)).flat_map(of_pair).collect()
        };
        self.learners.into_iter().zip(all).map(of_learner).collect()
    }
}
