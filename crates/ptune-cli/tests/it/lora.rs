//! Low-rank additions from the command line: what the adapter holds and how small it is, that another process repeats its
//! numbers, merging, damage, and wrong requests.

use serde_json::Value;

use crate::scene::Scene;

const LORA: &str = "[backbone]\nmode = \"lora\"\nlora_rank = 2\n\n[train]\nbackbone_learning_rate = 1e-2";
const EVAL: [&str; 5] = ["eval", "out/adapter", "--data", "test.jsonl", "--json"];

fn scene() -> Scene {
    let scene = Scene::new();
    scene.edit("run.toml", "[train]", LORA);
    scene
}

fn probabilities(scene: &Scene, adapter: &str) -> String {
    scene.run(&["predict", adapter, "--input", "test.jsonl"]).done()
}

#[test]
fn an_adapter_holds_the_matrices_alone_and_another_process_repeats_the_metrics() {
    let scene = scene();
    let run = scene.run(&["train", "run.toml", "--out", "out", "--json"]).object();
    assert_eq!(run["test"], scene.run(&EVAL).object()["metrics"]);
    let inspected = scene.run(&["inspect", "out/adapter", "--json"]).object();
    let lora = serde_json::json!({"rank": 2, "alpha": 4.0, "targets": ["query", "value"]});
    assert_eq!(inspected["lora"], lora);
    let (file, numbers) = (&inspected["trained"][0]["file"], &inspected["trained"][0]["numbers"]);
    assert_eq!(file, "backbone.safetensors");
    assert!(numbers.as_u64().unwrap() < run["frozen_parameters"].as_u64().unwrap() / 10, "{numbers}");
    assert_eq!(run["frozen_parameters"], scene.run(&["inspect", "model", "--json"]).object()["parameters"]["total"]);
    assert!(scene.run(&["inspect", "out"]).done().contains("rank 2, alpha 4: query, value"));

    // Without them the answers are others.
    let with = probabilities(&scene, "out/adapter");
    let text = scene.read("out/adapter/adapter.toml");
    scene.write("out/adapter/adapter.toml", text.split("[tuned]").next().unwrap());
    assert_ne!(probabilities(&scene, "out/adapter"), with);
}

#[test]
fn a_merged_model_gives_the_metrics_of_its_adapter() {
    let scene = scene().trained();
    let before = scene.run(&EVAL).object()["metrics"].clone();
    let merged = scene.run(&["adapter", "merge", "out/adapter", "--out", "merged", "--json"]).object();
    let adapter = merged["adapter"].as_str().unwrap();
    let after: Value = scene.run(&["eval", adapter, "--data", "test.jsonl", "--json"]).object()["metrics"].clone();
    assert_eq!(after, before);
    assert!(scene.run(&["inspect", "merged"]).done().contains("bert"));
    scene.refused(&["adapter", "merge", "out/adapter", "--out", "merged"], &["merged", "not empty"]);
    scene.refused(&["eval", "out/adapter", "--data", "test.jsonl", "--model", "merged"], &["is not the model"]);
    scene.refused(&["adapter", "merge", adapter, "--out", "twice"], &["trained nothing of its model"]);
}

#[test]
fn damaged_matrices_and_words_about_them_are_refused() {
    let scene = scene().trained();
    let refused = |from: &str, to: &str, says: &[&str]| {
        let text = scene.read("out/adapter/adapter.toml");
        scene.edit("out/adapter/adapter.toml", from, to);
        scene.refused(&EVAL[..4], says);
        scene.refused(&["adapter", "merge", "out/adapter", "--out", "merged"], says);
        scene.write("out/adapter/adapter.toml", text);
    };
    refused("rank = 2", "rank = 0", &["tuned.lora.rank", "from 1"]);
    refused("rank = 2", "rank = 1000000000", &["tuned.lora.rank"]);
    refused("rank = 2", "rank = 3", &["backbone.safetensors", "lora_A", "shape"]);
    refused("alpha = 4.0", "alpha = nan", &["tuned.lora.alpha"]);
    refused("\"query\"", "\"nothing\"", &["adapter.toml", "nothing"]);
    refused("\"query\"", "\"key\"", &["backbone.safetensors", "self.key.lora_A", "missing"]);
    let file = "out/adapter/backbone.safetensors";
    let mut bytes = std::fs::read(scene.path(file)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    scene.write(file, &bytes);
    scene.refused(&EVAL[..4], &["backbone.safetensors", "SHA-256"]);
}
