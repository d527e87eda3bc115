//! An adapter over its model: evaluate a file, answer examples.

use std::path::{Path, PathBuf};

use crate::adapter::{Adapter, Base};
use crate::checkpoint::{ModelDirectory, hub};
use crate::data::{Encoded, Example};
use crate::method::Head;
use crate::model::spec::ModelSpec;
use crate::model::{Columns, Gradients, Model};
use crate::tensor::{Device, Precision, Tensor};
use crate::train::Task;
use crate::train::evaluate::Scorer;
use crate::train::metrics::{Metrics, argmax};
use crate::{Error, Result};

/// A trained task, loaded with its model.
pub struct Predictor {
    task: Task,
    device: Device,
    model: Model,
    columns: Columns,
    prompt: Option<Tensor>,
}

/// The metrics of a file.
pub struct Evaluation {
    /// Rows scored.
    pub examples: usize,
    /// Their metrics.
    pub metrics: Metrics,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Prediction {
    /// Of a task with label words.
    Label {
        /// The most probable label.
        label: String,
        /// All labels with their probabilities (softmax over the label scores), in their order.
        probabilities: Vec<(String, f64)>,
    },
    /// Of a task without: the most probable words (softmax over the candidates), the best first.
    Words(Vec<(String, f64)>),
}

impl Predictor {
    /// Loads an adapter and its model: the one it was trained on; at `model`, a directory or a name as
    /// [`hub::locate`] takes it, if that has moved.
    /// `progress(loaded, total)` counts the model's tensors.
    ///
    /// # Errors
    /// Everything wrong with the adapter's files; a model that is not there or not the adapter's.
    pub fn open(
        adapter: &Path,
        model: Option<&Path>,
        device: &Device,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Predictor> {
        let loaded = Adapter::load(adapter)?;
        let description = &loaded.description;
        let model_path = match model {
            Some(model) => hub::locate(model, Path::new(""))?,
            None => find_base(adapter, &description.base)?,
        };
        let directory = ModelDirectory::open(&model_path)?;
        let spec = ModelSpec::read(&directory)?;
        loaded.check_base(&directory.fingerprint(&spec.embeddings.words)?, &model_path)?;
        let file = adapter.join("adapter.toml");
        let task = Task::from_adapter(description, &file, &directory, &spec)?;
        if task.template.pseudo_rows() != loaded.rows || loaded.width != spec.hidden {
            let (needs, has) = (task.template.pseudo_rows(), loaded.rows);
            let message = format!("the template needs {needs} prompt rows, the adapter has {has}");
            return Err(Error::key(&file, "task.template", message));
        }
        task.encoder()?;
        let precision = Precision::named(&description.compute).expect("checked when the adapter was loaded");
        let (device_of_model, tuned) = (device.with_precision(precision), loaded.tuned.open(adapter)?);
        let model = Model::load(&directory, &tuned, &device_of_model, Gradients::None, progress)?;
        let columns = model.columns(task.head.columns(false), false);
        let prompt = (loaded.rows > 0).then(|| device.upload(loaded.rows, loaded.width, &loaded.prompt));
        Ok(Predictor { task, device: device.clone(), model, columns, prompt })
    }

    /// The metrics of a labelled file. `progress(done, total)` counts rows.
    ///
    /// # Errors
    /// A bad file or line; the whole file is checked first.
    pub fn evaluate(&self, file: &Path, progress: &mut dyn FnMut(usize, usize)) -> Result<Evaluation> {
        let data = self.task.dataset(file)?;
        let metrics = self.scorer().evaluate(&data, &mut |done, total| {
            progress(done, total);
            Ok(())
        })?;
        Ok(Evaluation { examples: data.kept, metrics })
    }

    /// Answers examples, in their order; `top` is how many words a task without label words gives.
    ///
    /// # Errors
    /// An example that lacks a field or does not fit gets an error in its place; the others are answered.
    pub fn predict(&self, examples: &[Example], top: usize) -> Vec<Result<Prediction>> {
        let encoder = match self.task.encoder() {
            Ok(encoder) => encoder,
            Err(error) => return vec![Err(error)],
        };
        let encoded: Vec<Result<Encoded>> = examples.iter().map(|example| encoder.encode(example)).collect();
        let rows: Vec<&Encoded> = encoded.iter().filter_map(|row| row.as_ref().ok()).collect();
        let mut answers = Vec::with_capacity(rows.len());
        let scored = self.scorer().score(&rows, &mut |_, _| Ok(()), |_, scores| answers.push(self.answer(scores, top)));
        // What was scored before the scores stopped being finite is still answered.
        let mut failed = scored.err();
        let mut answers = answers.into_iter();
        let mut next = || answers.next().ok_or_else(|| failed.take().unwrap_or_else(unanswered));
        encoded.into_iter().map(|row| row.and_then(|_| next())).collect()
    }

    fn answer(&self, scores: &[f32], top: usize) -> Prediction {
        let probabilities = softmax(scores);
        match &self.task.head {
            Head::Verbalizer(verbalizer) => {
                let names = verbalizer.labels().iter().map(|label| label.name.clone());
                let label = verbalizer.labels()[argmax(scores)].name.clone();
                Prediction::Label { label, probabilities: names.zip(probabilities).collect() }
            }
            Head::Vocabulary { candidates, .. } => {
                let mut order: Vec<usize> = (0..scores.len()).collect();
                order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
                let token = |column: usize| candidates.as_ref().map_or(column as u32, |v| v.tokens()[column]);
                let word = |column: usize| (self.task.tokenizer.token(token(column)), probabilities[column]);
                Prediction::Words(order.into_iter().take(top).map(word).collect())
            }
        }
    }

    fn scorer(&self) -> Scorer<'_> {
        Scorer {
            device: &self.device,
            model: &self.model,
            columns: &self.columns,
            column_ids: self.task.head.columns(false),
            head: &self.task.head,
            prompt: self.prompt.as_ref(),
        }
    }
}

/// Where the model of an adapter is now.
fn find_base(adapter: &Path, base: &Base) -> Result<PathBuf> {
    hub::locate_again(Path::new(&base.path), &base.name).ok_or_else(|| {
        let message =
            format!("its model '{}' is not at {} any more; say where it is with --model", base.name, base.path);
        Error::file(adapter, message)
    })
}

fn unanswered() -> Error {
    Error::Failed("an example was not answered".into())
}

/// Softmax in f64: probabilities for people, which add up to 1.
fn softmax(scores: &[f32]) -> Vec<f64> {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f64> = scores.iter().map(|s| f64::from(s - highest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / sum).collect()
}
