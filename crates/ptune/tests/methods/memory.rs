//! What a run has in memory behind its last step, to compare with what it wrote and with what it began with.

use std::fs;
use std::path::Path;

use ptune::Device;
use ptune::checkpoint::{ModelDirectory, Weights};
use ptune::data::{Encoded, Example};
use ptune::model::{Gradients, Model};
use ptune::parameter::Group;
use ptune::predict::Predictor;
use ptune::tensor::Precision;
use ptune::train::evaluate::Scorer;
use ptune::train::{Learner, RunConfig, Task};
use safetensors::tensor::{Dtype, TensorView, serialize};

use crate::scene::{Choice, Family, TEXTS, families};

/// Scores of all labels or words for every text, to the bit; of a text head the metrics of the rows.
#[derive(Debug, PartialEq)]
pub(crate) enum Answers {
    Scores(Vec<Vec<u32>>),
    Metrics(Vec<(String, String)>),
}

/// What training left in memory.
#[derive(Debug, PartialEq)]
pub(crate) struct Memory {
    pub(crate) answers: Answers,
    /// Digest of the weights that are not trained.
    pub(crate) frozen: String,
}

fn bits(scores: &[f32]) -> Vec<u32> {
    scores.iter().map(|x| x.to_bits()).collect()
}

fn examples() -> Vec<Example> {
    TEXTS.iter().map(|text| Example::from_fields([("text", *text)])).collect()
}

impl Memory {
    pub(crate) fn of(model: &Model, learner: &Learner<'_>, config: &RunConfig, file: &Path) -> Memory {
        let device = &Device::processor(Some(1));
        let directory = ModelDirectory::open(&config.model).expect("a model directory");
        let task = Task::from_run(config, file, &directory, model.spec()).expect("a task");
        let (head, prompt) = (&task.head, &learner.prompt.forward(device, model));
        let (columns, column_ids) = (&head.columns_of(model, false), head.columns(false));
        let (classifier, additions) = (learner.classifier.as_ref(), learner.additions.as_ref());
        let scorer = Scorer { device, model, columns, column_ids, head, prompt, classifier, additions, weights: &[] };
        let answers = if config.is_text() {
            let rows = task.dataset(&file.with_file_name("rows.jsonl")).expect("the rows");
            let metrics = scorer.evaluate(&rows, &mut |_, _| Ok(())).expect("metrics");
            Answers::Metrics(metrics.iter().map(|(name, value)| (name.into(), value.to_string())).collect())
        } else {
            let encoder = task.encoder().expect("an encoder");
            let rows: Vec<Encoded> = examples().iter().map(|row| encoder.encode(row).expect("a row")).collect();
            let mut scores = Vec::new();
            let each = |_, row: &[f32]| scores.push(bits(row));
            scorer.score(&rows.iter().collect::<Vec<_>>(), &mut |_, _| Ok(()), each).expect("scores");
            Answers::Scores(scores)
        };
        Memory { answers, frozen: model.frozen_digest() }
    }
}

impl Answers {
    /// Of the adapter on disk.
    pub(crate) fn of(adapter: &Path, rows: &Path, is_text: bool) -> Answers {
        let predictor =
            Predictor::open(adapter, None, &Device::processor(Some(1)), &mut |_, _| {}).expect("an adapter");
        if is_text {
            let metrics = predictor.evaluate(rows, &mut |_, _| {}).expect("metrics").metrics;
            return Answers::Metrics(metrics.iter().map(|(name, value)| (name.into(), value.to_string())).collect());
        }
        let scores = predictor.scores(&examples()).expect("scores");
        Answers::Scores(scores.iter().map(|scores| bits(scores)).collect())
    }
}

/// Digest of the weights as the checkpoint has them that this choice does not train.
pub(crate) fn untouched(family: &Family, choice: Choice) -> String {
    let (gradients, precision) = match (choice.backbone, choice.prompt) {
        ("full", _) => (Gradients::Weights, Precision::F32),
        ("frozen", "manual") => (Gradients::None, Precision::fastest()),
        _ => (Gradients::Inputs, Precision::fastest()),
    };
    let directory = ModelDirectory::open(&family.model).expect("a model directory");
    let device = Device::processor(Some(1)).with_precision(precision);
    let model = Model::load(&directory, &[], &device, gradients, &mut |_, _| {}).expect("a model");
    if choice.head == "classifier" { model.without_head().frozen_digest() } else { model.frozen_digest() }
}

/// A tensor of the checkpoint in other numbers gives another digest: it is all there.
#[test]
fn the_digest_sees_every_weight() {
    let device = Device::processor(Some(1));
    let place = tempfile::tempdir().expect("a temporary directory");
    let file = place.path().join("other.safetensors");
    for family in families() {
        let directory = ModelDirectory::open(&family.model).expect("a model directory");
        let load = |tuned: &[Weights], gradients| {
            Model::load(&directory, tuned, &device, gradients, &mut |_, _| {}).expect("a model")
        };
        let trained = load(&[], Gradients::Weights);
        let untouched = load(&[], Gradients::None).frozen_digest();
        assert_eq!(untouched, load(&[], Gradients::None).frozen_digest(), "{}", family.name);
        for tensor in [Group::Backbone, Group::Head].iter().flat_map(|group| trained.trained_tensors(*group)) {
            let (shape, mut numbers) = (tensor.shape.to_vec(), Vec::new());
            directory.weights().read_into(tensor.name, &shape, &mut numbers).expect("a tensor");
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| (x + 0.5).to_le_bytes()).collect();
            let view = TensorView::new(Dtype::F32, shape, &bytes).expect("a tensor");
            fs::write(&file, serialize([(tensor.name, view)], None).expect("a file")).expect("a file");
            let other = load(&[Weights::open_file(&file).expect("a file")], Gradients::None).frozen_digest();
            assert_ne!(other, untouched, "{}: {}", family.name, tensor.name);
        }
    }
}
