//! The step, and the loop around it: evaluations on the lines held out, saves of the state, the end.
//!
//! ```text
//! loop   evaluate, if this step has an evaluation and it is not done yet
//!        save the state, every `save_every` steps and at the end
//!        stop at the last step, or when asked to
//!        step
//! ```
//! The lines held out are masked once for the whole run, so that its perplexities compare.

use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::json;

use super::{Run, Summary};
use crate::checkpoint::ModelDirectory;
use crate::method::Head;
use crate::model::{Columns, Gradients, Inject, Model};
use crate::parameter::Parameter;
use crate::pretrain::order::{Order, consecutive};
use crate::pretrain::{Event, saved};
use crate::rng::{Purpose, Rng};
use crate::tensor::Tensor;
use crate::train::config::OptimizerKind;
use crate::train::metrics::Metrics;
use crate::train::run::Progress;
use crate::train::run::resume::{Former, state_file};
use crate::train::state::SavedState;
use crate::train::{GroupRecipe, Optimizer, Recipe, Schedule};
use crate::{Error, Result, files};

/// Every token of the vocabulary may be predicted.
const HEAD: Head = Head::Vocabulary { candidates: None, restrict_loss: false };
/// Rows that are evaluated together.
const EVALUATED_ROWS: usize = 1024;

/// What moves while a run trains.
pub(super) struct Training {
    model: Model,
    columns: Columns,
    optimizer: Optimizer,
    schedule: Schedule,
    order: Order,
    progress: Progress,
    /// Rows trained on.
    tokens: usize,
    /// What the state on disk has done: steps, and the last evaluation.
    saved: (usize, Option<usize>),
    start: Instant,
}

impl Training {
    /// How far the run is, with the time until now.
    fn progress(&self) -> Progress {
        Progress { earlier: self.progress.earlier + self.start.elapsed(), ..self.progress.clone() }
    }

    fn tokens_per_s(&self) -> f64 {
        self.tokens as f64 / self.progress.stepping.as_secs_f64().max(1e-9)
    }

    fn perplexity(&self) -> Option<f64> {
        self.progress.kept.as_ref()?.get("perplexity")
    }
}

impl Run<'_> {
    /// The state at step 0.
    pub(super) fn begin(&self, model: Model) -> Training {
        let train = &self.config.train;
        let group = GroupRecipe { learning_rate: train.learning_rate, weight_decay: train.weight_decay };
        let recipe = Recipe {
            kind: OptimizerKind::AdamW,
            clip_norm: train.clip_norm,
            prompt: group,
            backbone: group,
            head: group,
        };
        Training {
            optimizer: Optimizer::new(self.device, recipe, model.parameters()),
            columns: model.columns(None, true),
            model,
            schedule: Schedule {
                kind: train.schedule,
                learning_rate: train.learning_rate,
                warmup_steps: train.warmup_steps.unwrap_or(0),
                steps: train.steps,
                steps_per_epoch: 1,
                decay: 1.0,
            },
            order: Order::new(lengths(&self.rows), train.batch_tokens, self.config.seed),
            progress: Progress::default(),
            tokens: 0,
            saved: Progress::default().done(),
            start: Instant::now(),
        }
    }

    /// Puts the loop where the former run stood; does nothing for a new run.
    pub(super) fn go_on(
        &self,
        training: &mut Training,
        former: Former<Summary>,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let file = match former {
            Former::Nothing => return Ok(()),
            Former::Begun(_) => {
                observe(Event::Note("nothing was saved yet: the run begins again"));
                return training.progress.write_log(self.out); // empty: its lines come again
            }
            Former::Saved(file) => file,
        };
        let (steps, progress) = (self.config.train.steps, &file.state.progress);
        if !progress.is_sound(steps) || file.state.optimizer_steps > steps as u64 {
            return Err(file.wrong("its counts are not those of this run"));
        }
        let Training { model, columns, optimizer, order, .. } = training;
        let parameters = model.parameters_mut().iter_mut().zip(optimizer.moments_mut());
        let tensors = parameters.flat_map(|(parameter, [first, second])| {
            names(parameter).into_iter().zip([&mut parameter.value, first, second])
        });
        file.read_tensors(tensors.collect())?;
        model.repack(columns);
        optimizer.set_steps(file.state.optimizer_steps);
        training.tokens = order.go_to(progress.step);
        training.saved = progress.done();
        training.progress = progress.clone();
        observe(Event::Note(&format!("going on after step {} of {steps}", progress.step)));
        training.progress.write_log(self.out)
    }

    /// Trains to the last step. Asked to stop, it saves its state first.
    pub(super) fn train(&self, training: &mut Training, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let trained = self.train_to_the_end(training, observe);
        if let Err(Error::Stopped { .. }) = trained {
            self.save(training)?;
        }
        trained
    }

    fn train_to_the_end(&self, training: &mut Training, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let train = &self.config.train;
        loop {
            let step = training.progress.step;
            let over = step >= train.steps;
            let due = over || step.is_multiple_of(train.eval_every.unwrap_or(train.steps));
            if due && training.progress.evaluated != Some(step) {
                self.evaluate(training, observe)?;
            }
            if over || step > 0 && step.is_multiple_of(train.save_every) {
                self.save(training)?;
            }
            if over {
                return Ok(());
            }
            self.check_stop(step)?;
            self.step(training, observe)?;
        }
    }

    /// One step on the next batch: the same calls as in `train/mod.rs`, without a prompt.
    fn step(&self, training: &mut Training, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let Training { model, columns, optimizer, schedule, order, progress, .. } = training;
        let (begin, step) = (Instant::now(), progress.step);
        let numbers = order.next_batch();
        let mut rng = Rng::new(self.config.seed, Purpose::Masking(u32::try_from(step).unwrap_or(u32::MAX)));
        let batch = self.goal.batch(numbers.iter().map(|&row| &self.rows[row]), &mut rng);
        let inject = Inject::default();

        let (logits, saved) = model.forward(&batch.layout, &inject, columns);
        let loss = HEAD.loss(self.device, &logits, &batch.targets);
        model.backward(&loss.d_logits, &saved, &batch.layout, &inject, columns);
        optimizer.step(self.device, model.parameters_mut(), schedule.share(step));
        model.repack(columns);

        if !loss.mean.is_finite() {
            return Err(diverged(step));
        }
        progress.count_step(loss.mean, numbers.len(), begin.elapsed());
        training.tokens += batch.layout.rows();
        observe(Event::Step {
            step: step + 1,
            steps: self.config.train.steps,
            loss: loss.mean,
            tokens_per_s: training.tokens_per_s(),
            perplexity: training.perplexity(),
        });
        Ok(())
    }

    /// Evaluates and writes a line of the log. Until the loss is there nothing changes, so that the evaluation can be
    /// stopped and begun again.
    fn evaluate(&self, training: &mut Training, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let step = training.progress.step;
        let held_out = self.held_out_loss(&training.model, &training.columns, step, observe)?;
        let progress = &mut training.progress;
        let mut line = json!({"step": step});
        let loss = (step > 0).then_some(progress.take_mean_loss());
        if let Some(loss) = loss {
            line["loss"] = json!(loss);
            line["learning_rate"] = json!(training.schedule.rate(step - 1));
        }
        if let Some(held_out) = held_out {
            let metrics = Metrics::from([("loss", held_out), ("perplexity", held_out.exp())]);
            line["dev"] = json!(metrics);
            progress.kept = Some(metrics);
            observe(Event::Evaluated { step, loss, perplexity: held_out.exp() });
        }
        progress.evaluated = Some(step);
        progress.write_line(&line, self.out)
    }

    /// The mean loss over what is predicted in the lines held out; none where there are none.
    fn held_out_loss(
        &self,
        model: &Model,
        columns: &Columns,
        step: usize,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<f64>> {
        let (mut sum, mut count) = (0.0, 0);
        // No step has this number: a run is shorter.
        let mut rng = Rng::new(self.config.seed, Purpose::Masking(u32::MAX));
        for rows in consecutive(&lengths(&self.held_out), EVALUATED_ROWS) {
            let (done, total) = (rows.end, self.held_out.len());
            let batch = self.goal.batch(&self.held_out[rows], &mut rng);
            let (logits, _) = model.forward(&batch.layout, &Inject::default(), columns);
            let (losses, _) = self.device.cross_entropy(&logits, &batch.targets);
            sum += losses.read().iter().map(|loss| f64::from(*loss)).sum::<f64>();
            count += batch.targets.len();
            observe(Event::Working { what: "evaluating", done, total });
            self.check_stop(step)?;
        }
        if !f64::is_finite(sum) {
            return Err(diverged(step));
        }
        Ok((count > 0).then(|| sum / count as f64))
    }

    /// Saves the state, unless it is on disk already.
    fn save(&self, training: &mut Training) -> Result<()> {
        let done = training.progress.done();
        if done == training.saved {
            return Ok(());
        }
        let parameters = training.model.parameters().iter().zip(training.optimizer.moments());
        let tensors: Vec<(String, &Tensor)> = parameters
            .flat_map(|(parameter, [first, second])| {
                names(parameter).into_iter().zip([&parameter.value, first, second])
            })
            .collect();
        self.state(training).write(&state_file(self.out), &tensors)?;
        training.saved = done;
        Ok(())
    }

    fn state(&self, training: &Training) -> SavedState<Summary> {
        SavedState::new(self.identity.clone(), training.progress(), training.optimizer.steps())
    }

    /// Ends the work when the run was asked to stop.
    fn check_stop(&self, step: usize) -> Result<()> {
        match self.stop {
            Some(stop) if stop.load(Ordering::Relaxed) => Err(Error::Stopped { step }),
            _ => Ok(()),
        }
    }

    /// Writes the model, reads it back, and measures what was written.
    pub(super) fn finish(&self, training: Training, observe: &mut dyn FnMut(Event<'_>)) -> Result<Summary> {
        let state = self.state(&training);
        let step = training.progress.step;
        let finite = |parameter: &Parameter| parameter.value.read().iter().all(|value| value.is_finite());
        if !training.model.parameters().iter().all(finite) {
            return Err(diverged(step));
        }
        let directory = self.out.join("model");
        saved::write_trained(&directory, &self.began_from, &training.model, self.config.model.dtype)?;
        let model = Model::load(&ModelDirectory::open(&directory)?, &[], self.device, Gradients::None, &mut |_, _| {})?;
        let saved = self.held_out_loss(&model, &model.columns(None, false), step, observe)?;
        let summary = Summary {
            steps: step,
            seconds: training.progress().earlier.as_secs_f64(),
            tokens_per_s: training.tokens_per_s(),
            tokens: training.tokens,
            parameters: training.model.parameters().iter().map(Parameter::count).sum(),
            vocabulary: self.vocabulary,
            perplexity: training.perplexity(),
            saved_perplexity: saved.map(f64::exp),
            model_bytes: files::directory_bytes(&directory)?,
        };
        state.finished(summary.clone()).write(&state_file(self.out), &[])?;
        Ok(summary)
    }
}

fn lengths(rows: &[crate::pretrain::rows::Row]) -> Vec<usize> {
    rows.iter().map(|row| row.ids.len()).collect()
}

/// The names of a parameter and its moments in a state.
fn names(parameter: &Parameter) -> [String; 3] {
    [parameter.name.clone(), format!("{}.moment1", parameter.name), format!("{}.moment2", parameter.name)]
}

/// The training ran away.
fn diverged(step: usize) -> Error {
    Error::Failed(format!("the training left the finite numbers at step {step}; try a smaller train.learning_rate"))
}
