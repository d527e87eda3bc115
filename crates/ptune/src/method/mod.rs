//! A method is three choices: what the prompt is, what of the backbone moves, and what turns logits into answers.
//!
//! | choice | now | file |
//! |---|---|---|
//! | prompt | manual (a template without pseudo tokens), or pseudo tokens with an encoder | [`Prompt`] |
//! | backbone | frozen, full, or LoRA | [`Model`](crate::model::Model): a trained one is loaded with its weights as parameters, another may be given low-rank additions |
//! | head | a verbalizer, or the vocabulary | `head.rs` |
//!
//! Methods fill [`Inject`] and know no model family.

mod head;

pub use head::{Head, Loss};

use crate::model::Inject;
use crate::ops::Part;
use crate::parameter::Parameter;
use crate::prompt::encoder::{EncoderSaved, PromptEncoder};
use crate::tensor::{Device, Tensor};

/// Where the vectors of the pseudo tokens come from.
pub enum Prompt {
    /// The template has no pseudo tokens: nothing is injected and nothing trained.
    Manual,
    /// A trainable encoder computes them at every step.
    Encoder(PromptEncoder),
}

/// The prompts of one step, one below the other, and what their encoders' backwards need.
pub struct StepPrompts {
    rows: Option<Tensor>,
    /// Which rows are whose, of the prompts that have an encoder.
    parts: Vec<Part>,
    saved: Vec<EncoderSaved>,
}

impl StepPrompts {
    /// Computes the prompts: once a step, whatever the batch.
    pub fn forward<'p>(device: &Device, prompts: impl IntoIterator<Item = &'p Prompt>) -> Self {
        let encoders = prompts.into_iter().filter_map(|prompt| match prompt {
            Prompt::Manual => None,
            Prompt::Encoder(encoder) => Some(encoder.forward(device)),
        });
        let (rows, saved): (Vec<Tensor>, Vec<EncoderSaved>) = encoders.unzip();
        let width = rows.first().map_or(0, Tensor::columns);
        let parts = Part::stacked(rows.iter().map(Tensor::rows), width);
        let rows = parts.last().map(|last| device.join(rows, &parts, last.rows.end, width));
        StepPrompts { rows, parts, saved }
    }

    /// What a model gets.
    pub fn inject(&self) -> Inject<'_> {
        Inject { prompt_embeds: self.rows(), ..Inject::default() }
    }

    /// The rows `[rows of all prompts, width]`; `None` where all are manual.
    pub fn rows(&self) -> Option<&Tensor> {
        self.rows.as_ref()
    }

    /// Writes the gradients of the parameters of the same prompts from that of the rows.
    pub fn backward<'p>(
        self,
        device: &Device,
        prompts: impl IntoIterator<Item = &'p mut Prompt>,
        d_rows: Option<Tensor>,
    ) {
        let Some(d_rows) = d_rows else { return };
        let encoders = prompts.into_iter().filter_map(|prompt| match prompt {
            Prompt::Manual => None,
            Prompt::Encoder(encoder) => Some(encoder),
        });
        let d_prompts = device.split(d_rows, &self.parts);
        for ((encoder, saved), d_prompt) in encoders.zip(self.saved).zip(d_prompts) {
            encoder.backward(device, &d_prompt, saved);
        }
    }
}

impl Prompt {
    /// The vectors of this prompt alone.
    pub fn forward(&self, device: &Device) -> StepPrompts {
        StepPrompts::forward(device, [self])
    }

    /// Prompt rows: 0 of a manual one.
    pub fn rows(&self) -> usize {
        match self {
            Prompt::Manual => 0,
            Prompt::Encoder(encoder) => encoder.rows(),
        }
    }

    /// The trainable parameters.
    pub fn parameters(&self) -> &[Parameter] {
        match self {
            Prompt::Manual => &[],
            Prompt::Encoder(encoder) => encoder.parameters(),
        }
    }

    /// The trainable parameters, for an optimiser.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        match self {
            Prompt::Manual => &mut [],
            Prompt::Encoder(encoder) => encoder.parameters_mut(),
        }
    }

    /// How many numbers are trained.
    pub fn trainable(&self) -> usize {
        self.parameters().iter().map(Parameter::count).sum()
    }
}
