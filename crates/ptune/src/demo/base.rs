//! A model that prompts are asked of, frozen: tasks over it, scores, answers in words.

use std::path::Path;

use crate::Result;
use crate::adapter::Base as Description;
use crate::checkpoint::{ModelDirectory, hub};
use crate::data::{Dataset, Encoded};
use crate::files::built_in;
use crate::method::{Head, Injection};
use crate::model::spec::ModelSpec;
use crate::model::{Columns, Gradients, Model};
use crate::prompt::{CausalTail, Vocabulary};
use crate::tensor::Device;
use crate::train::config::{BackboneMode, Compute, TaskConfig};
use crate::train::evaluate::Scorer;
use crate::train::metrics::{Metrics, argmax};
use crate::train::{RunConfig, Task, describe_base};

/// What errors of a task name in the place of a run file.
pub(super) const PLACE: &str = "demo";

/// An opened model; its weights are apart, because they go through the hands of a trainer.
pub(super) struct Base {
    pub(super) name: String,
    pub(super) directory: ModelDirectory,
    pub(super) spec: ModelSpec,
    pub(super) compute: Compute,
    pub(super) device: Device,
    pub(super) described: Description,
}

/// A prompt: what is asked, and the run that trains it.
pub(super) struct Asked {
    pub(super) config: RunConfig,
    pub(super) task: Task,
}

impl Base {
    /// Opens a model by its name and loads its weights.
    pub(super) fn open(name: &str, device: &Device) -> Result<(Base, Model)> {
        // The built-in one, even where a directory has its name.
        let built_in = built_in::directory(Path::new(name));
        let path = built_in.map_or_else(|| hub::locate(Path::new(name), Path::new("")), Ok)?;
        Base::over(name, ModelDirectory::open(&path)?, device)
    }

    /// A model in an opened directory.
    pub(super) fn over(name: &str, directory: ModelDirectory, device: &Device) -> Result<(Base, Model)> {
        let spec = ModelSpec::read(&directory)?;
        let compute = Compute::fastest(BackboneMode::Frozen);
        let device = device.with_precision(compute.precision());
        let weights = Model::load(&directory, &[], &device, Gradients::Inputs, &mut |_, _| {})?;
        let described = describe_base(&directory, &spec)?;
        Ok((Base { name: name.into(), directory, spec, compute, device, described }, weights))
    }

    /// The task of a template whose answers are looked for among `words`.
    pub(super) fn ask(&self, template: &str, words: &[&str]) -> Result<Asked> {
        let causal_tail = if self.spec.causal { CausalTail::Drop } else { CausalTail::Error };
        let task =
            TaskConfig { template: template.into(), target: "obj_label".into(), causal_tail, ..Default::default() };
        let config = RunConfig { model: self.name.clone().into(), compute: self.compute, task, ..Default::default() };
        let mut task = Task::from_run(&config, Path::new(PLACE), &self.directory, &self.spec)?;
        let words = Vocabulary::from_words(words.iter().copied(), &task.tokenizer, task.template.answer_glue())?;
        task.head = Head::Vocabulary { candidates: Some(words), restrict_loss: false };
        Ok(Asked { config, task })
    }

    /// What scores rows of a task with a prompt in place.
    fn scorer<'s>(&'s self, sight: &Sight<'s>, task: &'s Task) -> Scorer<'s> {
        let Sight { model, columns, training, prompt } = *sight;
        Scorer {
            device: &self.device,
            model,
            columns,
            column_ids: task.head.columns(training),
            head: &task.head,
            prompt,
            weights: &[],
            classifier: None,
            additions: None,
        }
    }

    /// How many of these facts a prompt gets right.
    pub(super) fn metrics(&self, sight: &Sight<'_>, task: &Task, data: &Dataset) -> Result<Metrics> {
        self.scorer(sight, task).evaluate(data, &mut |_, _| Ok(()))
    }

    /// The same of a manual prompt.
    pub(super) fn by_hand(&self, model: &Model, task: &Task, data: &Dataset) -> Result<Metrics> {
        let columns = model.columns(task.head.columns(false), false);
        let sight = Sight { model, columns: &columns, training: false, prompt: &Injection::default() };
        self.metrics(&sight, task, data)
    }

    /// The first word that comes to its mind for each of some rows.
    pub(super) fn words(&self, model: &Model, task: &Task, prompt: &Injection, data: &Dataset) -> Result<Vec<String>> {
        let columns = model.columns(task.head.columns(false), false);
        let sight = Sight { model, columns: &columns, training: false, prompt };
        let rows: Vec<&Encoded> = data.examples.iter().map(|row| &row.encoded).collect();
        let Head::Vocabulary { candidates: Some(candidates), .. } = &task.head else { return Ok(Vec::new()) };
        let mut words = Vec::with_capacity(rows.len());
        self.scorer(&sight, task).score(&rows, &mut |_, _| Ok(()), |_, scores| {
            words.push(task.tokenizer.token(candidates.tokens()[argmax(scores)]));
        })?;
        Ok(words)
    }
}

/// A model, the columns of its head, and the prompt in front of it.
#[derive(Clone, Copy)]
pub(super) struct Sight<'s> {
    pub(super) model: &'s Model,
    pub(super) columns: &'s Columns,
    /// Whether the columns are those of training.
    pub(super) training: bool,
    pub(super) prompt: &'s Injection,
}
