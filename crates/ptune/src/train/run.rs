//! A whole run: read everything, check everything, train, keep the best prompt, evaluate, write.
//!
//! Nothing is written before all files have been read and found good. The run directory then holds `run.toml` (the run
//! file as resolved), `metrics.jsonl` (a line an evaluation, without times: the same run gives the same bytes) and
//! `adapter/`, which is replaced as a whole at every new best, so an interrupted run leaves its best adapter.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::adapter::{Adapter, Base, Description, Metrics as AdapterMetrics};
use crate::checkpoint::ModelDirectory;
use crate::data::{Dataset, pack};
use crate::method::{Head, Prompt};
use crate::model::spec::ModelSpec;
use crate::model::{Columns, Model};
use crate::tensor::Device;
use crate::train::config::RunConfig;
use crate::train::evaluate::Scorer;
use crate::train::metrics::Metrics;
use crate::train::prepare::{Data, describe_base, new_prompt, refuse_existing, tell_vocabulary};
use crate::train::{Event, Optimizer, Order, Schedule, Task, Trainer, check_loss, diverged};
use crate::{Error, Result, files};

/// What a run came to.
pub struct Summary {
    /// Steps made.
    pub steps: usize,
    /// Seconds of training and evaluation, without reading the model.
    pub seconds: f64,
    /// Training examples a second, evaluations not counted.
    pub train_examples_per_s: f64,
    /// Numbers trained.
    pub trainable_parameters: usize,
    /// Numbers of the model, which stayed as they were.
    pub frozen_parameters: usize,
    /// Bytes of the adapter's files.
    pub adapter_bytes: u64,
    /// Metrics of the kept prompt on dev.
    pub dev: Option<Metrics>,
    /// Metrics of the kept prompt on test.
    pub test: Option<Metrics>,
}

/// Trains the task of a run file and writes the run directory `out`, which must not hold a run yet.
///
/// # Errors
/// Anything wrong with the run file's values or the files it names, before anything is written; a failed write; a loss
/// that is not a number.
pub fn run(
    config: &RunConfig,
    file: &Path,
    out: &Path,
    device: &Device,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Summary> {
    refuse_existing(out)?;
    config.to_toml()?; // a path that TOML cannot name is refused before the others are opened
    let directory = ModelDirectory::open(&config.model)?;
    let spec = ModelSpec::read(&directory)?;
    let task = Task::from_run(config, file, &directory, &spec)?;
    let resolved = RunConfig { data: config.data.with_max_tokens(task.max_tokens()), ..config.clone() }.to_toml()?;
    tell_vocabulary(config, &task, observe);
    let initial_words = task.encoder()?.initial_words()?;
    config.prompt.init.check(&task.template, &initial_words)?;
    let data = Data::read(config, &task, observe)?;
    let base = describe_base(&directory, &spec)?;
    let trains = task.template.has_pseudo_tokens();
    if trains {
        config.require_length(file)?;
    }
    let model = Model::load(&directory, device, trains, &mut |done, total| observe(Event::Loading { done, total }))?;
    let prompt = new_prompt(config, file, device, &model, &initial_words)?;

    files::create_directory(out)?;
    files::write_atomically(&out.join("run.toml"), resolved.as_bytes())?;
    let columns = model.columns(task.head.columns(true), trains);
    let run = Run { config, out, device, task: &task, data: &data, model: &model, columns: &columns, base };
    run.train(prompt, observe)
}

/// Everything of a run but the prompt.
struct Run<'a> {
    config: &'a RunConfig,
    out: &'a Path,
    device: &'a Device,
    task: &'a Task,
    data: &'a Data,
    model: &'a Model,
    columns: &'a Columns,
    base: Base,
}

/// The kept prompt: the best on dev, or the last without dev.
struct Kept {
    rows: Vec<f32>,
    dev: Option<Metrics>,
}

/// How a run goes on.
#[derive(Default)]
struct Progress {
    log: String,
    kept: Option<Kept>,
    /// Evaluations since the best.
    idle: usize,
    /// Loss and steps since the last line of the log.
    loss: f64,
    steps: usize,
    stepping: Duration,
    examples: usize,
}

impl Run<'_> {
    fn train(&self, prompt: Prompt, observe: &mut dyn FnMut(Event<'_>)) -> Result<Summary> {
        let start = Instant::now();
        let config = &self.config.train;
        let rows = &self.data.train.examples;
        let a_epoch = Order::batches_per_epoch(rows.len(), config.batch_size);
        let steps = self.steps(&prompt, a_epoch);
        let eval_every = config.eval_every.unwrap_or(a_epoch);
        let schedule = Schedule {
            kind: config.schedule,
            learning_rate: config.learning_rate,
            warmup_steps: config.warmup_steps,
            steps,
            steps_per_epoch: a_epoch,
            decay: config.decay,
        };
        let optimizer =
            Optimizer::new(self.device, config.optimizer, config.weight_decay, config.clip_norm, prompt.parameters());
        let trainable_parameters = prompt.trainable();
        let (model, columns, device, head) = (self.model, self.columns, self.device, &self.task.head);
        let mut trainer = Trainer { model, columns, prompt, head, optimizer, device };
        let seed = self.config.data.shuffle.then_some(self.config.seed);
        let mut order = Order::new(rows.len(), config.batch_size, seed);
        let mut progress = Progress::default();
        self.evaluate(&trainer.prompt, 0, None, &mut progress, observe)?;
        let mut done = 0;
        while done < steps {
            let begin = Instant::now();
            let batch = order.next_batch();
            let layout = pack(batch.iter().map(|&row| &rows[row].encoded));
            let targets: Vec<u32> = batch.iter().map(|&row| rows[row].target).collect();
            let rate = schedule.rate(done);
            let loss = trainer.step(&layout, &targets, rate);
            check_loss(loss, done)?;
            done += 1;
            progress.step(loss, batch.len(), begin.elapsed());
            observe(progress.event(done, steps, loss, self.config.select().name()));
            if done % eval_every == 0 || done == steps {
                self.evaluate(&trainer.prompt, done, Some(rate), &mut progress, observe)?;
                if config.patience > 0 && progress.idle >= config.patience {
                    observe(Event::Note(&format!(
                        "stopped at step {done}: {} evaluations without a better one",
                        progress.idle
                    )));
                    break;
                }
            }
        }
        let (test, adapter_bytes) = self.finish(&trainer.prompt, &mut progress, observe)?;
        let stepping = progress.stepping.as_secs_f64();
        Ok(Summary {
            steps: done,
            seconds: start.elapsed().as_secs_f64(),
            train_examples_per_s: if done == 0 { 0.0 } else { progress.examples as f64 / stepping },
            trainable_parameters,
            frozen_parameters: self.model.parameters(),
            adapter_bytes,
            dev: progress.kept.and_then(|kept| kept.dev),
            test,
        })
    }

    /// Steps of the run: none where there is nothing to train.
    fn steps(&self, prompt: &Prompt, steps_per_epoch: usize) -> usize {
        match (prompt, self.config.train.steps, self.config.train.epochs) {
            (Prompt::Manual, ..) => 0,
            (_, Some(steps), _) => steps,
            (_, None, epochs) => epochs.unwrap_or(1).saturating_mul(steps_per_epoch),
        }
    }

    /// Evaluates on dev, keeps the prompt when it is the best or there is no dev, and writes a line of the log.
    fn evaluate(
        &self,
        prompt: &Prompt,
        step: usize,
        rate: Option<f64>,
        progress: &mut Progress,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let dev = self.data.dev.as_ref().map(|dev| self.score(prompt, dev, observe)).transpose()?;
        let select = self.config.select().name();
        let value = |metrics: &Option<Metrics>| metrics.as_ref().and_then(|m| m.get(select));
        let best_so_far = progress.kept.as_ref().and_then(|kept| value(&kept.dev));
        let better = match (value(&dev), best_so_far) {
            (Some(now), Some(best)) => now.partial_cmp(&best),
            _ => Some(std::cmp::Ordering::Greater), // the first, or no dev: the last is kept
        };
        // Ties keep the later, but only a better one resets the patience.
        let best = better.is_some_and(std::cmp::Ordering::is_ge);
        progress.idle = if better == Some(std::cmp::Ordering::Greater) { 0 } else { progress.idle + 1 };
        let mut line = json!({"step": step});
        if let Some(rate) = rate {
            line["loss"] = json!(progress.loss / progress.steps.max(1) as f64);
            line["learning_rate"] = json!(rate);
        }
        (progress.loss, progress.steps) = (0.0, 0);
        if let Some(metrics) = &dev {
            line["dev"] = json!(metrics);
            line["best"] = json!(best);
            observe(Event::Evaluated { step, metrics, best });
        }
        if best {
            let rows = prompt.forward(self.device).rows().map_or(Vec::new(), |rows| rows.read().to_vec());
            if rows.iter().any(|value| !value.is_finite()) {
                return Err(diverged(step));
            }
            let kept = Kept { rows, dev };
            // Without a dev set nothing is best yet: the adapter is written at the end.
            if kept.dev.is_some() {
                self.adapter(&kept, None).save(&self.out.join("adapter"))?;
            }
            progress.kept = Some(kept);
        }
        progress.write_line(&line, self.out)
    }

    /// Evaluates the kept prompt on test and writes the adapter for the last time.
    fn finish(
        &self,
        prompt: &Prompt,
        progress: &mut Progress,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<(Option<Metrics>, u64)> {
        let Some(kept) = &progress.kept else { return Err(Error::Failed("no prompt was kept".into())) };
        let rows = match prompt {
            Prompt::Manual => None,
            Prompt::Encoder(encoder) => Some(self.device.upload(encoder.rows(), self.base.width, &kept.rows)),
        };
        let scorer = self.scorer(rows.as_ref());
        let test = self
            .data
            .test
            .as_ref()
            .map(|test| scorer.evaluate(test, &mut |done, total| observe(Event::Evaluating { done, total })))
            .transpose()?;
        let directory = self.out.join("adapter");
        self.adapter(kept, test.as_ref()).save(&directory)?;
        if let Some(test) = &test {
            progress.write_line(&json!({"test": test}), self.out)?;
        }
        Ok((test, files::directory_bytes(&directory)?))
    }

    fn score(&self, prompt: &Prompt, data: &Dataset, observe: &mut dyn FnMut(Event<'_>)) -> Result<Metrics> {
        let prompt = prompt.forward(self.device);
        let mut progress = |done, total| observe(Event::Evaluating { done, total });
        self.scorer(prompt.rows()).evaluate(data, &mut progress)
    }

    fn scorer<'s>(&'s self, prompt: Option<&'s crate::Tensor>) -> Scorer<'s> {
        let (model, columns, head) = (self.model, self.columns, &self.task.head);
        Scorer { device: self.device, model, columns, column_ids: head.columns(true), head, prompt }
    }

    fn adapter(&self, kept: &Kept, test: Option<&Metrics>) -> Adapter {
        let config = self.config;
        let encoder = (!kept.rows.is_empty()).then_some(&config.prompt);
        let (labels, loss, vocabulary) = match &self.task.head {
            Head::Verbalizer(_) => (config.task.verbalizer.clone(), None, None),
            Head::Vocabulary { candidates, .. } => {
                let ids = candidates.as_ref().map(|vocabulary| vocabulary.tokens().to_vec());
                (Vec::new(), Some(config.task.loss.name().to_owned()), ids)
            }
        };
        let description = Description {
            template: config.task.template.clone(),
            target: config.task.target.clone(),
            causal_tail: config.task.causal_tail,
            max_tokens: self.task.max_tokens(),
            compute: config.compute.name().into(),
            encoder: encoder.map(|prompt| prompt.encoder.name().to_owned()),
            shapes: encoder.map(|prompt| prompt.shapes.name().to_owned()),
            loss,
            labels,
            vocabulary,
            base: self.base.clone(),
            metrics: AdapterMetrics {
                dev: kept.dev.as_ref().map(Metrics::to_map).unwrap_or_default(),
                test: test.map(Metrics::to_map).unwrap_or_default(),
            },
        };
        let width = self.base.width;
        Adapter { description, rows: kept.rows.len() / width, width, prompt: kept.rows.clone() }
    }
}

impl Progress {
    fn step(&mut self, loss: f64, examples: usize, time: Duration) {
        self.loss += loss;
        self.steps += 1;
        self.examples += examples;
        self.stepping += time;
    }

    fn event<'a>(&self, step: usize, steps: usize, loss: f64, select: &'a str) -> Event<'a> {
        let dev = self.kept.as_ref().and_then(|kept| kept.dev.as_ref()?.get(select));
        let examples_per_s = self.examples as f64 / self.stepping.as_secs_f64().max(1e-9);
        Event::Step { step, steps, loss, examples_per_s, dev: dev.map(|value| (select, value)) }
    }

    fn write_line(&mut self, line: &serde_json::Value, out: &Path) -> Result<()> {
        self.log += &line.to_string();
        self.log.push('\n');
        files::write_atomically(&out.join("metrics.jsonl"), self.log.as_bytes())
    }
}
