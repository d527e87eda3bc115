//! The end of a run, and how what is trained is kept: as the adapter on disk.

use std::path::Path;
use std::time::Instant;

use super::progress::Progress;
use super::training::Training;
use super::{Run, Summary};
use crate::adapter::{Adapter, Base, Description, Discrete, Matrix, Metrics as AdapterMetrics, Tuned};
use crate::checkpoint::{ModelDirectory, Weights};
use crate::method::Head;
use crate::model::Model;
use crate::parameter::Parameter;
use crate::train::config::HeadKind;
use crate::train::metrics::Metrics;
use crate::train::state::State;
use crate::train::task::classifier_in;
use crate::train::{Event, Learner, RunConfig, Task, Trainer, diverged};
use crate::{Error, Result, files};

impl Training<'_> {
    /// Evaluates the kept prompt on test and writes its adapter for the last time. The trainer comes back for the next
    /// run, unless the model was trained along: such a one belongs to this run.
    pub(super) fn finish<'t>(
        self,
        trainer: Trainer<'t>,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<(Summary, Trainer<'t>)> {
        let since = Instant::now();
        let Training { run, learner, mut progress, .. } = self;
        if progress.kept.is_none() {
            // Without a dev set the last prompt is the kept one.
            run.keep(&trainer.model, &learner, progress.step, None)?;
        }
        let trainable_parameters = learner.parameters(&trainer.model).map(Parameter::count).sum();
        let frozen_parameters = trainer.model.frozen();
        let optimizer_steps = learner.optimizer.steps();
        drop(learner); // where the model was trained its memory is needed
        let (test, trainer) = run.test(trainer, &progress, observe)?;
        if let Some(test) = &test {
            progress.write_line(&serde_json::json!({"test": test}), &run.out)?;
        }
        let progress = Progress { earlier: progress.earlier + since.elapsed(), ..progress };
        let summary = Summary {
            steps: progress.step,
            seconds: progress.earlier.as_secs_f64(),
            train_examples_per_s: progress.examples_per_s(),
            trainable_parameters,
            frozen_parameters,
            adapter_bytes: files::directory_bytes(&run.adapter())?,
            dev: progress.kept.clone(),
            test,
        };
        // From here on the run is finished: what was needed to go on makes room.
        let state = State::new(run.identity.clone(), progress, optimizer_steps);
        state.finished(summary.clone()).write(&run.state(), &[])?;
        Ok((summary, trainer))
    }
}

impl Run<'_> {
    /// Keeps what is trained: writes the adapter, replacing an older one.
    pub(super) fn keep(&self, model: &Model, learner: &Learner<'_>, step: usize, dev: Option<&Metrics>) -> Result<()> {
        let injection = learner.prompt.forward(self.device, model);
        let [rows, prefix] = [injection.rows(), injection.prefix()].map(Matrix::of);
        let (classifier, additions) = (learner.classifier.as_ref(), learner.additions.as_ref());
        let weights = learner.parameters(model).flat_map(|parameter| parameter.value.read());
        if rows.values.iter().chain(&prefix.values).chain(weights).any(|value| !value.is_finite()) {
            return Err(diverged(step));
        }
        let directory = self.adapter();
        let mut description = describe(&self.config, self.task, self.base, rows.rows > 0);
        description.metrics.dev = dev.map(Metrics::to_map).unwrap_or_default();
        let trained = !model.parameters().is_empty() || classifier.is_some() || additions.is_some();
        let tuned = if trained { Tuned::write(&directory, model, classifier, additions)? } else { Tuned::default() };
        let width = self.base.width;
        let adapter = Adapter { description, rows: rows.rows, width, prompt: rows.values, prefix, tuned };
        adapter.save(&directory)
    }

    /// The kept adapter's metrics on test, which go into it too.
    fn test<'t>(
        &self,
        trainer: Trainer<'t>,
        progress: &Progress,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<(Option<Metrics>, Trainer<'t>)> {
        let Some(test) = &self.data.test else { return Ok((None, trainer)) };
        let directory = self.adapter();
        let mut kept = Adapter::load(&directory)?;
        if kept.description.metrics.dev != progress.kept.as_ref().map(Metrics::to_map).unwrap_or_default() {
            let message = "is not the best prompt of this run any more: it was replaced while the run was under way";
            return Err(Error::file(&directory, message));
        }
        let tuned = kept.tuned.open(&directory)?;
        let trainer = self.kept_model(trainer, &kept.tuned, &tuned)?;
        let classifier = classifier_in(&tuned, &trainer.model, &self.task.head, self.device)?;
        let additions = kept.tuned.additions(&tuned, &trainer.model)?;
        let step = progress.step;
        let prompt = kept.injection(self.device, &trainer.model);
        let mut progress = |done, total| {
            observe(Event::Evaluating { done, total });
            self.check_stop(step)
        };
        let metrics =
            self.scorer(&trainer, &prompt, classifier.as_ref(), additions.as_ref()).evaluate(test, &mut progress)?;
        kept.description.metrics.test = metrics.to_map();
        kept.save(&directory)?;
        Ok((Some(metrics), trainer))
    }

    /// The model that the kept adapter belongs to: what was trained of it has moved on since, and comes from the adapter.
    fn kept_model<'t>(&self, trainer: Trainer<'t>, tuned: &Tuned, files: &[Weights]) -> Result<Trainer<'t>> {
        if trainer.model.parameters().is_empty() {
            return Ok(trainer); // additions and classifiers stand beside it
        }
        let device = trainer.device;
        drop(trainer); // its memory is needed
        let directory = ModelDirectory::open(Path::new(&self.base.path))?; // `config.model` may be a name
        let model = tuned.load_model(&self.adapter(), files, &directory, device, &mut |_, _| {})?;
        let columns = self.task.head.columns_of(&model, true);
        Ok(Trainer { model, columns, device })
    }
}

/// The words of an adapter that a run has trained; its metrics are still to come.
pub(crate) fn describe(config: &RunConfig, task: &Task, base: &Base, has_rows: bool) -> Description {
    let encoder = has_rows.then_some(&config.prompt);
    let (labels, loss, vocabulary, answer_tokens) = match &task.head {
        Head::Verbalizer(_) => (config.task.verbalizer.clone(), None, None, None),
        Head::Classifier(labels) => {
            (labels.iter().map(|label| (label.clone(), Vec::new())).collect(), None, None, None)
        }
        Head::Vocabulary { candidates, .. } => {
            let ids = candidates.as_ref().map(|vocabulary| vocabulary.tokens().to_vec());
            (Vec::new(), Some(config.task.loss.name().to_owned()), ids, None)
        }
        Head::Text { longest, .. } => (Vec::new(), None, None, Some(*longest)),
    };
    Description {
        template: config.task.template.clone(),
        target: config.task.target.clone(),
        causal_tail: config.task.causal_tail,
        max_tokens: task.max_tokens(),
        compute: config.compute.name().into(),
        encoder: encoder.map(|prompt| prompt.encoder.name().to_owned()),
        shapes: encoder.map(|prompt| prompt.shapes.name().to_owned()),
        prefix_tokens: task.prefix_tokens(),
        head: matches!(task.head, Head::Classifier(_)).then(|| HeadKind::Classifier.name().to_owned()),
        loss,
        answer_tokens,
        labels,
        vocabulary,
        discrete: Discrete::default(),
        base: base.clone(),
        metrics: AdapterMetrics::default(),
    }
}
