//! The loop of a run: steps through the rows, evaluations on dev, and which prompt is kept.

use std::time::Instant;

use serde_json::json;

use super::Run;
use super::progress::Progress;
use crate::Result;
use crate::data::{Dataset, pack};
use crate::method::Prompt;
use crate::train::metrics::Metrics;
use crate::train::{Event, Optimizer, Order, Schedule, Trainer, check_loss};

/// What moves while a run trains.
pub(super) struct Training<'a> {
    pub(super) trainer: Trainer<'a>,
    pub(super) schedule: Schedule,
    pub(super) order: Order,
    pub(super) progress: Progress,
    pub(super) start: Instant,
}

impl Run<'_> {
    /// The state at step 0.
    pub(super) fn begin(&self, prompt: Prompt) -> Training<'_> {
        let config = &self.config.train;
        let rows = self.data.train.examples.len();
        let steps_per_epoch = Order::batches_per_epoch(rows, config.batch_size);
        let schedule = Schedule {
            kind: config.schedule,
            learning_rate: config.learning_rate,
            warmup_steps: config.warmup_steps,
            steps: self.steps(&prompt, steps_per_epoch),
            steps_per_epoch,
            decay: config.decay,
        };
        let optimizer =
            Optimizer::new(self.device, config.optimizer, config.weight_decay, config.clip_norm, prompt.parameters());
        let (model, columns, device, head) = (self.model, self.columns, self.device, &self.task.head);
        let seed = self.config.data.shuffle.then_some(self.config.seed);
        Training {
            trainer: Trainer { model, columns, prompt, head, optimizer, device },
            schedule,
            order: Order::new(rows, config.batch_size, seed),
            progress: Progress::default(),
            start: Instant::now(),
        }
    }

    /// Steps of the run: none where there is nothing to train.
    fn steps(&self, prompt: &Prompt, steps_per_epoch: usize) -> usize {
        match (prompt, self.config.train.steps, self.config.train.epochs) {
            (Prompt::Manual, ..) => 0,
            (_, Some(steps), _) => steps,
            (_, None, epochs) => epochs.unwrap_or(1).saturating_mul(steps_per_epoch),
        }
    }

    /// Trains to the last step, or until the patience ends.
    pub(super) fn train(&self, training: &mut Training<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let Training { trainer, schedule, order, progress, .. } = training;
        let rows = &self.data.train.examples;
        let eval_every = self.config.train.eval_every.unwrap_or(schedule.steps_per_epoch);
        if progress.log.is_empty() {
            self.evaluate(&trainer.prompt, None, progress, observe)?;
        }
        while progress.step < schedule.steps && !self.out_of_patience(progress) {
            let begin = Instant::now();
            let batch = order.next_batch();
            let layout = pack(batch.iter().map(|&row| &rows[row].encoded));
            let targets: Vec<u32> = batch.iter().map(|&row| rows[row].target).collect();
            let rate = schedule.rate(progress.step);
            let loss = trainer.step(&layout, &targets, rate);
            check_loss(loss, progress.step)?;
            progress.count_step(loss, batch.len(), begin.elapsed());
            observe(progress.event(schedule.steps, loss, self.config.select().name()));
            if progress.step.is_multiple_of(eval_every) || progress.step == schedule.steps {
                self.evaluate(&trainer.prompt, Some(rate), progress, observe)?;
            }
        }
        if self.out_of_patience(progress) {
            let (step, idle) = (progress.step, progress.idle);
            observe(Event::Note(&format!("stopped at step {step}: {idle} evaluations without a better one")));
        }
        Ok(())
    }

    fn out_of_patience(&self, progress: &Progress) -> bool {
        let patience = self.config.train.patience;
        patience > 0 && progress.idle >= patience
    }

    /// Evaluates on dev, keeps the prompt when it is the best, and writes a line of the log. `rate` is that of the step
    /// before; none at step 0.
    fn evaluate(
        &self,
        prompt: &Prompt,
        rate: Option<f64>,
        progress: &mut Progress,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let step = progress.step;
        let mut line = json!({"step": step});
        let loss = progress.take_mean_loss();
        if let Some(rate) = rate {
            line["loss"] = json!(loss);
            line["learning_rate"] = json!(rate);
        }
        if let Some(dev) = &self.data.dev {
            let metrics = self.score(prompt, dev, observe)?;
            let best = progress.is_best(&metrics, self.config.select().name());
            line["dev"] = json!(metrics);
            line["best"] = json!(best);
            observe(Event::Evaluated { step, metrics: &metrics, best });
            if best {
                self.keep(prompt, step, Some(&metrics))?;
                progress.kept = Some(metrics);
            }
        }
        progress.write_line(&line, self.out)
    }

    fn score(&self, prompt: &Prompt, data: &Dataset, observe: &mut dyn FnMut(Event<'_>)) -> Result<Metrics> {
        let prompt = prompt.forward(self.device);
        let mut progress = |done, total| observe(Event::Evaluating { done, total });
        self.scorer(prompt.rows()).evaluate(data, &mut progress)
    }
}
