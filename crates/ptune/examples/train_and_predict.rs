//! Trains a task on the small model of the tree, saves it as an adapter of a few kilobytes, loads that, and answers.
//!
//! cargo run --release -p ptune --example train_and_predict
#![allow(clippy::print_stdout)] // An example for people.

use std::error::Error;
use std::path::Path;

use ptune::data::Example;
use ptune::predict::{Prediction, Predictor};
use ptune::train::config::{DataConfig, TaskConfig, TrainConfig};
use ptune::train::{Event, RunConfig};
use ptune::{Device, train};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let out = tempfile::tempdir()?.path().join("run");
    let words = |label: &str, word: &str| (label.to_owned(), vec![word.to_owned()]);

    // What is asked: six trained pseudo tokens around a text, and a word for each label.
    let config = RunConfig {
        model: tree.join("tiny-mlm"),
        data: DataConfig {
            train: tree.join("sentiment/train.jsonl"),
            dev: Some(tree.join("sentiment/dev.jsonl")),
            ..DataConfig::default()
        },
        task: TaskConfig {
            template: "[P*3] {text} it was [P*3] [MASK]".into(),
            verbalizer: vec![words("positive", "good"), words("negative", "bad")],
            ..TaskConfig::default()
        },
        train: TrainConfig { steps: Some(150), learning_rate: 3e-3, eval_every: Some(25), ..TrainConfig::default() },
        ..RunConfig::default()
    };

    // Training writes the run directory; the best adapter by the dev rows is in it.
    let device = Device::processor(None);
    let summary = train::run(&config.checked()?, Path::new("the example"), &out, &device, &mut |event| {
        if let Event::Evaluated { step, metrics, .. } = event {
            println!("step {step}: accuracy {}", metrics.get("accuracy").unwrap_or_default());
        }
    })?;
    println!("{} numbers trained, an adapter of {} bytes", summary.trainable_parameters, summary.adapter_bytes);

    // Any process that has the adapter and the model can answer.
    let predictor = Predictor::open(&out.join("adapter"), None, &device, &mut |_, _| {})?;
    let examples = ["a moving film .", "tedious music ."].map(|text| Example::from_fields([("text", text)]));
    for answer in predictor.predict(&examples, 1) {
        let Prediction::Label { label, probabilities } = answer? else { unreachable!("the task has labels") };
        println!("{label}  {probabilities:?}");
    }
    Ok(())
}
