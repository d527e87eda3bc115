//! What a demo came to: every number of it. The serde names are the keys of `ptune demo --json` (docs/demo.md).

use serde::Serialize;

use super::base::Base;
use super::plan::Plan;
use crate::inspect::PseudoFacts;
use crate::model::Model;
use crate::train::metrics::{Metrics, mean_and_deviation};

/// The demo.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// Of ptune.
    pub version: &'static str,
    /// Where everything that is drawn comes from.
    pub seed: u64,
    /// Facts of the small world.
    pub facts: usize,
    /// Its relations.
    pub relations: usize,
    /// What was done over each model.
    pub models: Vec<ModelFacts>,
    /// One model, several tasks: for each model and language where a subject is a test fact of two of them.
    pub swaps: Vec<Swap>,
    /// Seconds in all.
    pub seconds: f64,
    /// The directory with adapters, numbers and report.
    pub out: String,
}

/// A model and its prompts.
#[derive(Clone, Debug, Serialize)]
pub struct ModelFacts {
    /// Its name.
    pub name: String,
    /// `bert`, `gpt2`.
    pub family: String,
    /// Whether it reads what stands before the answer only.
    pub causal: bool,
    /// Its precision, `bf16` or `f32`.
    pub compute: String,
    /// Its numbers, none of which is trained.
    pub frozen_parameters: usize,
    /// How the prompts were trained.
    pub training: Training,
    /// Every relation in both languages, by hand.
    pub surveyed: Vec<Surveyed>,
    /// The relations whose prompts were tuned.
    pub lessons: Vec<Lesson>,
}

/// How prompts were trained.
#[derive(Clone, Debug, Serialize)]
pub struct Training {
    /// Steps of each prompt.
    pub steps: usize,
    /// Facts a step.
    pub batch_size: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// `lstm`.
    pub encoder: String,
}

/// A relation whose prompts were tried as they were written.
#[derive(Clone, Debug, Serialize)]
pub struct Surveyed {
    /// The relation.
    pub relation: String,
    /// `en`, `ko`.
    pub language: &'static str,
    /// Test facts.
    pub test: usize,
    /// P@1 of the most frequent answer.
    pub majority: f64,
    /// P@1 of its prompts.
    pub by_hand: Range,
    /// Of those that the model has read as they stand; none where there is no such prompt.
    pub phrasings: Option<Range>,
    /// Of those that are one word away from that.
    pub edits: Option<Range>,
}

/// P@1 of several prompts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// How many.
    pub prompts: usize,
    /// Their mean.
    pub mean: f64,
    /// The lowest.
    pub worst: f64,
    /// The highest.
    pub best: f64,
    /// The highest less the lowest.
    pub spread: f64,
    /// The standard deviation over the prompts.
    pub deviation: f64,
}

/// A relation in a language whose prompts were tuned.
#[derive(Clone, Debug, Serialize)]
pub struct Lesson {
    /// The relation.
    pub relation: String,
    /// `en`, `ko`.
    pub language: &'static str,
    /// Facts that the prompts were trained on.
    pub train: usize,
    /// Facts that the best state of each was chosen by.
    pub dev: usize,
    /// Facts that everything here is measured with.
    pub test: usize,
    /// Words among which an answer is looked for: the answers of all relations in this language.
    pub candidates: usize,
    /// P@1 of the most frequent answer of the test facts.
    pub majority: f64,
    /// Mean P@1 of the same prompts over a model of the same shape with random weights.
    pub random_weights: f64,
    /// P@1 of the first of them after the same training over that model: what a prompt learns without a model's knowledge.
    pub random_weights_tuned: f64,
    /// The prompts as they were written.
    pub by_hand: Range,
    /// After P-tuning.
    pub tuned: Range,
    /// Each of them.
    pub prompts: Vec<PromptFacts>,
    /// The adapter of the prompt that is best on the dev facts.
    pub adapter: Trained,
    /// Answers to the first test facts, by the prompt that is worst as written.
    pub answers: Vec<Answer>,
}

/// A prompt before and after.
#[derive(Clone, Debug, Serialize)]
pub struct PromptFacts {
    /// As it was written.
    pub template: String,
    /// `phrasing` where the model has read these words, `edit` where they are one word away from that.
    pub kind: &'static str,
    /// The phrasing that it is, or is nearest to.
    pub of: String,
    /// The prompt with the first test fact's subject in place, up to where the model reads.
    pub example: String,
    /// On the test facts, as written.
    pub by_hand: Score,
    /// With pseudo tokens around its words.
    pub tuned_template: String,
    /// On the test facts, after P-tuning.
    pub tuned: Score,
    /// P@1 on the dev facts of the state that was kept.
    pub dev: f64,
    /// The step of that state.
    pub best_step: usize,
    /// How training went.
    pub curve: Vec<Point>,
    /// What its pseudo tokens resemble.
    pub tokens: Vec<PseudoFacts>,
}

/// What share of facts a prompt gets right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// The answer came first.
    pub p_at_1: f64,
    /// The answer was among the first ten.
    pub p_at_10: f64,
    /// Mean of one over its rank.
    pub mrr: f64,
}

/// A moment of training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Steps made.
    pub step: usize,
    /// Mean loss since the point before; none at step 0.
    pub loss: Option<f64>,
    /// P@1 on the dev facts.
    pub dev: f64,
}

/// An adapter on disk.
#[derive(Clone, Debug, Serialize)]
pub struct Trained {
    /// Its directory.
    pub path: String,
    /// Which of the prompts, counted from 1.
    pub prompt: usize,
    /// Bytes of its files.
    pub bytes: u64,
    /// Pseudo tokens.
    pub rows: usize,
    /// Numbers of each.
    pub width: usize,
    /// Numbers that were trained: those of the encoder that computes the rows. It is not kept.
    pub trained_parameters: usize,
}

/// An answer in words.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// The prompt with the subject in place.
    pub question: String,
    /// What is right.
    pub gold: String,
    /// What the prompt as written gives.
    pub by_hand: String,
    /// What it gives after P-tuning.
    pub tuned: String,
}

/// One subject, asked with several adapters over one model.
#[derive(Clone, Debug, Serialize)]
pub struct Swap {
    /// The model.
    pub model: String,
    /// `en`, `ko`.
    pub language: &'static str,
    /// The subject, a test fact of each relation.
    pub subject: String,
    /// An answer an adapter.
    pub answers: Vec<SwapAnswer>,
}

/// What an adapter makes of the subject.
#[derive(Clone, Debug, Serialize)]
pub struct SwapAnswer {
    /// The relation that it was trained for.
    pub relation: String,
    /// The adapter.
    pub adapter: String,
    /// Its bytes.
    pub bytes: u64,
    /// Its answer.
    pub answer: String,
    /// What is right.
    pub gold: String,
}

impl ModelFacts {
    pub(super) fn new(
        base: &Base,
        weights: &Model,
        plan: &Plan,
        surveyed: Vec<Surveyed>,
        lessons: Vec<Lesson>,
    ) -> Self {
        ModelFacts {
            name: base.name.clone(),
            family: base.spec.family.into(),
            causal: base.spec.causal,
            compute: base.compute.name().into(),
            frozen_parameters: weights.count(),
            training: Training {
                steps: plan.steps,
                batch_size: plan.batch_size,
                learning_rate: plan.learning_rate,
                encoder: plan.config().prompt.encoder.name().into(),
            },
            surveyed,
            lessons,
        }
    }
}

impl Range {
    /// Of no value there is none.
    pub(super) fn of_any(values: &[f64]) -> Option<Range> {
        (!values.is_empty()).then(|| Range::of(values))
    }

    pub(super) fn of(values: &[f64]) -> Range {
        let (mean, deviation) = mean_and_deviation(values);
        let worst = values.iter().copied().fold(f64::INFINITY, f64::min);
        let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Range { prompts: values.len(), mean, worst, best, spread: best - worst, deviation: deviation.unwrap_or(0.0) }
    }
}

impl Score {
    pub(super) fn of(metrics: &Metrics) -> Score {
        let value = |name| metrics.get(name).unwrap_or_default();
        Score { p_at_1: value("p_at_1"), p_at_10: value("p_at_10"), mrr: value("mrr") }
    }
}
