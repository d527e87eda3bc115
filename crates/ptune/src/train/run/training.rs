//! The loop of a run: steps through the rows, evaluations on dev, and which prompt is kept.

use std::time::Instant;

use serde_json::json;

use super::Run;
use super::progress::Progress;
use crate::Result;
use crate::data::{Dataset, pack};
use crate::method::Prompt;
use crate::model::{Columns, Model};
use crate::ops::Layout;
use crate::rng::{Purpose, Rng};
use crate::train::metrics::Metrics;
use crate::train::{Event, GroupRecipe, Order, Recipe, Schedule, Trainer, check_loss};

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
        Training {
            trainer: Trainer::new(model, columns, prompt, &self.task.head, self.recipe(), self.device),
            schedule,
            order: Order::new(rows, config.batch_size, seed),
            progress: Progress::default(),
            start: Instant::now(),
        }
    }

    /// What the optimiser does.
    fn recipe(&self) -> Recipe {
        let config = &self.config.train;
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

    /// Steps of the run: none where there is nothing to train.
    fn steps(&self, prompt: &Prompt, steps_per_epoch: usize) -> usize {
        let trains = self.config.backbone.mode.is_full() || matches!(prompt, Prompt::Encoder(_));
        match (self.config.train.steps, self.config.train.epochs) {
            _ if !trains => 0,
            (Some(steps), _) => steps,
            (None, epochs) => epochs.unwrap_or(1).saturating_mul(steps_per_epoch),
        }
    }

    /// The batch with what the model drops in this step.
    fn with_dropout(&self, layout: Layout, step: usize, batch: &[usize]) -> Layout {
        let step = u32::try_from(step).unwrap_or(u32::MAX);
        let seed = Rng::new(self.config.seed, Purpose::Dropout(step)).next_u64();
        layout.with_dropout(self.config.backbone.dropout as f32, seed, batch)
    }

    /// Trains to the last step, or until the patience ends.
    pub(super) fn train(&self, training: &mut Training<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let Training { trainer, schedule, order, progress, .. } = training;
        let rows = &self.data.train.examples;
        let eval_every = self.config.train.eval_every.unwrap_or(schedule.steps_per_epoch);
        if progress.log.is_empty() {
            self.evaluate(trainer, None, progress, observe)?;
        }
        while progress.step < schedule.steps && !self.out_of_patience(progress) {
            let begin = Instant::now();
            let batch = order.next_batch();
            let layout = pack(batch.iter().map(|&row| &rows[row].encoded));
            let layout = self.with_dropout(layout, progress.step, batch);
            let targets: Vec<u32> = batch.iter().map(|&row| rows[row].target).collect();
            let rate = schedule.rate(progress.step);
            let loss = trainer.step(&layout, &targets, schedule.share(progress.step));
            check_loss(loss, progress.step)?;
            progress.count_step(loss, batch.len(), begin.elapsed());
            observe(progress.event(schedule.steps, loss, self.config.select().name()));
            if progress.step.is_multiple_of(eval_every) || progress.step == schedule.steps {
                self.evaluate(trainer, Some(rate), progress, observe)?;
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

    /// Evaluates on dev, keeps what is trained when it is the best, and writes a line of the log. `rate` is that of the step
    /// before; none at step 0.
    fn evaluate(
        &self,
        trainer: &Trainer<'_>,
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
            let metrics = self.score(trainer, dev, observe)?;
            let best = progress.is_best(&metrics, self.config.select().name());
            line["dev"] = json!(metrics);
            line["best"] = json!(best);
            observe(Event::Evaluated { step, metrics: &metrics, best });
            if best {
                self.keep(trainer, step, Some(&metrics))?;
                progress.kept = Some(metrics);
            }
        }
        progress.write_line(&line, self.out)
    }

    fn score(&self, trainer: &Trainer<'_>, data: &Dataset, observe: &mut dyn FnMut(Event<'_>)) -> Result<Metrics> {
        let prompt = trainer.prompt.forward(self.device);
        let mut progress = |done, total| observe(Event::Evaluating { done, total });
        self.scorer(&trainer.model, &trainer.columns, prompt.rows()).evaluate(data, &mut progress)
    }
}
