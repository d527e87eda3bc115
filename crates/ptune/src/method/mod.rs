//! A method is three choices: what the prompt is, what of the backbone moves, and what turns logits into answers.
//!
//! | choice | now | file |
//! |---|---|---|
//! | prompt | manual (a template without pseudo tokens), pseudo tokens with an encoder, a prefix, or both | [`Prompt`], `injection.rs` |
//! | backbone | frozen, full, or LoRA | [`Model`]: a trained one is loaded with its weights as parameters; low-rank [`Additions`] stand beside a frozen one |
//! | head | a verbalizer, the vocabulary, any text, or a classifier | `head.rs`, `classifier.rs` |
//!
//! Methods fill [`Inject`](crate::model::Inject) and know no model family.

mod classifier;
mod head;
mod injection;

pub use classifier::{Classifier, ClassifierSaved};
pub use head::{Head, Loss};
pub use injection::{Injection, StepPrompts};

use crate::model::{Additions, Model};
use crate::parameter::Parameter;
use crate::prompt::encoder::PromptEncoder;
use crate::tensor::Device;

/// Where what is injected comes from: trainable encoders that compute it at every step. Without either it is a manual
/// prompt: nothing is injected and nothing trained.
#[derive(Default)]
pub struct Prompt {
    /// Computes the vectors of the template's pseudo tokens (P-tuning, prompt tuning).
    pub rows: Option<PromptEncoder>,
    /// Computes keys and values for every block (prefix tuning, P-tuning v2).
    pub prefix: Option<PromptEncoder>,
}

impl From<PromptEncoder> for Prompt {
    /// Pseudo tokens alone.
    fn from(rows: PromptEncoder) -> Self {
        Prompt { rows: Some(rows), prefix: None }
    }
}

impl Prompt {
    /// Nothing.
    pub fn manual() -> Self {
        Prompt::default()
    }

    /// What this prompt alone puts into a model.
    pub fn forward(&self, device: &Device, model: &Model) -> Injection {
        StepPrompts::forward(device, model, [self]).into_injection()
    }

    /// Prompt rows of the template: 0 of a manual one.
    pub fn rows(&self) -> usize {
        self.rows.as_ref().map_or(0, PromptEncoder::rows)
    }

    /// Rows of the prefix: 0 without one.
    pub fn prefix_rows(&self) -> usize {
        self.prefix.as_ref().map_or(0, PromptEncoder::rows)
    }

    /// The trainable parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        [&self.rows, &self.prefix].into_iter().flatten().flat_map(PromptEncoder::parameters)
    }

    /// The trainable parameters, for an optimiser.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        [&mut self.rows, &mut self.prefix].into_iter().flatten().flat_map(PromptEncoder::parameters_mut)
    }

    /// Whether anything is trained.
    pub fn is_trained(&self) -> bool {
        self.parameters().next().is_some()
    }

    /// How many numbers are trained.
    pub fn trainable(&self) -> usize {
        self.parameters().map(Parameter::count).sum()
    }
}

/// What one learner trains beside the model.
pub struct Trained {
    /// The prompt.
    pub prompt: Prompt,
    /// The classifier, where the head is one.
    pub classifier: Option<Classifier>,
    /// Low-rank additions to the model (LoRA).
    pub additions: Option<Additions>,
}

impl From<Prompt> for Trained {
    /// The prompt alone.
    fn from(prompt: Prompt) -> Self {
        Trained { prompt, classifier: None, additions: None }
    }
}

impl Trained {
    /// The trainable parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        let classifier = self.classifier.iter().flat_map(Classifier::parameters);
        self.prompt.parameters().chain(classifier).chain(self.additions.iter().flat_map(Additions::parameters))
    }

    /// The trainable parameters, for an optimiser.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let classifier = self.classifier.iter_mut().flat_map(Classifier::parameters_mut);
        let additions = self.additions.iter_mut().flat_map(Additions::parameters_mut);
        self.prompt.parameters_mut().chain(classifier).chain(additions)
    }

    /// Whether anything is trained.
    pub fn is_any(&self) -> bool {
        self.parameters().next().is_some()
    }
}
