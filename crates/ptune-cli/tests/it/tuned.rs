//! Training the model with the prompt: what the adapter holds, that another process repeats its numbers, and damage.

use serde_json::Value;

use crate::scene::Scene;

const FULL: &str = "[backbone]\nmode = \"full\"\ndropout = 0.1\n\n[train]\nbackbone_learning_rate = 1e-2";

/// A scene whose model is trained too, at a rate that changes answers.
fn scene() -> Scene {
    let scene = Scene::new();
    scene.edit("run.toml", "[train]", FULL);
    scene
}

/// The metrics of a run on test and those of another process with its adapter.
fn both(scene: &Scene) -> (Value, Value) {
    let run = scene.run(&["train", "run.toml", "--out", "out", "--json"]).object();
    let eval = scene.run(&["eval", "out/adapter", "--data", "test.jsonl", "--json"]).object();
    (run["test"].clone(), eval["metrics"].clone())
}

/// Scores of every row, which differ where metrics of three rows would not.
fn probabilities(scene: &Scene) -> String {
    scene.run(&["predict", "out/adapter", "--input", "test.jsonl"]).done()
}

#[test]
fn another_process_repeats_the_metrics_frozen_and_tuned() {
    let frozen = Scene::new();
    let (run, eval) = both(&frozen);
    assert_eq!(run, eval);
    assert!(!frozen.path("out/adapter/backbone.safetensors").exists());
    let tuned = scene();
    let (run, eval) = both(&tuned);
    assert_eq!(run, eval);
    assert!(tuned.path("out/adapter/backbone.safetensors").exists());
    assert!(tuned.path("out/adapter/head.safetensors").exists());
    assert_ne!(probabilities(&frozen), probabilities(&tuned), "training the weights changes answers");
}

/// The answers come from the trained weights: the prompt alone over the base gives others.
#[test]
fn trained_weights_are_put_over_the_base() {
    let scene = scene().trained();
    let tuned = probabilities(&scene);
    let text = scene.read("out/adapter/adapter.toml");
    let without: String = text.split("[tuned]").next().unwrap().into();
    scene.write("out/adapter/adapter.toml", without);
    assert_ne!(probabilities(&scene), tuned);
}

#[test]
fn a_manual_prompt_trains_the_model() {
    let scene = scene();
    scene.template("{premise|shorten} [MASK] . {hypothesis|no_punct} ?");
    let (run, eval) = both(&scene);
    assert_eq!(run, eval);
    assert!(!scene.path("out/adapter/prompt.safetensors").exists());
    assert!(scene.path("out/adapter/backbone.safetensors").exists());
}

#[test]
fn the_same_run_gives_the_same_weights_for_any_number_of_threads() {
    let scene = scene();
    let run = |out: &str, threads: &str| {
        scene.run(&["train", "run.toml", "--out", out, "--threads", threads]).done();
        std::fs::read(scene.path(out).join("adapter/backbone.safetensors")).unwrap()
    };
    let one = run("one", "1");
    assert!(run("two", "2") == one && run("three", "3") == one);
}

#[test]
fn damaged_or_missing_weights_are_refused() {
    let scene = scene().trained();
    let file = "out/adapter/backbone.safetensors";
    let eval = ["eval", "out/adapter", "--data", "test.jsonl"];
    let mut bytes = std::fs::read(scene.path(file)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    scene.write(file, &bytes);
    scene.refused(&eval, &["backbone.safetensors", "SHA-256"]);
    scene.remove(file);
    scene.refused(&eval, &["backbone.safetensors", "is missing"]);
}

/// A process that was stopped after `adapter.toml` was renamed and before the others were.
#[test]
fn weights_are_found_under_their_waiting_name() {
    let scene = scene().trained();
    let before = probabilities(&scene);
    for name in ["backbone.safetensors", "head.safetensors"] {
        let file = scene.path("out/adapter").join(name);
        std::fs::rename(&file, scene.path("out/adapter").join(format!("{name}.next"))).unwrap();
        scene.write(&format!("out/adapter/{name}"), "of an older adapter");
    }
    assert_eq!(probabilities(&scene), before);
}
