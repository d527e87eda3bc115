//! What a method may put into a model, and the gradients it gets back.
//!
//! Models know this struct and no method; methods fill it and know no model. Each field is one way in:
//! `prompt_embeds` are vectors for the batch's pseudo-token rows, wherever they stand (P-tuning, prompt tuning).
//! They replace the *word embedding* of the row; position and type embedding and the norm follow as for any token
//! (spec: P-tuning section 2, the reference's `embed_input`). `past` are keys and values, in every block, of rows that stand
//! before those of the batch: run already, or a trained prefix, which no row ever gave; the layout says which span sees
//! which of them. `lora` are low-rank additions to the model's linear layers, each for the rows of one task or seed.

use super::Past;
use super::lora::{Additions, BlockLora, LoraRows};
use super::past::BlockPast;
use crate::tensor::Tensor;

/// What a method supplies for one pass.
#[derive(Default)]
pub struct Inject<'a> {
    /// `[prompt rows, embedding width]`; the layout says which row of the batch shows which prompt row.
    pub prompt_embeds: Option<&'a Tensor>,
    /// Keys and values that are not rows of the batch.
    pub past: Option<&'a Past>,
    /// Whether the past is trained: then it has a gradient.
    pub past_gradient: bool,
    /// Low-rank additions and the rows of the batch that each belongs to. They have gradients in a model that gives any.
    pub lora: Vec<LoraRows<'a>>,
}

impl<'a> Inject<'a> {
    /// With these additions to all rows.
    pub fn with_lora(self, additions: Option<&'a Additions>) -> Self {
        Inject { lora: additions.into_iter().map(LoraRows::all).collect(), ..self }
    }

    /// The additions to the layers of one block.
    pub(super) fn lora_of(&self, block: usize) -> BlockLora<'_> {
        BlockLora { all: &self.lora, block }
    }

    /// The past of one layer.
    pub(super) fn past_of(&self, layer: usize) -> BlockPast<'_> {
        BlockPast { rows: self.past.map(|past| past.block(layer)), trained: self.past_gradient }
    }
}

/// The gradients of what was supplied.
pub struct InjectGradients {
    /// The gradient of `prompt_embeds`, of its shape; `None` when there was none.
    pub prompt_embeds: Option<Tensor>,
    /// The gradient of `past`, where it was asked for.
    pub past: Option<Past>,
    /// Of each of `lora`, those of its parameters.
    pub lora: Vec<Vec<Tensor>>,
}
