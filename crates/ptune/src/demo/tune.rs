//! Many prompts trained together over one frozen model, each to what it comes to alone.
//!
//! The loop of `train/run/training.rs` without its files: steps, an evaluation on the dev facts every so often, the best
//! state kept (of equal ones the later). All prompts begin from the same encoder and see the facts in the same order, so
//! that what is left between them comes from their words alone.

use std::path::Path;

use super::base::{Asked, Base, PLACE, Sight};
use super::facts::{Point, Score};
use super::plan::Plan;
use crate::Result;
use crate::data::{Dataset, pack};
use crate::method::Injection;
use crate::model::Model;
use crate::train::{Batch, Learner, Order, Recipe, Schedule, Trainer, new_prompt};

/// How many prompts take a step together. The rows of so many fill the threads and still fit the cache.
const TOGETHER: usize = 6;

/// A prompt with what it is trained on.
pub(super) struct Pupil {
    pub(super) asked: Asked,
    pub(super) train: Dataset,
    pub(super) dev: Dataset,
    pub(super) test: Dataset,
}

/// What training made of a prompt.
pub(super) struct Learned {
    /// The rows of its pseudo tokens, in the state that was best on dev.
    pub(super) rows: Vec<f32>,
    pub(super) best_step: usize,
    pub(super) dev: f64,
    pub(super) test: Score,
    pub(super) curve: Vec<Point>,
    /// Numbers that were trained.
    pub(super) trained_parameters: usize,
}

/// One of them in training.
struct State<'a> {
    pupil: &'a Pupil,
    order: Order,
    losses: Vec<f64>,
    learned: Learned,
}

/// Trains prompts; `progress(done)` counts steps of prompts. The weights come back untouched.
pub(super) fn tune(
    base: &Base,
    weights: Model,
    pupils: &[&Pupil],
    plan: &Plan,
    progress: &mut dyn FnMut(usize),
) -> Result<(Model, Vec<Learned>)> {
    let device = &base.device;
    let mut prompts = Vec::new();
    for Pupil { asked, .. } in pupils {
        let words = asked.task.encoder()?.initial_words()?;
        let prompt = new_prompt(&asked.config, Path::new(PLACE), device, &weights, &words)?;
        prompts.push((prompt, &asked.task.head, Recipe::of(&asked.config.train)));
    }
    let (mut trainer, mut learners) = Trainer::new(weights, prompts, device);
    let mut states: Vec<State<'_>> =
        pupils.iter().zip(&learners).map(|(pupil, learner)| State::new(pupil, learner, plan)).collect();
    for step in 0..=plan.steps {
        if step.is_multiple_of(plan.eval_every) || step == plan.steps {
            for (state, learner) in states.iter_mut().zip(&learners) {
                state.evaluate(base, &trainer, learner, step)?;
            }
        }
        if step == plan.steps {
            break;
        }
        let mut done = step * pupils.len();
        for (states, learners) in states.chunks_mut(TOGETHER).zip(learners.chunks_mut(TOGETHER)) {
            let batches = states.iter_mut().map(|state| state.next_batch(step, plan)).collect();
            let losses = trainer.step(&mut learners.iter_mut().collect::<Vec<_>>(), batches, None);
            states.iter_mut().zip(losses).for_each(|(state, loss)| state.losses.push(loss));
            done += states.len();
            progress(done);
        }
    }
    for state in &mut states {
        state.test(base, &trainer)?;
    }
    Ok((trainer.model, states.into_iter().map(|state| state.learned).collect()))
}

impl<'a> State<'a> {
    fn new(pupil: &'a Pupil, learner: &Learner<'_>, plan: &Plan) -> Self {
        let trained_parameters = learner.prompt.trainable();
        State {
            pupil,
            order: Order::new(pupil.train.examples.len(), plan.batch_size, Some(plan.seed)),
            losses: Vec::new(),
            learned: Learned {
                rows: Vec::new(),
                best_step: 0,
                dev: 0.0,
                test: Score::default(),
                curve: Vec::new(),
                trained_parameters,
            },
        }
    }

    fn next_batch(&mut self, step: usize, plan: &Plan) -> Batch {
        let examples = &self.pupil.train.examples;
        let rows = self.order.next_batch();
        let layout = pack(rows.iter().map(|&row| &examples[row].encoded));
        let config = &self.pupil.asked.config.train;
        let schedule = Schedule {
            kind: config.schedule,
            learning_rate: config.learning_rate,
            warmup_steps: config.warmup_steps,
            steps: plan.steps,
            steps_per_epoch: Order::batches_per_epoch(examples.len(), plan.batch_size),
            decay: config.decay,
        };
        Batch {
            layout,
            targets: rows.iter().flat_map(|&row| &examples[row].targets).copied().collect(),
            share: schedule.share(step),
        }
    }

    fn evaluate(&mut self, base: &Base, trainer: &Trainer<'_>, learner: &Learner<'_>, step: usize) -> Result<()> {
        let prompt = learner.prompt.forward(&base.device, &trainer.model);
        let (task, dev) = (&self.pupil.asked.task, &self.pupil.dev);
        let sight = Sight { model: &trainer.model, columns: &trainer.columns, training: true, prompt: &prompt };
        let dev = Score::of(&base.metrics(&sight, task, dev)?).p_at_1;
        let loss = self.losses.iter().sum::<f64>() / self.losses.len().max(1) as f64;
        self.learned.curve.push(Point { step, loss: (step > 0).then_some(loss), dev });
        self.losses.clear();
        if dev >= self.learned.dev {
            self.learned.dev = dev;
            self.learned.best_step = step;
            self.learned.rows = prompt.rows().map_or(Vec::new(), |rows| rows.read().to_vec());
        }
        Ok(())
    }

    fn test(&mut self, base: &Base, trainer: &Trainer<'_>) -> Result<()> {
        let width = trainer.model.embedding_width();
        let rows = &self.learned.rows;
        let rows = base.device.upload(rows.len() / width, width, rows);
        let prompt = Injection::new(&trainer.model, Some(rows), None);
        let sight = Sight { model: &trainer.model, columns: &trainer.columns, training: true, prompt: &prompt };
        self.learned.test = Score::of(&base.metrics(&sight, &self.pupil.asked.task, &self.pupil.test)?);
        Ok(())
    }
}
