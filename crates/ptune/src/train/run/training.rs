//! The loop of a run: steps through the rows, evaluations on dev, which prompt is kept, and saves of the state.
//!
//! ```text
//! loop   evaluate, if this step has an evaluation and it is not done yet
//!        save the state, every `save_every` steps and at the end
//!        stop at the last step, when the patience is over, or when asked to
//!        step
//! ```
//! Between two of these lines the run is [`Training`], and all of it can be saved: so a run that is asked to stop
//! inside an evaluation saves what it was before the evaluation, and begins that again.

use std::time::Instant;

use serde_json::json;

use super::Run;
use super::progress::Progress;
use crate::data::Dataset;
use crate::method::Prompt;
use crate::model::{Columns, Model};
use crate::train::batches::Batches;
use crate::train::metrics::Metrics;
use crate::train::state::State;
use crate::train::{Event, Order, Recipe, Schedule, Trainer, check_loss};
use crate::{Error, Result};

/// What moves while a run trains.
pub(super) struct Training<'a> {
    pub(super) trainer: Trainer<'a>,
    pub(super) schedule: Schedule,
    pub(super) order: Order,
    batches: Batches<'a>,
    pub(super) progress: Progress,
    /// What the state on disk has done: steps, and the last evaluation. A new run has nothing to save.
    saved: (usize, Option<usize>),
    start: Instant,
}

impl Training<'_> {
    /// Goes to where an earlier process stood; the parameters are those of its state already.
    pub(super) fn go_to(&mut self, progress: Progress) {
        self.order.go_to(progress.step);
        self.saved = progress.done();
        self.progress = progress;
    }

    /// How far the run is, with the time until now.
    pub(super) fn progress(&self) -> Progress {
        Progress { earlier: self.progress.earlier + self.start.elapsed(), ..self.progress.clone() }
    }
}

impl Run<'_> {
    /// The state at step 0.
    pub(super) fn begin(&self, model: Model, columns: Columns, prompt: Prompt) -> Training<'_> {
        let config = &self.config.train;
        let rows = self.data.train.examples.len();
        let steps_per_epoch = Order::batches_per_epoch(rows, config.batch_size);
        let schedule = Schedule {
            kind: config.schedule,
            learning_rate: match (&prompt, config.backbone_learning_rate) {
                (Prompt::Manual, Some(rate)) => rate,
                _ => config.learning_rate,
            },
            warmup_steps: config.warmup_steps,
            steps: self.steps(&prompt, steps_per_epoch),
            steps_per_epoch,
            decay: config.decay,
        };
        let seed = self.config.data.shuffle.then_some(self.config.seed);
        let batches = Batches::new(self.config, self.task, &model, &self.data.train.examples);
        Training {
            trainer: Trainer::new(model, columns, prompt, &self.task.head, Recipe::of(config), self.device),
            schedule,
            batches,
            order: Order::new(rows, config.batch_size, seed),
            progress: Progress::default(),
            saved: Progress::default().done(),
            start: Instant::now(),
        }
    }

    /// Steps of the run: none where there is nothing to train.
    fn steps(&self, prompt: &Prompt, steps_per_epoch: usize) -> usize {
        let trains = self.config.backbone.mode.is_full() || matches!(prompt, Prompt::Encoder(_));
        match (self.config.train.steps, self.config.train.epochs) {
            _ if !trains => 0,
            (Some(steps), _) => steps,
            (None, epochs) => epochs.unwrap_or(1).saturating_mul(steps_per_epoch),
        }
    }

    /// Trains to the last step, or until the patience ends. Asked to stop, it saves its state first.
    pub(super) fn train(&self, training: &mut Training<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let trained = self.train_to_the_end(training, observe);
        if let Err(Error::Stopped { .. }) = trained {
            self.save(training)?;
        }
        trained
    }

    fn train_to_the_end(&self, training: &mut Training<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let steps = training.schedule.steps;
        let eval_every = self.config.train.eval_every.unwrap_or(training.schedule.steps_per_epoch);
        loop {
            let progress = &training.progress;
            let step = progress.step;
            let due = step.is_multiple_of(eval_every) || step == steps;
            if due && progress.evaluated != Some(step) {
                self.evaluate(training, observe)?;
            }
            let impatient = self.out_of_patience(&training.progress);
            let over = step >= steps || impatient;
            if over || step > 0 && step.is_multiple_of(self.config.train.save_every) {
                self.save(training)?;
            }
            if impatient {
                let idle = training.progress.idle;
                observe(Event::Note(&format!("stopped at step {step}: {idle} evaluations without a better one")));
            }
            if over {
                return Ok(());
            }
            self.check_stop(step)?;
            self.step(training, observe)?;
        }
    }

    fn out_of_patience(&self, progress: &Progress) -> bool {
        let patience = self.config.train.patience;
        patience > 0 && progress.idle >= patience
    }

    /// One step on the next batch.
    fn step(&self, training: &mut Training<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let Training { trainer, schedule, order, batches, progress, .. } = training;
        let begin = Instant::now();
        let batch = order.next_batch();
        let (layout, targets) = batches.pack(&trainer.model, self.device, progress.step, batch);
        let loss = trainer.step(&layout, batches.past(), &targets, schedule.share(progress.step));
        check_loss(loss, progress.step)?;
        progress.count_step(loss, batch.len(), begin.elapsed());
        observe(progress.event(schedule.steps, loss, self.config.select().name()));
        Ok(())
    }

    /// Evaluates on dev, keeps what is trained when it is the best, and writes a line of the log. Until the scores are
    /// there nothing changes, so that the evaluation can be stopped and begun again.
    fn evaluate(&self, training: &mut Training<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let Training { trainer, schedule, progress, .. } = training;
        let step = progress.step;
        let dev = self.data.dev.as_ref();
        let dev = dev.map(|dev| self.score(trainer, dev, step, observe)).transpose()?;
        let mut line = json!({"step": step});
        let loss = progress.take_mean_loss();
        if step > 0 {
            line["loss"] = json!(loss);
            line["learning_rate"] = json!(schedule.rate(step - 1));
        }
        if let Some(metrics) = dev {
            let best = progress.is_best(&metrics, self.config.select().name());
            line["dev"] = json!(metrics);
            line["best"] = json!(best);
            observe(Event::Evaluated { step, metrics: &metrics, best });
            if best {
                self.keep(trainer, step, Some(&metrics))?;
                progress.kept = Some(metrics);
            }
        }
        progress.evaluated = Some(step);
        progress.write_line(&line, self.out)
    }

    fn score(
        &self,
        trainer: &Trainer<'_>,
        data: &Dataset,
        step: usize,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Metrics> {
        let prompt = trainer.prompt.forward(self.device);
        let mut progress = |done, total| {
            observe(Event::Evaluating { done, total });
            self.check_stop(step)
        };
        self.scorer(&trainer.model, &trainer.columns, prompt.rows()).evaluate(data, &mut progress)
    }

    /// Saves the state, unless it is on disk already.
    fn save(&self, training: &mut Training<'_>) -> Result<()> {
        let done = training.progress.done();
        if done == training.saved {
            return Ok(());
        }
        let state = State::new(self.identity.clone(), training.progress(), training.trainer.optimizer.steps());
        state.write(&self.state(), &training.trainer.tensors())?;
        training.saved = done;
        Ok(())
    }
}
