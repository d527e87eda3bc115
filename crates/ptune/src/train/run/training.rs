//! The loop of runs over one model: steps through the rows, evaluations on dev, which prompt is kept, and saves.
//!
//! ```text
//! loop   for each run: evaluate, if its step has an evaluation and it is not done yet
//!                      save its state, every `save_every` steps and at the end
//!                      it is over at its last step, or when the patience is
//!        stop when all are over, or when asked to
//!        step, all that are not over together
//! ```
//! Between two of these lines a run is its [`Training`], and all of it can be saved: so a run that is asked to stop
//! inside an evaluation saves what it was before the evaluation, and begins that again. Runs share the model and the
//! moment of their steps, nothing else: each has its own step number, and need not be at that of the others.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Run;
use super::progress::Progress;
use crate::data::Dataset;
use crate::model::Model;
use crate::train::batches::{Batches, Rows};
use crate::train::metrics::Metrics;
use crate::train::state::State;
use crate::train::{Batch, Event, Learner, Order, Schedule, Trainer, diverged};
use crate::{Error, Result};

/// What moves while a run trains.
pub(super) struct Training<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) learner: Learner<'a>,
    pub(super) schedule: Schedule,
    pub(super) order: Order,
    pub(super) progress: Progress,
    /// What the state on disk has done: steps, and the last evaluation. A new run has nothing to save.
    saved: (usize, Option<usize>),
    /// Since when this process trains it; `None` when it is over.
    since: Option<Instant>,
}

/// Trains runs on `batches` over the model of `trainer`, each to its last step or until its patience ends. Asked to stop, all save
/// their states first.
pub(super) fn train(
    trainer: &mut Trainer<'_>,
    batches: &mut Batches<'_>,
    runs: &mut [Training<'_>],
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    let trained = train_to_the_end(trainer, batches, runs, observe);
    if let Err(Error::Stopped { .. }) = trained {
        runs.iter_mut().try_for_each(|run| run.save(&trainer.model))?;
    }
    trained
}

fn train_to_the_end(
    trainer: &mut Trainer<'_>,
    batches: &mut Batches<'_>,
    runs: &mut [Training<'_>],
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    loop {
        for run in runs.iter_mut().filter(|run| !run.is_over()) {
            run.between_steps(trainer, observe).map_err(|error| run.run.named(error))?;
        }
        let mut going: Vec<_> = runs.iter_mut().filter(|run| !run.is_over()).collect();
        let Some(furthest) = going.iter().max_by_key(|run| run.progress.step) else { return Ok(()) };
        furthest.run.check_stop(furthest.progress.step)?;
        step(trainer, batches, &mut going, observe)?;
    }
}

/// One step of each run on its next batch.
fn step(
    trainer: &mut Trainer<'_>,
    batches: &mut Batches<'_>,
    runs: &mut [&mut Training<'_>],
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    let begin = Instant::now();
    let shares: Vec<f64> = runs.iter().map(|run| run.schedule.share(run.progress.step)).collect();
    let rows: Vec<Rows<'_>> = runs.iter_mut().map(|run| run.next_rows()).collect();
    let examples: Vec<usize> = rows.iter().map(|rows| rows.numbers.len()).collect();
    let packed = batches.pack(&trainer.model, trainer.device, &rows).into_iter().zip(shares);
    let packed: Vec<Batch> = packed.map(|((layout, targets), share)| Batch { layout, targets, share }).collect();
    let mut learners: Vec<_> = runs.iter_mut().map(|run| &mut run.learner).collect();
    let losses = trainer.step(&mut learners, packed, batches.past());
    let time = begin.elapsed();
    for ((run, loss), examples) in runs.iter_mut().zip(losses).zip(examples) {
        run.count_step(loss, examples, time, observe).map_err(|error| run.run.named(error))?;
    }
    Ok(())
}

impl<'a> Training<'a> {
    /// The state at step 0.
    pub(super) fn new(run: &'a Run<'a>, learner: Learner<'a>) -> Self {
        let config = &run.config.train;
        let rows = run.data.train.examples.len();
        let steps_per_epoch = Order::batches_per_epoch(rows, config.batch_size);
        let schedule = Schedule {
            kind: config.schedule,
            learning_rate: match (learner.prompt.is_trained(), config.backbone_learning_rate, config.head_learning_rate)
            {
                (false, Some(rate), _) | (false, None, Some(rate)) => rate,
                _ => config.learning_rate,
            },
            warmup_steps: config.warmup_steps,
            steps: run.steps(&learner, steps_per_epoch),
            steps_per_epoch,
            decay: config.decay,
        };
        let seed = run.config.data.shuffle.then_some(run.config.seed);
        Training {
            run,
            learner,
            schedule,
            order: Order::new(rows, config.batch_size, seed),
            progress: Progress::default(),
            saved: Progress::default().done(),
            since: Some(Instant::now()),
        }
    }

    /// Goes to where an earlier process stood; the parameters are those of its state already.
    pub(super) fn go_to(&mut self, progress: Progress) {
        self.order.go_to(progress.step);
        self.saved = progress.done();
        self.progress = progress;
    }

    fn is_over(&self) -> bool {
        self.since.is_none()
    }

    /// How far the run is, with the time until now.
    fn progress(&self) -> Progress {
        let time = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        Progress { earlier: self.progress.earlier + time, ..self.progress.clone() }
    }

    /// What is due before the next step, and whether there is one.
    fn between_steps(&mut self, trainer: &Trainer<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let (steps, config) = (self.schedule.steps, &self.run.config.train);
        let eval_every = config.eval_every.unwrap_or(self.schedule.steps_per_epoch);
        let step = self.progress.step;
        let due = step.is_multiple_of(eval_every) || step == steps;
        if due && self.progress.evaluated != Some(step) {
            self.evaluate(trainer, observe)?;
        }
        let impatient = config.patience > 0 && self.progress.idle >= config.patience;
        let over = step >= steps || impatient;
        if over || step > 0 && step.is_multiple_of(config.save_every) {
            self.save(&trainer.model)?;
        }
        if impatient {
            let idle = self.progress.idle;
            self.run.note(&format!("stopped at step {step}: {idle} evaluations without a better one"), observe);
        }
        if over {
            self.progress = self.progress();
            self.since = None;
        }
        Ok(())
    }

    /// The rows of the next step.
    fn next_rows(&mut self) -> Rows<'_> {
        Rows { seed: self.run.config.seed, step: self.progress.step, numbers: self.order.next_batch() }
    }

    fn count_step(
        &mut self,
        loss: f64,
        examples: usize,
        time: Duration,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let (run, progress) = (self.run, &mut self.progress);
        if !loss.is_finite() {
            return Err(diverged(progress.step));
        }
        progress.count_step(loss, examples, time);
        observe(progress.event(run.config.seed, self.schedule.steps, loss, run.config.select().name()));
        Ok(())
    }

    /// Evaluates on dev, keeps what is trained when it is the best, and writes a line of the log. Until the scores are
    /// there nothing changes, so that the evaluation can be stopped and begun again.
    fn evaluate(&mut self, trainer: &Trainer<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let (run, step) = (self.run, self.progress.step);
        let dev = run.data.dev.as_ref().map(|dev| self.score(trainer, dev, observe)).transpose()?;
        let progress = &mut self.progress;
        let mut line = json!({"step": step});
        let loss = progress.take_mean_loss();
        if step > 0 {
            line["loss"] = json!(loss);
            line["learning_rate"] = json!(self.schedule.rate(step - 1));
        }
        if let Some(metrics) = dev {
            let best = progress.is_best(&metrics, run.config.select());
            line["dev"] = json!(metrics);
            line["best"] = json!(best);
            observe(Event::Evaluated { seed: run.config.seed, step, metrics: &metrics, best });
            if best {
                run.keep(&trainer.model, &self.learner, step, Some(&metrics))?;
                progress.kept = Some(metrics);
            }
        }
        progress.evaluated = Some(step);
        progress.write_line(&line, &run.out)
    }

    fn score(&self, trainer: &Trainer<'_>, data: &Dataset, observe: &mut dyn FnMut(Event<'_>)) -> Result<Metrics> {
        let prompt = self.learner.prompt.forward(trainer.device, &trainer.model);
        let mut progress = |done, total| {
            observe(Event::Evaluating { done, total });
            self.run.check_stop(self.progress.step)
        };
        let (classifier, additions) = (self.learner.classifier.as_ref(), self.learner.additions.as_ref());
        self.run.scorer(trainer, &prompt, classifier, additions).evaluate(data, &mut progress)
    }

    /// Saves the state, unless it is on disk already.
    fn save(&mut self, model: &Model) -> Result<()> {
        let done = self.progress.done();
        if done == self.saved {
            return Ok(());
        }
        let state = State::new(self.run.identity.clone(), self.progress(), self.learner.optimizer.steps());
        state.write(&self.run.state(), &self.learner.tensors(model))?;
        self.saved = done;
        Ok(())
    }
}

impl Run<'_> {
    /// Steps of the run: none where there is nothing to train.
    fn steps(&self, learner: &Learner<'_>, steps_per_epoch: usize) -> usize {
        let trains =
            !self.config.backbone.mode.is_frozen() || learner.prompt.is_trained() || learner.classifier.is_some();
        match (self.config.train.steps, self.config.train.epochs) {
            _ if !trains => 0,
            (Some(steps), _) => steps,
            (None, epochs) => epochs.unwrap_or(1).saturating_mul(steps_per_epoch),
        }
    }
}
