//! What a method may put into a model, and the gradients it gets back.
//!
//! Models know this struct and no method; methods fill it and know no model. Each field is one way in:
//! `prompt_embeds` are vectors for the batch's pseudo-token rows, wherever they stand (P-tuning, prompt tuning).
//! They replace the *word embedding* of the row; position and type embedding and the norm follow as for any token
//! (spec: P-tuning section 2, the reference's `embed_input`). `past` are rows that stand before those of the batch and were
//! run already; the layout says which span sees which of them.

use super::Past;
use crate::ops::KeysValues;
use crate::tensor::Tensor;

/// What a method supplies for one pass.
#[derive(Default)]
pub struct Inject<'a> {
    /// `[prompt rows, embedding width]`; the layout says which row of the batch shows which prompt row.
    pub prompt_embeds: Option<&'a Tensor>,
    /// Keys and values that are not rows of the batch; they have no gradient.
    pub past: Option<&'a Past>,
}

impl Inject<'_> {
    /// The past of one layer.
    pub(super) fn past_of(&self, layer: usize) -> Option<&KeysValues> {
        self.past.map(|past| past.block(layer))
    }
}

/// The gradients of what was supplied.
pub struct InjectGradients {
    /// The gradient of `prompt_embeds`, of its shape; `None` when there was none.
    pub prompt_embeds: Option<Tensor>,
}
