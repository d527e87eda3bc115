//! From prompts to what a model takes, and its gradients back. Several prompts of one step stand below one another.

use crate::model::{Inject, InjectGradients, LoraRows, Model, Past};
use crate::ops::Part;
use crate::prompt::encoder::{EncoderSaved, PromptEncoder};
use crate::tensor::{Device, Tensor};

use super::Prompt;

/// The numbers that a prompt puts into a model: computed by encoders, or an adapter's.
#[derive(Default)]
pub struct Injection {
    /// The vectors of the pseudo tokens, `[rows, embedding width]`.
    rows: Option<Tensor>,
    /// The prefix as f32 rows and as the model's attention reads it.
    prefix: Option<(Tensor, Past)>,
}

impl Injection {
    /// From the vectors of the pseudo tokens and the rows of a prefix (`[rows, ModelSpec::past_width]`).
    pub fn new(model: &Model, rows: Option<Tensor>, prefix: Option<Tensor>) -> Self {
        let with_past = |prefix: Tensor| {
            let past = model.past_of_rows(&prefix);
            (prefix, past)
        };
        Injection { rows, prefix: prefix.map(with_past) }
    }

    /// What a model gets.
    pub fn inject(&self) -> Inject<'_> {
        let past = self.prefix.as_ref().map(|(_, past)| past);
        Inject { prompt_embeds: self.rows(), past, ..Inject::default() }
    }

    /// The vectors of the pseudo tokens; `None` of a template without.
    pub fn rows(&self) -> Option<&Tensor> {
        self.rows.as_ref()
    }

    /// How many rows stand before those of every example: [`Layout::behind`](crate::ops::Layout::behind) these.
    pub fn prefix_rows(&self) -> usize {
        self.prefix().map_or(0, Tensor::rows)
    }

    /// The rows of the prefix; `None` without one.
    pub fn prefix(&self) -> Option<&Tensor> {
        self.prefix.as_ref().map(|(rows, _)| rows)
    }
}

/// The prompts of one step, and what their encoders' backwards need.
pub struct StepPrompts {
    injection: Injection,
    rows: Computed,
    prefix: Computed,
}

/// What the encoders of one kind gave: which rows are whose, of the prompts that have one.
struct Computed {
    parts: Vec<Part>,
    saved: Vec<EncoderSaved>,
}

impl StepPrompts {
    /// Computes the prompts: once a step, whatever the batch.
    pub fn forward<'p>(device: &Device, model: &Model, prompts: impl IntoIterator<Item = &'p Prompt>) -> Self {
        let (rows, prefixes): (Vec<_>, Vec<_>) =
            prompts.into_iter().map(|prompt| (prompt.rows.as_ref(), prompt.prefix.as_ref())).unzip();
        let (rows, of_rows) = Computed::forward(device, rows.into_iter().flatten());
        let (prefix, of_prefix) = Computed::forward(device, prefixes.into_iter().flatten());
        StepPrompts { injection: Injection::new(model, rows, prefix), rows: of_rows, prefix: of_prefix }
    }

    /// What a model gets in training. `kept` is a past that nobody trains; `lora` are the additions of those that have any.
    ///
    /// # Panics
    /// A prefix and a kept past: what stands behind a prefix moves with it.
    pub fn inject<'s>(&'s self, kept: Option<&'s Past>, lora: Vec<LoraRows<'s>>) -> Inject<'s> {
        let inject = self.injection.inject();
        assert!(inject.past.is_none() || kept.is_none(), "what stands behind a trained prefix is not kept");
        Inject { past: inject.past.or(kept), past_gradient: inject.past.is_some(), lora, ..inject }
    }

    /// The numbers alone.
    pub fn into_injection(self) -> Injection {
        self.injection
    }

    /// Writes the gradients of the parameters of the same prompts from those of what was injected.
    pub fn backward<'p>(
        self,
        device: &Device,
        prompts: impl IntoIterator<Item = &'p mut Prompt>,
        gradients: InjectGradients,
    ) {
        let (rows, prefixes): (Vec<_>, Vec<_>) =
            prompts.into_iter().map(|prompt| (prompt.rows.as_mut(), prompt.prefix.as_mut())).unzip();
        if let Some(d_rows) = gradients.prompt_embeds {
            self.rows.backward(device, rows.into_iter().flatten(), d_rows);
        }
        if let Some(d_past) = gradients.past {
            self.prefix.backward(device, prefixes.into_iter().flatten(), d_past.to_rows(device));
        }
    }
}

impl Computed {
    fn forward<'p>(device: &Device, encoders: impl Iterator<Item = &'p PromptEncoder>) -> (Option<Tensor>, Self) {
        let (rows, saved): (Vec<Tensor>, Vec<EncoderSaved>) = encoders.map(|encoder| encoder.forward(device)).unzip();
        let width = rows.first().map_or(0, Tensor::columns);
        let parts = Part::stacked(rows.iter().map(Tensor::rows), width);
        let rows = parts.last().map(|last| device.join(rows, &parts, last.rows.end, width));
        (rows, Computed { parts, saved })
    }

    fn backward<'p>(self, device: &Device, encoders: impl Iterator<Item = &'p mut PromptEncoder>, d_rows: Tensor) {
        let d_prompts = device.split(d_rows, &self.parts);
        for ((encoder, saved), d_prompt) in encoders.zip(self.saved).zip(d_prompts) {
            encoder.backward(device, &d_prompt, saved);
        }
    }
}
