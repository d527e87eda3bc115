//! A merged model gives the answers of the adapter that was merged, in any family, and cannot be merged into again.

use std::path::Path;

use ptune::Device;
use ptune::checkpoint::ModelDirectory;
use ptune::data::Example;
use ptune::merge::merge;
use ptune::model::Projection;
use ptune::model::spec::ModelSpec;
use ptune::predict::{Prediction, Predictor};
use ptune::train::config::Compute;
use ptune::train::{RunConfig, run};

use crate::scene::{Choice, families, rows};

/// Probabilities of all labels for a few texts.
fn probabilities(adapter: &Path, model: Option<&Path>) -> Vec<f64> {
    let predictor = Predictor::open(adapter, model, &Device::processor(Some(1)), &mut |_, _| {}).expect("an adapter");
    let texts = ["the cat was slow", "she loved the red room", "no"];
    let examples: Vec<Example> = texts.map(|text| Example::from_fields([("text", text)])).into();
    let answers = predictor.predict(&examples, 5).into_iter();
    let of = |answer: ptune::Result<Prediction>| match answer.expect("an answer") {
        Prediction::Label { probabilities, .. } => probabilities.into_iter().map(|(_, p)| p).collect::<Vec<_>>(),
        _ => panic!("a label"),
    };
    answers.flat_map(of).collect()
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |most, (a, b)| (a - b).abs().max(most))
}

#[test]
fn a_merged_model_answers_as_its_adapter() {
    for family in families() {
        for (backbone, head, limit) in
            [("lora", "verbalizer", 1e-5), ("lora", "classifier", 1e-5), ("full", "verbalizer", 0.0)]
        {
            let rows = rows();
            let choice = Choice { prompt: "mlp", backbone, head };
            let (config, file) = choice.run_file(&family, rows.path());
            let mut config = config.expect("a run file");
            if backbone == "lora" {
                let base = ModelDirectory::open(&family.model).expect("the base");
                let spec = ModelSpec::read(&base).expect("its spec");
                let mut targets = Projection::ALL.to_vec();
                targets.retain(|target| spec.blocks[0].projection(*target).is_some());
                config.backbone.lora_targets = Some(targets);
            }
            let config = RunConfig { compute: Compute::F32, ..config };
            let (out, merged) = (rows.path().join("run"), rows.path().join("merged"));
            run(&config, &file, &out, &Device::processor(Some(1)), &mut |_| {}).expect("a run");
            let adapter = out.join("adapter");
            let done = merge(&adapter, None, &merged, &mut |_, _| {}).expect("a merged model");
            assert!(done.changed > 0 && done.changed <= done.tensors, "{}: {done:?}", family.name);

            let (before, after) = (probabilities(&adapter, None), probabilities(&done.adapter, None));
            let off = largest_difference(&before, &after);
            assert!(off <= limit, "{}, {backbone}: off by {off}", family.name);
            let base = ModelDirectory::open(&family.model).expect("the base");
            let over_base =
                Predictor::open(&done.adapter, Some(base.path()), &Device::processor(Some(1)), &mut |_, _| {});
            let Err(error) = over_base else { panic!("{}: the base is not its model", family.name) };
            assert!(error.is_request(), "{error}");
            // The additions would be there twice.
            let twice = Predictor::open(&adapter, Some(&merged), &Device::processor(Some(1)), &mut |_, _| {});
            let Err(error) = twice else { panic!("{}: merged twice", family.name) };
            assert!(error.to_string().contains("is not the model of this adapter"), "{error}");
            let error = merge(&adapter, None, &merged, &mut |_, _| {}).expect_err("it is there already");
            assert!(error.to_string().contains("not empty"), "{error}");
        }
    }
}

#[test]
fn an_adapter_that_trained_nothing_of_its_model_is_not_merged() {
    let (rows, family) = (rows(), families().remove(0));
    let choice = Choice { prompt: "embedding", backbone: "frozen", head: "verbalizer" };
    let (config, file) = choice.run_file(&family, rows.path());
    let out = rows.path().join("run");
    run(&config.expect("a run file"), &file, &out, &Device::processor(Some(1)), &mut |_| {}).expect("a run");
    let merged = rows.path().join("merged");
    let error = merge(&out.join("adapter"), None, &merged, &mut |_, _| {}).expect_err("nothing to merge");
    assert!(error.is_request() && error.to_string().contains("trained nothing of its model"), "{error}");
    assert!(!merged.exists(), "nothing is written");
}
