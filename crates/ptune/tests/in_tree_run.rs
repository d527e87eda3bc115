//! The run of examples/sentiment as a test: a hand-written prompt is at chance, P-tuning of the same frozen model is not.

use std::path::{Path, PathBuf};

#[path = "../examples/train_and_predict.rs"]
mod train_and_predict;

use ptune::Device;
use ptune::train::metrics::Metrics;
use ptune::train::{RunConfig, Summary};

fn run(file: &str, overrides: &[(&str, &str)]) -> Summary {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(file);
    let overrides: Vec<(String, String)> = overrides.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let config = RunConfig::read(&file, &overrides).expect("a good run file");
    let out: PathBuf = tempfile::tempdir().expect("a temporary directory").path().join("run");
    ptune::train::run(&config, &file, &out, &Device::processor(None), &mut |_| {}).expect("a run")
}

fn test_metric(summary: &Summary, name: &str) -> f64 {
    summary.test.as_ref().and_then(|m: &Metrics| m.get(name)).expect("a test metric")
}

#[test]
fn from_a_manual_prompt_at_chance_to_nine_tenths() {
    let manual = run("sentiment/manual.toml", &[]);
    assert_eq!((manual.steps, manual.trainable_parameters), (0, 0));
    let before = test_metric(&manual, "accuracy");
    assert!((0.4..=0.6).contains(&before), "the hand-written prompt: {before}");

    let tuned = run("sentiment/run.toml", &[]);
    let after = test_metric(&tuned, "accuracy");
    assert!(after >= 0.9, "after P-tuning: {after}");
    assert_eq!(test_metric(&tuned, "majority"), 0.5);
    assert!(tuned.trainable_parameters > 0 && tuned.adapter_bytes < 10_000);
}

/// Every encoder and start learns the same task.
#[test]
fn every_encoder_and_start_learns() {
    for (encoder, init) in
        [("embedding", "vocabulary"), ("embedding", "random"), ("mlp", "random"), ("lstm", "vocabulary")]
    {
        let summary = run("sentiment/run.toml", &[("prompt.encoder", encoder), ("prompt.init", init)]);
        let accuracy = test_metric(&summary, "accuracy");
        assert!(accuracy >= 0.9, "{encoder} started from {init}: {accuracy}");
    }
}

/// Probing: the capitals of countries that the prompt was not trained on, among all words of the model.
#[test]
fn a_probe_finds_what_the_model_knows() {
    let untrained = run("capitals/run.toml", &[("task.template", "{subject} [MASK] .")]);
    assert_eq!(test_metric(&untrained, "p_at_1"), 0.0);
    let probe = run("capitals/run.toml", &[]);
    assert!(test_metric(&probe, "p_at_1") >= 0.9, "P@1 {}", test_metric(&probe, "p_at_1"));
    assert!(test_metric(&probe, "mrr") >= test_metric(&probe, "p_at_1"));
    assert_eq!((test_metric(&probe, "kept"), test_metric(&probe, "dropped")), (28.0, 0.0));
}

/// The example of the documentation.
#[test]
fn the_example_runs() {
    train_and_predict::main().expect("the example");
}
