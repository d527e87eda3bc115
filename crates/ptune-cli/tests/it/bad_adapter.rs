//! Damaged adapters, adapters on another model, and things that are no adapter.

use std::fs;

use serde_json::json;

use crate::scene::Scene;

/// `eval` and `predict` refuse the adapter in the same words.
#[track_caller]
fn refused(scene: &Scene, says: &[&str]) {
    scene.refused(&["eval", "out/adapter", "--data", "test.jsonl", "--json"], says);
    scene.refused(&["predict", "out/adapter", "--input", "test.jsonl"], says);
}

#[test]
fn a_damaged_prompt() {
    let scene = Scene::new().trained();
    let mut bytes = fs::read(scene.path("out/adapter/prompt.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    scene.write("out/adapter/prompt.safetensors", &bytes);
    refused(&scene, &["prompt.safetensors: does not belong to the adapter.toml beside it"]);
    scene.write("out/adapter/prompt.safetensors", &bytes[..50]);
    refused(&scene, &["prompt.safetensors: does not belong"]);
    scene.remove("out/adapter/prompt.safetensors");
    refused(&scene, &["cannot read out/adapter/prompt.safetensors"]);
}

#[test]
fn a_damaged_vocabulary() {
    let scene = Scene::probing().trained();
    scene.write("out/adapter/vocabulary.bin", [255; 12]);
    refused(&scene, &["vocabulary.bin: does not belong to the adapter.toml beside it"]);
    scene.remove("out/adapter/vocabulary.bin");
    refused(&scene, &["cannot read out/adapter/vocabulary.bin"]);
}

#[test]
fn a_description_that_was_edited() {
    let toml = "out/adapter/adapter.toml";
    for (from, to, says) in [
        ("format = 1", "format = 2", "format: 2: written by a newer release"),
        ("format = 1", "", "format: is missing"),
        ("width = 32", "width = 16", "prompt.width: 32: the base has width 16"),
        ("rows = 3", "rows = 4", "has shape [3, 32]; adapter.toml makes it [4, 32]"),
        ("[P*2]", "[P*5]", "the template needs 6 prompt rows, the adapter has 3"),
        ("[MASK]", "[MASK", "this '[' is not closed"),
        ("[\"no\"]", "[\"아니요\"]", "'아니요' is unknown"),
        ("max_tokens = 40", "max_tokens = 400", "task.max_tokens: more than the 48 positions"),
        ("compute = \"", "compute = \"x", "is not what this release computes with"),
        ("target =", "targets =", "adapter.toml:5: "),
    ] {
        let scene = Scene::new().trained();
        scene.edit(toml, from, to);
        refused(&scene, &[says]);
    }
}

#[test]
fn an_adapter_on_another_base() {
    let scene = Scene::new().trained();
    scene.first_value("bert.embeddings.word_embeddings.weight", 0.25);
    let says = ["model: is not the model of this adapter, which was trained on 'model' (bert, width 32, fingerprint "];
    refused(&scene, &says);
    let scene = Scene::new().trained();
    scene.json("model/config.json", |config| config["hidden_act"] = json!("relu"));
    refused(&scene, &says);
}

#[test]
fn a_model_that_moved_is_found_with_a_flag() {
    let scene = Scene::new().trained();
    fs::rename(scene.path("model"), scene.path("elsewhere")).unwrap();
    refused(&scene, &["out/adapter: its model 'model' is not at ", "say where it is with --model"]);
    scene.run(&["eval", "out/adapter", "--data", "test.jsonl", "--model", "elsewhere"]).done();
}

#[test]
fn things_that_are_no_adapter() {
    let scene = Scene::new().trained();
    for (path, says) in [
        ("out", "out: is a run; its adapter is out/adapter"),
        ("run.toml", "run.toml: is not an adapter; an adapter is a directory"),
        ("nowhere", "nowhere: there is no such directory; an adapter is the directory 'adapter' of a finished run"),
        ("model", "model: is a model, not an adapter"),
    ] {
        scene.refused(&["eval", path, "--data", "test.jsonl"], &[says]);
        scene.refused(&["predict", path, "--input", "test.jsonl"], &[says]);
    }
    scene.refused(&["train", "out/adapter"], &["out/adapter: is an adapter, which is trained already"]);
    scene.refused(&["train", "out"], &["out: is a directory; its run file is out/run.toml"]);
    scene.refused(&["train", "nowhere.toml"], &["cannot read nowhere.toml"]);
    scene.refused(&["train", "model/model.safetensors"], &["model.safetensors:1: not UTF-8 text"]);
}

/// The files that `eval` reads are checked whole before it begins, like those of `train`.
#[test]
fn bad_data_for_eval() {
    let scene = Scene::new().trained();
    scene.write("bad.jsonl", "{\"premise\": \"a\", \"hypothesis\": \"b\", \"label\": \"entailment\"}\n{\n");
    scene.refused(&["eval", "out/adapter", "--data", "bad.jsonl", "--json"], &["bad.jsonl:2: malformed JSON"]);
    scene.refused(&["eval", "out/adapter", "--data", "nowhere.jsonl"], &["cannot read nowhere.jsonl"]);
    scene.write("other.jsonl", "{\"text\": \"a\", \"label\": \"entailment\"}\n");
    scene.refused(&["eval", "out/adapter", "--data", "other.jsonl"], &["the data has no field 'premise'", "^"]);
}
