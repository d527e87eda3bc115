//! A method is three choices: what the prompt is, what of the backbone moves, and what turns logits into answers.
//!
//! | choice | now | file |
//! |---|---|---|
//! | prompt | manual (a template without pseudo tokens), or pseudo tokens with an encoder | [`Prompt`] |
//! | backbone | frozen, or full | [`Model`](crate::model::Model): a trained one is loaded with its weights as parameters |
//! | head | a verbalizer, or the vocabulary | `head.rs` |
//!
//! Methods fill [`Inject`] and know no model family.

mod head;

pub use head::{Head, Loss};

use crate::model::Inject;
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

/// The prompt of one step, and what the encoder's backward needs.
pub struct StepPrompt {
    rows: Option<(Tensor, EncoderSaved)>,
}

impl StepPrompt {
    /// What a model gets.
    pub fn inject(&self) -> Inject<'_> {
        Inject { prompt_embeds: self.rows(), ..Inject::default() }
    }

    /// The prompt `[rows, width]`; `None` for a manual one.
    pub fn rows(&self) -> Option<&Tensor> {
        self.rows.as_ref().map(|(rows, _)| rows)
    }
}

impl Prompt {
    /// Computes the prompt: once a step, whatever the batch.
    pub fn forward(&self, device: &Device) -> StepPrompt {
        match self {
            Prompt::Manual => StepPrompt { rows: None },
            Prompt::Encoder(encoder) => StepPrompt { rows: Some(encoder.forward(device)) },
        }
    }

    /// Writes the gradients of the parameters from that of the prompt.
    pub fn backward(&mut self, device: &Device, d_prompt: Option<&Tensor>, step: StepPrompt) {
        if let (Prompt::Encoder(encoder), Some(d_prompt), Some((_, saved))) = (self, d_prompt, step.rows) {
            encoder.backward(device, d_prompt, saved);
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
