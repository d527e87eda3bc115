//! `ptune inspect`: the documented keys, sentences for people, and every kind of bad input.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::scene::Scene;

/// The keys that docs/inspect.md lists under a heading.
fn documented(heading: &str) -> Vec<String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/inspect.md");
    let text = fs::read_to_string(docs).unwrap();
    let section = text.split(&format!("## {heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let keys = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    keys.map(str::to_owned).collect()
}

#[track_caller]
fn inspected(scene: &Scene, path: &str, heading: &str) -> Map<String, Value> {
    let found = scene.run(&["inspect", path, "--json"]).object();
    assert_eq!(found.keys().cloned().collect::<Vec<_>>(), documented(heading), "{path}");
    found
}

#[test]
fn the_documented_keys() {
    for (scene, probing) in [(Scene::new().trained(), false), (Scene::probing().trained(), true)] {
        let model = inspected(&scene, "model", "A model");
        assert_eq!((&model["usable"], &model["reason"]), (&Value::Bool(true), &Value::Null));
        let mut adapter = inspected(&scene, "out/adapter", "An adapter");
        assert_eq!(adapter["base"]["fingerprint"], model["fingerprint"]);
        assert_eq!(adapter["candidates"].is_u64(), probing);
        assert_eq!(adapter["labels"].as_array().unwrap().len(), if probing { 0 } else { 2 });
        let tokens = adapter["prompt"]["tokens"].as_array().unwrap();
        assert_eq!(tokens.len(), 3);
        for (i, token) in tokens.iter().enumerate() {
            assert_eq!(token["token"], format!("P{}", i + 1));
            let cosines: Vec<f64> =
                token["nearest"].as_array().unwrap().iter().map(|near| near["cosine"].as_f64().unwrap()).collect();
            assert!(cosines.len() == 5 && cosines.is_sorted_by(|a, b| a >= b) && cosines[0] <= 1.0, "{cosines:?}");
        }
        let run = inspected(&scene, "out", "A run");
        adapter.shift_remove("kind");
        assert_eq!((&run["finished"], &run["adapter"]), (&Value::Bool(true), &Value::Object(adapter)));
        assert_eq!(run["test"], run["summary"]["test"]);
        assert_eq!(run["best"]["dev"], run["summary"]["dev"]);
    }
}

#[test]
fn the_pieces_of_a_template_are_those_of_a_row() {
    let scene = Scene::new().trained();
    let adapter = scene.run(&["inspect", "out/adapter", "--json"]).object();
    let pieces = adapter["pieces"].as_array().unwrap();
    let kinds: Vec<&str> = pieces.iter().map(|piece| piece["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["start", "pseudo", "field", "pseudo", "mask", "text", "field", "text", "end"]);
    assert_eq!(pieces[1]["tokens"], serde_json::json!(["P1", "P2"]));
    assert_eq!(pieces[2]["source"], "{premise|shorten}");
    assert_eq!(pieces[3]["tokens"], serde_json::json!(["P3"]));
    assert_eq!(pieces[4]["tokens"], serde_json::json!(["[MASK]"]));
    assert_eq!(pieces[5]["tokens"], serde_json::json!(["."]));
}

#[test]
fn for_people() {
    let scene = Scene::new().trained();
    let said = |path: &str| scene.run(&["inspect", path]).done();
    let (model, run) = (said("model"), said("out"));
    for text in ["usable       yes", "family       bert", "embeddings", "fingerprint"] {
        assert!(model.contains(text), "{text} is not in:\n{model}");
    }
    for text in ["finished; step 4 of 4", "best dev", "[P*2]", "entailment: yes, true", "pseudo token", "P3"] {
        assert!(run.contains(text), "{text} is not in:\n{run}");
    }
    assert!(run.ends_with(&said("out/adapter")), "a run ends with its adapter");
}

#[test]
fn trained_weights_are_counted() {
    let scene = Scene::new().trained();
    assert_eq!(inspected(&scene, "out/adapter", "An adapter")["trained"], serde_json::json!([]));
    let model = scene.run(&["inspect", "model", "--json"]).object();
    fs::copy(scene.path("model/model.safetensors"), scene.path("out/adapter/backbone.safetensors")).unwrap();
    let trained = &inspected(&scene, "out/adapter", "An adapter")["trained"];
    assert_eq!(
        (&trained[0]["file"], &trained[0]["numbers"]),
        (&"backbone.safetensors".into(), &model["parameters"]["total"])
    );
    assert!(scene.run(&["inspect", "out"]).done().contains("trained      backbone.safetensors: 33003 numbers"));
    scene.write("out/adapter/backbone.safetensors", "short");
    scene.refused(&["inspect", "out/adapter"], &["backbone.safetensors"]);
}

#[test]
fn a_manual_template_has_no_pseudo_tokens() {
    let scene = Scene::new();
    scene.template("{premise|shorten} [MASK] . {hypothesis}");
    scene.run(&["train", "run.toml", "--out", "out"]).done();
    assert_eq!(inspected(&scene, "out/adapter", "An adapter")["prompt"], Value::Null);
    assert!(scene.run(&["inspect", "out"]).done().contains("none: a manual template"));
    assert!(scene.read("out/report.html").contains("a manual prompt, nothing trained"));
}

#[test]
fn a_run_without_its_state_is_not_finished() {
    let scene = Scene::new().trained();
    fs::remove_dir_all(scene.path("out/state")).unwrap();
    let run = inspected(&scene, "out", "A run");
    assert_eq!(
        (&run["finished"], &run["summary"], &run["steps"]),
        (&Value::Bool(false), &Value::Null, &Value::from(4))
    );
    fs::remove_dir_all(scene.path("out/adapter")).unwrap();
    scene.remove("out/metrics.jsonl");
    let said = scene.run(&["inspect", "out"]).done();
    assert!(said.contains("interrupted") && said.contains("adapter      none yet"), "{said}");
}

#[test]
fn a_base_that_moved_or_changed() {
    let scene = Scene::new().trained();
    fs::rename(scene.path("model"), scene.path("elsewhere")).unwrap();
    let adapter = inspected(&scene, "out/adapter", "An adapter");
    assert!(adapter["base"]["note"].as_str().unwrap().contains("--model DIR"));
    assert_eq!((&adapter["pieces"], &adapter["prompt"]["tokens"][0]["nearest"]), (&Value::Null, &Value::Null));
    assert!(scene.run(&["inspect", "out"]).done().contains("left out: is not there any more"));
    let there = scene.run(&["inspect", "out", "--model", "elsewhere", "--json"]).object();
    assert_eq!(there["adapter"]["base"]["note"], Value::Null);
    fs::rename(scene.path("elsewhere"), scene.path("model")).unwrap();
    scene.first_value("bert.embeddings.word_embeddings.weight", 0.25);
    let note = inspected(&scene, "out/adapter", "An adapter")["base"]["note"].to_string();
    assert!(note.contains("is not the model of this adapter"), "{note}");
    scene.refused(&["inspect", "out/adapter", "--model", "model"], &["model: is not the model of this adapter"]);
}

#[test]
fn bad_input() {
    let scene = Scene::new().trained();
    let refused = |path: &str, says: &str| {
        scene.refused(&["inspect", path], &[says]);
        scene.refused(&["inspect", path, "--json"], &[says]);
    };
    refused("nowhere", "nowhere: there is no such directory");
    refused("modle", "there is no such directory; did you mean 'model'?");
    refused("run.toml", "run.toml: is a file; 'ptune train' runs a run file");
    refused("out/adapter/prompt.safetensors", "is a part of an adapter; inspect its directory");
    fs::rename(scene.path("run.toml"), scene.path("task.toml")).unwrap();
    refused(".", "nor a run (run.toml); look at ./model, ./out");
    scene.refused(&["inspect", "model", "--model", "model"], &["--model says where the model of those is"]);
    scene.write("out/metrics.jsonl", "{\"step\":0}\n{\n");
    refused("out", "metrics.jsonl:2: not a line of metrics");
    scene.write("out/run.toml", "model = 3\n");
    refused("out", "out/run.toml");
    scene.write("out/adapter/prompt.safetensors", "short");
    refused("out/adapter", "prompt.safetensors: does not belong to the adapter.toml beside it");
}

#[test]
fn a_model_that_cannot_be_used_is_shown_all_the_same() {
    let scene = Scene::new();
    scene.json("model/config.json", |config| config["model_type"] = serde_json::json!("mamba"));
    let model = inspected(&scene, "model", "A model");
    assert_eq!(model["usable"], false);
    assert!(model["reason"].as_str().unwrap().contains("'mamba' is not implemented"));
    assert!(scene.run(&["inspect", "model"]).done().contains("usable       no: "));
}
