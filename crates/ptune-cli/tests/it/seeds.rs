//! `train --seeds`: every seed's run directory is that of a run alone, however the command was interrupted; mean and
//! deviation; what is refused.

use std::fs;

use serde_json::Value;

use crate::scene::Scene;

/// Trains each seed alone, into `alone-SEED`.
fn alone(scene: &Scene, seeds: &[&str], more: &[&str]) {
    for seed in seeds {
        let (seed_is, out) = (format!("seed={seed}"), format!("alone-{seed}"));
        scene.run(&[&["train", "run.toml", "--out", &out, "--set", &seed_is][..], more].concat()).done();
    }
}

fn same(scene: &Scene, seeds: &[&str], what: &str) {
    for seed in seeds {
        let (alone, together) = (scene.written(&format!("alone-{seed}")), scene.written(&format!("out/seed-{seed}")));
        assert!(together.keys().any(|name| name.ends_with("prompt.safetensors")), "{what}: {:?}", together.keys());
        assert!(alone == together, "{what}: seed {seed} differs");
    }
}

#[test]
fn seeds_together_give_the_bytes_of_each_alone() {
    let seeds = ["3", "0", "12"];
    // What a seed drops is its own; rounded weights; causal models that compute what rows begin with once a batch, or run
    // it once for all seeds, or, where it does not fit, again and again.
    let dropout = ["--set", "backbone.dropout=0.1", "--set", "train.schedule=linear"];
    let bf16 = ["--set", "compute=bf16"];
    let text_first = || {
        let scene = Scene::gpt2();
        scene.template("{premise|shorten} [P*2] {hypothesis|shorten} [MASK]");
        scene
    };
    for (scene, more) in [
        (Scene::new(), &dropout[..]),
        (Scene::new(), &bf16),
        (Scene::probing(), &[]),
        (Scene::gpt2(), &["--threads", "3"]),
        (text_first(), &[]),
        (text_first(), &["--set", "train.keep_mb=0"]),
    ] {
        alone(&scene, &seeds, more);
        let said = scene.run(&[&["train", "run.toml", "--out", "out", "--seeds", "3,0,12"][..], more].concat());
        said.done();
        same(&scene, &seeds, &format!("{more:?}"));
        for file in ["report.html", "events.out.tfevents.ptune", "state/state.safetensors"] {
            assert!(scene.path("out/seed-12").join(file).is_file(), "{file}");
        }
    }
}

#[test]
fn a_trained_model_is_trained_seed_after_seed() {
    let scene = Scene::new();
    let full = ["--set", "backbone.mode=full", "--set", "train.steps=2"];
    alone(&scene, &["0", "1"], &full);
    let said = scene.run(&[&["train", "run.toml", "--out", "out", "--seeds", "0,1", "--json"][..], &full].concat());
    let object = said.object();
    assert_eq!(object["seeds"].as_array().unwrap().len(), 2);
    same(&scene, &["0", "1"], "full");
    // Each has its own weights.
    let weights = |seed: &str| scene.written(&format!("out/seed-{seed}"))["adapter/backbone.safetensors"].clone();
    assert_ne!(weights("0"), weights("1"));
}

/// One seed may be ahead of the others, finished, or not begun: each goes on from where it is.
#[test]
fn seeds_go_on_from_different_steps() {
    let scene = Scene::new();
    let steps = ["--set", "train.steps=9", "--set", "train.save_every=2"];
    let seeds = ["0", "1", "2", "3"];
    alone(&scene, &seeds, &steps);
    // Seed 1 is finished, and seed 2 began and died.
    scene.run(&[&["train", "run.toml", "--out", "out", "--seeds", "1"][..], &steps].concat()).done();
    fs::create_dir_all(scene.path("out/seed-2")).unwrap();
    fs::copy(scene.path("alone-2/run.toml"), scene.path("out/seed-2/run.toml")).unwrap();
    let said =
        scene.run(&[&["train", "run.toml", "--out", "out", "--seeds", "0,1,2,3", "--resume"][..], &steps].concat());
    assert!(said.err.contains("seed-1: this run is finished"), "{}", said.err);
    assert!(said.err.contains("seed 2: nothing was saved yet"), "{}", said.err);
    let out = said.done();
    assert!(out.contains("seed-3"), "{out}");
    same(&scene, &seeds, "resumed");
    // A run of one of them alone is a run like any other.
    let one = ["train", "run.toml", "--out", "out/seed-3", "--resume", "--set", "seed=3"];
    assert!(scene.run(&[&one[..], &steps].concat()).err.contains("this run is finished"));
}

#[test]
fn mean_and_deviation_are_told() {
    let scene = Scene::new();
    let object = scene.run(&["train", "run.toml", "--out", "out", "--seeds", "0,1,2", "--json"]).object();
    let seeds = object["seeds"].as_array().unwrap();
    for (seed, run) in seeds.iter().enumerate() {
        assert_eq!(run["seed"], seed);
        assert_eq!(run["out"], format!("out/seed-{seed}"));
        assert_eq!(run["steps"], 4);
    }
    for rows in ["dev", "test"] {
        for name in ["accuracy", "macro_f1", "majority"] {
            let values: Vec<f64> = seeds.iter().map(|run| run[rows][name].as_f64().unwrap()).collect();
            let mean = values.iter().sum::<f64>() / 3.0;
            let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
            let told = |of: &str| object[of][rows][name].as_f64().unwrap();
            assert!((told("mean") - mean).abs() < 1e-12, "{rows} {name}");
            assert!((told("deviation") - deviation).abs() < 1e-12, "{rows} {name}");
        }
    }
    let table = scene.run(&["train", "run.toml", "--out", "table", "--seeds", "0,1,2"]).done();
    let accuracy = object["mean"]["test"]["accuracy"].as_f64().unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("seed") && lines[0].contains("dev accuracy") && lines[0].contains("test macro_f1"));
    assert!(lines[4].starts_with("mean") && lines[4].contains(&format!("{accuracy:.4} ± ")), "{table}");
    assert!(lines[5].starts_with("majority") && lines[5].contains("0.6667"), "{table}");
    // One seed has no deviation.
    let one = scene.run(&["train", "run.toml", "--out", "one", "--seeds", "5", "--json"]).object();
    assert_eq!(one["deviation"]["dev"]["accuracy"], Value::Null);
}

#[test]
fn wrong_seeds_are_refused() {
    let scene = Scene::new().trained();
    let train = |more: &[&str], says: &[&str]| scene.refused(&[&["train", "run.toml"], more].concat(), says);
    train(&["--seeds", "1,2,1", "--out", "new"], &["the seed 1 is given twice"]);
    train(&["--seeds", "", "--out", "new"], &["--seeds"]);
    train(&["--seeds", "1,,2", "--out", "new"], &["--seeds"]);
    train(&["--seeds", "-1", "--out", "new"], &[]);
    train(&["--seeds", "18446744073709551615", "--out", "new"], &["seed 18446744073709551615", "must be at most"]);
    train(&["--seeds", "0,1", "--out", "out"], &["out: holds a single run", "--out"]);
    scene.run(&["train", "run.toml", "--seeds", "0,1", "--out", "seeds"]).done();
    train(&["--seeds", "1,2", "--out", "seeds"], &["seeds/seed-1: holds a run already", "--resume"]);
    train(&["--out", "seeds"], &["seeds: holds runs of several seeds (seed-", "--seeds"]);
}

#[test]
fn a_seed_whose_work_fails_is_named() {
    let scene = Scene::new();
    scene.first_value("bert.embeddings.LayerNorm.weight", f32::MAX);
    scene.first_value("bert.embeddings.LayerNorm.bias", f32::MAX);
    let said = scene.run(&["train", "run.toml", "--seeds", "7,8", "--out", "out"]);
    assert_eq!(said.status, Some(1), "{}", said.err);
    assert!(said.err.contains("seed 7: the model's answers are not finite numbers"), "{}", said.err);
}
