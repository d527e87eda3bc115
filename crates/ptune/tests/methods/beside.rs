//! Adapters of one model over one copy of it in memory: each answers as it does alone.

use std::fs;
use std::path::PathBuf;

use ptune::Device;
use ptune::data::Example;
use ptune::predict::Predictor;
use ptune::train::run;

use crate::scene::{Choice, Family, TEXTS, families, rows};

/// Adapters of every kind, the last of weights of its own.
const CHOICES: [[&str; 3]; 6] = [
    ["manual", "lora", "verbalizer"],
    ["mlp", "lora", "vocabulary"],
    ["prefix", "frozen", "verbalizer"],
    ["embedding", "lora", "classifier"],
    ["prefix + mlp", "lora", "verbalizer"],
    ["manual", "full", "verbalizer"],
];

fn scores(predictor: &Predictor) -> Vec<Vec<f32>> {
    let examples: Vec<Example> = TEXTS.iter().map(|text| Example::from_fields([("text", *text)])).collect();
    predictor.scores(&examples).expect("scores")
}

fn check(family: &Family) {
    let (rows, device) = (rows(), Device::processor(Some(1)));
    let trained = |(i, [prompt, backbone, head]): (usize, &[&'static str; 3])| -> PathBuf {
        let (config, file) = Choice { prompt, backbone, head }.run_file(family, rows.path());
        let out = rows.path().join(format!("run-{i}"));
        run(&config.expect("a run file"), &file, &out, &device, &mut |_| {}).expect("a run");
        fs::remove_file(file).expect("a run file");
        out.join("adapter")
    };
    let adapters: Vec<PathBuf> = CHOICES.iter().enumerate().map(trained).collect();
    let open = |adapter: &PathBuf| Predictor::open(adapter, None, &device, &mut |_, _| {}).expect("an adapter");
    let (alone, [first, others @ .., own]) = (adapters.iter().map(open).collect::<Vec<_>>(), &adapters[..]) else {
        panic!("adapters")
    };
    let first = open(first);
    let mut last = None;
    for (i, adapter) in others.iter().enumerate() {
        let beside = first.beside(adapter).expect("an adapter").unwrap_or_else(|| panic!("{}: {i}", family.name));
        assert_eq!(scores(&beside), scores(&alone[i + 1]), "{}: adapter {i}", family.name);
        last = Some(beside);
    }
    // The model stays as long as one of them does, and is the same for all.
    drop(first);
    let first = last.expect("others").beside(&adapters[0]).expect("an adapter").expect("the same model");
    assert_eq!(scores(&first), scores(&alone[0]), "{}", family.name);
    assert!(first.beside(own).expect("an adapter").is_none(), "{}: has weights of its own", family.name);
    assert!(alone[5].beside(&adapters[0]).expect("an adapter").is_none(), "{}: its weights are others", family.name);
    let classifier = &alone[3];
    assert!(classifier.beside(&adapters[0]).expect("an adapter").is_none(), "{}: has no head", family.name);
}

#[test]
fn adapters_over_one_model_answer_as_alone() {
    families().iter().for_each(check);
}
