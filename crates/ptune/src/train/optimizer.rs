//! Adam with its three ways of weight decay, learning-rate schedules, and clipping.
//!
//! ```text
//! m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
//! adamw  p *= 1 - lr * decay before the step   (torch.optim.AdamW)
//! adam   g += decay * p before everything      (torch.optim.Adam: coupled L2, the paper's LAMA code)
//! adamw_hf  p *= 1 - lr * decay after the step, eps on the uncorrected root   (the AdamW of transformers before version
//!           5, the paper's SuperGLUE code)
//! ```
//! Prompt, backbone and head have a learning rate and a decay each; clipping goes over all of them together.

use ptune_kernels::{AdamStep, Decay};

use crate::parameter::{Group, Parameter};
use crate::tensor::{Device, Tensor};
use crate::train::config::{ADAM_BETAS, ADAM_EPSILON, OptimizerKind, ScheduleKind, TrainConfig};

/// What an optimiser does.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// The kind of Adam.
    pub kind: OptimizerKind,
    /// Gradients are scaled down to this norm over all groups together; 0 switches it off.
    pub clip_norm: f64,
    /// Of the prompt encoder.
    pub prompt: GroupRecipe,
    /// Of the model's weights, where they are trained.
    pub backbone: GroupRecipe,
    /// Of the language-model head's own, where it is trained.
    pub head: GroupRecipe,
}

impl Recipe {
    /// What a run file asks for.
    pub fn of(config: &TrainConfig) -> Recipe {
        let group = |rate: Option<f64>, decay: Option<f64>| GroupRecipe {
            learning_rate: rate.unwrap_or(config.learning_rate),
            weight_decay: decay.unwrap_or(config.weight_decay),
        };
        Recipe {
            kind: config.optimizer,
            clip_norm: config.clip_norm,
            prompt: group(None, None),
            backbone: group(config.backbone_learning_rate, config.backbone_weight_decay),
            head: group(config.head_learning_rate, config.backbone_weight_decay),
        }
    }
}

/// What is done to one group of parameters.
#[derive(Clone, Copy, Debug)]
pub struct GroupRecipe {
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The weight decay of the parameters that decay.
    pub weight_decay: f64,
}

/// An optimiser and its moments.
pub struct Optimizer {
    recipe: Recipe,
    /// First and second moments of each parameter.
    moments: Vec<[Tensor; 2]>,
    steps: u64,
}

impl Optimizer {
    /// An optimiser with moments of zero for `parameters`.
    pub fn new<'p>(device: &Device, recipe: Recipe, parameters: impl IntoIterator<Item = &'p Parameter>) -> Self {
        let zeros = |p: &Parameter| device.zeros(p.value.rows(), p.value.columns());
        let moments = parameters.into_iter().map(|p| [zeros(p), zeros(p)]).collect();
        Optimizer { recipe, moments, steps: 0 }
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Goes on after so many steps; the moments must be those of that step.
    pub(crate) fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// First and second moments, in the order of the parameters.
    pub(crate) fn moments(&self) -> &[[Tensor; 2]] {
        &self.moments
    }

    /// The moments, to restore them.
    pub(crate) fn moments_mut(&mut self) -> &mut [[Tensor; 2]] {
        &mut self.moments
    }

    /// One step on all parameters, which must be those it was made for, in the same order, at a `share` of each group's
    /// learning rate.
    pub fn step<'p>(&mut self, device: &Device, parameters: impl IntoIterator<Item = &'p mut Parameter>, share: f64) {
        self.steps += 1;
        let parameters: Vec<&mut Parameter> = parameters.into_iter().collect();
        let gradient_scale = self.clip_scale(device, &parameters);
        for (parameter, moments) in parameters.into_iter().zip(&mut self.moments) {
            let group = match parameter.group {
                Group::Prompt => self.recipe.prompt,
                Group::Backbone => self.recipe.backbone,
                Group::Head => self.recipe.head,
            };
            let step = AdamStep {
                learning_rate: group.learning_rate * share,
                beta1: ADAM_BETAS.0,
                beta2: ADAM_BETAS.1,
                eps: ADAM_EPSILON,
                weight_decay: if parameter.decays { group.weight_decay } else { 0.0 },
                step: self.steps,
                decay: match self.recipe.kind {
                    OptimizerKind::Adam => Decay::Coupled,
                    OptimizerKind::AdamW => Decay::Before,
                    OptimizerKind::AdamWHf => Decay::After,
                },
                gradient_scale,
            };
            device.adam(&mut parameter.value, &parameter.gradient, moments, &step);
        }
    }

    /// `clip_norm / (norm + 1e-6)`, at most 1, over all parameters together (torch's `clip_grad_norm_`).
    fn clip_scale(&self, device: &Device, parameters: &[&mut Parameter]) -> f64 {
        if self.recipe.clip_norm == 0.0 {
            return 1.0;
        }
        let norm = parameters.iter().map(|p| device.squared_norm(&p.gradient)).sum::<f64>().sqrt();
        (self.recipe.clip_norm / (norm + 1e-6)).min(1.0)
    }
}

/// The learning rate of a step.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Its shape after the warm-up.
    pub kind: ScheduleKind,
    /// The highest rate: the prompt's, or the backbone's where there is no trained prompt.
    pub learning_rate: f64,
    /// Steps over which it rises from 0.
    pub warmup_steps: usize,
    /// Steps of the run.
    pub steps: usize,
    /// Steps of an epoch, for `exponential`.
    pub steps_per_epoch: usize,
    /// Factor per epoch, for `exponential`.
    pub decay: f64,
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0.
    pub fn rate(&self, step: usize) -> f64 {
        self.learning_rate * self.share(step)
    }

    /// The share of every group's learning rate at step `step`, counted from 0: `step / warmup` while it rises (so the
    /// first step of a warm-up changes nothing, as in the reference), then 1, falling linearly to 0 at the end, or
    /// times `decay` after every epoch.
    pub fn share(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps as f64;
        }
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Linear => {
                let left = self.steps.saturating_sub(step) as f64;
                left / (self.steps.saturating_sub(self.warmup_steps)).max(1) as f64
            }
            ScheduleKind::Exponential => {
                let epoch = step / self.steps_per_epoch.max(1);
                self.decay.powi(i32::try_from(epoch).unwrap_or(i32::MAX))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind, warmup_steps: usize) -> Schedule {
        Schedule { kind, learning_rate: 1.0, warmup_steps, steps: 10, steps_per_epoch: 2, decay: 0.5 }
    }

    #[test]
    fn rates_of_the_three_schedules() {
        let rates = |s: Schedule| (0..10).map(|i| s.rate(i)).collect::<Vec<_>>();
        assert_eq!(rates(schedule(ScheduleKind::Constant, 0)), [1.0; 10]);
        assert_eq!(rates(schedule(ScheduleKind::Linear, 0))[..3], [1.0, 0.9, 0.8]);
        assert_eq!(rates(schedule(ScheduleKind::Linear, 5)), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.8, 0.6, 0.4, 0.2]);
        assert_eq!(rates(schedule(ScheduleKind::Exponential, 0))[..5], [1.0, 1.0, 0.5, 0.5, 0.25]);
    }

    #[test]
    fn a_warm_up_as_long_as_the_run_does_not_divide_by_zero() {
        assert!(schedule(ScheduleKind::Linear, 10).rate(10).is_finite());
    }
}
