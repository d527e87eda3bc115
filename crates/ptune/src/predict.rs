//! An adapter over its model: evaluate a file, answer examples, write texts.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::adapter::{Adapter, Base, Description};
use crate::checkpoint::{ModelDirectory, Weights, hub};
use crate::data::{Encoded, Encoder, Example};
use crate::generate::{Writer, Writing, Written};
use crate::method::{Classifier, Head, Injection};
use crate::model::spec::ModelSpec;
use crate::model::{Additions, Columns, Model};
use crate::tensor::{Device, Precision};
use crate::train::Task;
use crate::train::evaluate::Scorer;
use crate::train::metrics::{Metrics, argmax};
use crate::train::task::classifier_in;
use crate::{Error, Result};

/// A trained task, loaded with its model.
pub struct Predictor {
    task: Task,
    device: Device,
    /// One for all adapters that stand beside it.
    model: Arc<Model>,
    /// Where it is.
    directory: PathBuf,
    fingerprint: String,
    /// Whether its weights are the adapter's own.
    is_own: bool,
    columns: Columns,
    prompt: Injection,
    classifier: Option<Classifier>,
    additions: Option<Additions>,
    precision: Precision,
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
    /// Of a task with labels.
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
        let precision = Precision::named(&description.compute).expect("checked when the adapter was loaded");
        let (device_of_model, tuned) = (device.with_precision(precision), loaded.tuned.open(adapter)?);
        // The tokenizer and the fingerprint take about as long as the weights of a small model.
        let (task, model) = std::thread::scope(|scope| {
            let task = scope.spawn(|| task_of(&loaded, adapter, &directory, &spec));
            let model = loaded.tuned.load_model(adapter, &tuned, &directory, &device_of_model, progress);
            (task.join().unwrap_or_else(|panic| resume_unwind(panic)), model)
        });
        let (task, model) = (task?, model?);
        let model = if matches!(task.head, Head::Classifier(_)) { model.without_head() } else { model };
        Self::with(task, Arc::new(model), &directory, &loaded, &tuned, device)
    }

    /// Another adapter over the model of this one, which is in memory once for both: prompts, classifiers and low-rank
    /// additions stand beside it. `None` where that cannot be: of another model or in another precision, or where the
    /// weights or the head of the model are those of one of the two.
    ///
    /// # Errors
    /// Everything wrong with the adapter's files.
    pub fn beside(&self, adapter: &Path) -> Result<Option<Predictor>> {
        let loaded = Adapter::load(adapter)?;
        let Description { base, compute, .. } = &loaded.description;
        let same = base.fingerprint == self.fingerprint && *compute == self.precision.name();
        if !same || self.is_own || loaded.tuned.changes_model() {
            return Ok(None);
        }
        let directory = ModelDirectory::open(&self.directory)?;
        let tuned = loaded.tuned.open(adapter)?;
        loaded.tuned.check(adapter, self.model.spec())?;
        let task = task_of(&loaded, adapter, &directory, self.model.spec())?;
        if !self.model.has_head() && !matches!(task.head, Head::Classifier(_)) {
            return Ok(None);
        }
        Self::with(task, Arc::clone(&self.model), &directory, &loaded, &tuned, &self.device).map(Some)
    }

    /// An adapter, whose `tuned` files were opened, over its model.
    fn with(
        task: Task,
        model: Arc<Model>,
        directory: &ModelDirectory,
        loaded: &Adapter,
        tuned: &[Weights],
        device: &Device,
    ) -> Result<Predictor> {
        let Description { base, compute, .. } = &loaded.description;
        Ok(Predictor {
            device: device.clone(),
            directory: directory.path().into(),
            fingerprint: base.fingerprint.clone(),
            is_own: loaded.tuned.changes_model(),
            columns: task.head.columns_of(&model, false),
            prompt: loaded.injection(device, &model),
            classifier: classifier_in(tuned, &model, &task.head, device)?,
            additions: loaded.tuned.additions(tuned, &model)?,
            precision: Precision::named(compute).expect("checked when the adapter was loaded"),
            task,
            model,
        })
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

    /// The fields that an example must have.
    pub fn fields(&self) -> Vec<&str> {
        self.task.template.fields()
    }

    /// Whether the model computes in less than f32: then another processor comes to scores that differ visibly.
    pub fn is_narrow(&self) -> bool {
        self.precision != Precision::F32
    }

    /// The scores behind the answers to examples: of every label, of every candidate, or of every token that a text may begin
    /// with.
    ///
    /// # Errors
    /// An example that lacks a field or does not fit; scores that are not finite.
    pub fn scores(&self, examples: &[Example]) -> Result<Vec<Vec<f32>>> {
        let encoder = self.encoder()?;
        let rows = examples.iter().map(|example| encoder.encode(example)).collect::<Result<Vec<Encoded>>>()?;
        let mut scores = Vec::with_capacity(rows.len());
        let each = |_, row: &[f32]| scores.push(row.to_vec());
        self.scorer().score(&rows.iter().collect::<Vec<_>>(), &mut |_, _| Ok(()), each)?;
        Ok(scores)
    }

    /// Answers examples, in their order; `top` is how many words a task without label words gives.
    ///
    /// # Errors
    /// An example that lacks a field or does not fit gets an error in its place; the others are answered.
    pub fn predict(&self, examples: &[Example], top: usize) -> Vec<Result<Prediction>> {
        match self.encoder() {
            Ok(encoder) => self.answer(examples.iter().map(|example| encoder.encode(example)).collect(), top),
            Err(error) => vec![Err(error)],
        }
    }

    /// What turns examples into rows for [`Predictor::answer`]: another thread can do that while this one answers.
    ///
    /// # Errors
    /// A special token that the template needs and the model lacks.
    pub fn encoder(&self) -> Result<Encoder<'_>> {
        self.task.encoder()
    }

    /// Refuses a task whose answers are texts: it has no label or word to predict.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub fn check_predicts(&self) -> Result<()> {
        match self.task.head {
            Head::Text { .. } => Err(Error::request("this adapter answers with text: use ptune generate")),
            _ => Ok(()),
        }
    }

    /// Refuses a task whose answers are labels or words: its prompt was not trained to write.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub fn check_generates(&self) -> Result<()> {
        self.writer().map(drop)
    }

    /// The most tokens of an answer that is a text, as the task says; none of another task.
    pub fn answer_tokens(&self) -> Option<usize> {
        match self.task.head {
            Head::Text { longest, .. } => Some(longest),
            _ => None,
        }
    }

    /// Writes answers to encoded examples, in their order, an error in the place of an error. `numbers` are those of the
    /// examples, by which their random numbers are drawn. `grown(example, tokens, fresh)` hears of every token of an example,
    /// with what is certain of its text since the last.
    ///
    /// # Errors
    /// A task whose answers are no texts.
    pub fn generate(
        &self,
        encoded: Vec<Result<Encoded>>,
        numbers: &[usize],
        writing: &Writing,
        grown: &mut dyn FnMut(usize, usize, &str),
    ) -> Result<Vec<Result<Written>>> {
        let writer = self.writer()?;
        let asked: Vec<usize> = (0..encoded.len()).filter(|&example| encoded[example].is_ok()).collect();
        let rows: Vec<&Encoded> = encoded.iter().filter_map(|row| row.as_ref().ok()).collect();
        let numbers: Vec<usize> = asked.iter().map(|&example| numbers[example]).collect();
        let grown = &mut |row: usize, tokens, fresh: &str| grown(asked[row], tokens, fresh);
        let mut texts = Vec::with_capacity(rows.len());
        let mut failed = writer.write(&rows, &numbers, writing, grown, |_, text| texts.push(text)).err();
        // What was written before the scores stopped being finite is still an answer.
        let mut texts = texts.into_iter();
        let mut next = || texts.next().ok_or_else(|| failed.take().unwrap_or_else(unanswered));
        Ok(encoded.into_iter().map(|row| row.and_then(|_| next())).collect())
    }

    fn writer(&self) -> Result<Writer<'_>> {
        let Head::Text { end, .. } = self.task.head else {
            let message = "this adapter answers with a label or a word: use ptune predict; what is to be generated is \
                           trained with task.answer = \"text\"";
            return Err(Error::request(message));
        };
        let Predictor { task, device, model, columns, prompt, additions, .. } = self;
        let inject = prompt.inject().with_lora(additions.as_ref());
        Ok(Writer { device, model, columns, inject, tokenizer: &task.tokenizer, end })
    }

    /// Answers encoded examples, in their order, an error in the place of an error.
    pub fn answer(&self, encoded: Vec<Result<Encoded>>, top: usize) -> Vec<Result<Prediction>> {
        if self.check_predicts().is_err() {
            return encoded.into_iter().map(|row| row.and_then(|_| Err(self.check_predicts().unwrap_err()))).collect();
        }
        let rows: Vec<&Encoded> = encoded.iter().filter_map(|row| row.as_ref().ok()).collect();
        let mut answers = Vec::with_capacity(rows.len());
        let mut answer = |_, scores: &[f32]| answers.push(self.prediction(scores, top));
        let scored = self.scorer().score(&rows, &mut |_, _| Ok(()), &mut answer);
        // What was scored before the scores stopped being finite is still answered.
        let mut failed = scored.err();
        let mut answers = answers.into_iter();
        let mut next = || answers.next().ok_or_else(|| failed.take().unwrap_or_else(unanswered));
        encoded.into_iter().map(|row| row.and_then(|_| next())).collect()
    }

    fn prediction(&self, scores: &[f32], top: usize) -> Prediction {
        match &self.task.head {
            Head::Verbalizer(_) | Head::Classifier(_) => {
                let labels = self.task.head.labels().unwrap_or_default();
                let label = labels[argmax(scores)].to_owned();
                let names = labels.into_iter().map(str::to_owned);
                Prediction::Label { label, probabilities: names.zip(softmax(scores)).collect() }
            }
            Head::Vocabulary { candidates, .. } => {
                let best = highest(scores, top);
                let token = |column: usize| candidates.as_ref().map_or(column as u32, |v| v.tokens()[column]);
                let words = best.iter().map(|&column| self.task.tokenizer.token(token(column)));
                Prediction::Words(words.zip(self.probabilities(scores, &best)).collect())
            }
            Head::Text { .. } => unreachable!("`answer` refuses texts"),
        }
    }

    /// The probabilities of a few of many candidates.
    fn probabilities(&self, scores: &[f32], chosen: &[usize]) -> Vec<f64> {
        if chosen.is_empty() {
            return Vec::new();
        }
        // The sum over a whole vocabulary is the kernel's: exponentials one by one would cost more than a small model.
        let scores = self.device.upload(1, scores.len(), scores);
        let places = chosen.iter().map(|&column| (0, column as u32)).collect();
        let (logarithms, _) = self.device.log_probabilities(&scores, places, chosen.len());
        logarithms.read().iter().map(|&logarithm| f64::from(logarithm).exp()).collect()
    }

    fn scorer(&self) -> Scorer<'_> {
        Scorer {
            device: &self.device,
            model: &self.model,
            columns: &self.columns,
            column_ids: self.task.head.columns(false),
            head: &self.task.head,
            weights: self.task.weights(),
            prompt: &self.prompt,
            classifier: self.classifier.as_ref(),
            additions: self.additions.as_ref(),
        }
    }
}

/// The task of an adapter over the model that it was trained on.
pub(crate) fn task_of(loaded: &Adapter, adapter: &Path, directory: &ModelDirectory, spec: &ModelSpec) -> Result<Task> {
    loaded.check_base(&directory.fingerprint(&spec.embeddings.words)?, directory.path())?;
    let file = adapter.join("adapter.toml");
    let task = Task::from_adapter(&loaded.description, &file, directory, spec)?;
    if task.prompt_rows() != loaded.rows || loaded.width != spec.embeddings.width {
        let (needs, has) = (task.prompt_rows(), loaded.rows);
        let message = format!("the template needs {needs} prompt rows, the adapter has {has}");
        return Err(Error::key(&file, "task.template", message));
    }
    if loaded.prefix.rows > 0 && loaded.prefix.width != spec.past_width() {
        let (needs, has) = (spec.past_width(), loaded.prefix.width);
        let message =
            format!("a prefix row has {has} numbers; keys and values of every block of the model are {needs}");
        return Err(Error::key(&file, "prompt.prefix_width", message));
    }
    task.encoder()?;
    Ok(task)
}

/// Where the model of an adapter is now.
pub(crate) fn find_base(adapter: &Path, base: &Base) -> Result<PathBuf> {
    hub::locate_again(Path::new(&base.path), &base.name).ok_or_else(|| {
        let message =
            format!("its model '{}' is not at {} any more; say where it is with --model", base.name, base.path);
        Error::file(adapter, message)
    })
}

fn unanswered() -> Error {
    Error::Failed("an example was not answered".into())
}

/// The columns of the `top` highest scores, the highest first; of equal ones the first.
fn highest(scores: &[f32], top: usize) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::with_capacity(top.min(scores.len()) + 1);
    for (column, score) in scores.iter().enumerate() {
        if best.len() < top || best.last().is_some_and(|&last| *score > scores[last]) {
            best.insert(best.partition_point(|&other| scores[other] >= *score), column);
            best.truncate(top);
        }
    }
    best
}

/// Softmax in f64: probabilities for people, which add up to 1.
fn softmax(scores: &[f32]) -> Vec<f64> {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f64> = scores.iter().map(|s| f64::from(s - highest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_scores_are_those_of_a_sort() {
        let scores: Vec<f32> = (0..200).map(|i| (i * 7919 % 31) as f32).collect();
        let mut sorted: Vec<usize> = (0..scores.len()).collect();
        sorted.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        for top in [0, 1, 2, 5, 199, 200, 1000] {
            assert_eq!(highest(&scores, top), sorted[..top.min(200)], "{top} of 200");
        }
        assert!(highest(&[], 3).is_empty());
    }
}
