//! The models that are part of the binary, by their names: wherever a model is accepted, and behind the user's own.

use std::fs;

use serde_json::Value;

use crate::scene::Scene;

const RUN: &str = r#"model = "world-mlm"

[data]
train = "train.jsonl"
dev = "train.jsonl"

[task]
template = "[P*2] {sub_label} [P*1] [MASK]."
target = "obj_label"

[train]
steps = 2
batch_size = 2
"#;

const ROWS: &str = r#"{"sub_label": "Japan", "obj_label": "Tokyo"}
{"sub_label": "영국", "obj_label": "런던"}
"#;

/// A probing task over the built-in masked model.
fn scene() -> Scene {
    let scene = Scene::new();
    scene.write("run.toml", RUN);
    scene.write("train.jsonl", ROWS);
    scene
}

fn base(scene: &Scene, adapter: &str) -> Value {
    scene.run(&["inspect", adapter, "--json"]).object()["base"].clone()
}

#[test]
fn a_built_in_model_is_trained_on_and_its_adapter_works_anywhere() {
    let scene = scene();
    let trained = scene.run(&["train", "run.toml", "--out", "out", "--json"]).object();
    assert!(scene.read("out/run.toml").contains("model = \"world-mlm\""));
    let base = base(&scene, "out/adapter");
    assert_eq!((&base["name"], &base["path"]), (&"world-mlm".into(), &"built-in:world-mlm".into()));
    assert_eq!(base["note"], Value::Null, "the words near its pseudo tokens need the model");

    // Another place, and a directory of the model's name there: the adapter says that it means the built-in one.
    fs::create_dir_all(scene.path("elsewhere/world-mlm")).unwrap();
    fs::rename(scene.path("out/adapter"), scene.path("elsewhere/adapter")).unwrap();
    let mut command = scene.ptune();
    command.current_dir(scene.path("elsewhere")).args(["eval", "adapter", "--data", "../train.jsonl", "--json"]);
    assert_eq!(scene.said(&mut command).object()["metrics"], trained["dev"]);

    let all = scene.run(&["inspect", "world-mlm", "--json"]).object();
    assert_eq!((&all["kind"], &all["usable"]), (&"model".into(), &true.into()), "{}", all["reason"]);
    assert!(all["files"]["model.safetensors"].as_u64().unwrap() > 1_000_000);
    assert_eq!(all["fingerprint"], base["fingerprint"]);
}

#[test]
fn a_built_in_model_is_trained_further() {
    let scene = scene();
    let run =
        "[data]\ntext = [\"text.txt\"]\nheld_out = 0.0\n[model]\ncheckpoint = \"world-mlm\"\n[train]\nsteps = 1\n";
    scene.write("more.toml", run);
    scene.write("text.txt", "The capital of Japan is Tokyo.\n영국의 수도는 런던 입니다.\n");
    scene.run(&["pretrain", "more.toml", "--out", "more"]).done();
    let model = scene.run(&["inspect", "more/model", "--json"]).object();
    assert_eq!(model["usable"], true);
    assert_eq!(model["tokenizer"], scene.run(&["inspect", "world-mlm", "--json"]).object()["tokenizer"]);
}

#[test]
fn a_directory_of_that_name_goes_first() {
    let scene = scene();
    fs::rename(scene.path("model"), scene.path("world-mlm")).unwrap();
    scene.write("train.jsonl", ROWS.replace("런던", "paris").replace("Tokyo", "rome"));
    scene.run(&["train", "run.toml", "--out", "own", "--set", "train.steps=1"]).done();
    let own = base(&scene, "own/adapter");
    assert_eq!((&own["name"], own["path"].as_str().unwrap().starts_with('/')), (&"world-mlm".into(), true));
    scene.write("train.jsonl", ROWS);
    let named = ["train", "run.toml", "--out", "built-in", "--set", "model=built-in:world-mlm"];
    scene.run(&named).done();
    assert_eq!(base(&scene, "built-in/adapter")["path"], "built-in:world-mlm");
}

#[test]
fn a_name_that_is_none_of_them_is_told_which_there_are() {
    let scene = scene();
    let said = scene.run(&["train", "run.toml", "--out", "out", "--set", "model=world-mml"]);
    assert_eq!(said.status, Some(2));
    assert!(said.err.contains("world-mml: there is no such directory"), "{}", said.err);
    assert!(said.err.contains("built-in model (world-mlm"), "{}", said.err);
}
