//! `ptune pretrain`: text in, a model out that the other commands use; killed runs; wrong requests.

use std::fs;

use crate::scene::{Scene, list};

const RUN: &str = r#"seed = 1

[data]
text = ["text.txt"]
held_out = 0.1
max_tokens = 24

[tokenizer]
vocabulary = 330
words = "words.txt"

[model]
layout = "bert"
layers = 1
hidden = 16
heads = 2
positions = 24

[train]
steps = 12
batch_tokens = 128
eval_every = 4
"#;

/// A scene with text to learn and words to keep whole.
fn scene() -> Scene {
    let scene = Scene::new();
    let line = |i: usize| format!("Number {} follows {} .\n{}은 {}의 다음 수입니다.\n", i + 1, i, i + 1, i);
    scene.write("text.txt", (0..60).map(line).collect::<String>());
    scene.write("words.txt", "yes\nno\ntrue\n다음\n");
    scene.write("pre.toml", RUN);
    scene
}

const LAYOUTS: [&str; 2] = ["model.layout=bert", "model.layout=gpt2"];

#[test]
fn a_model_from_text_is_one_for_the_other_commands() {
    for layout in LAYOUTS {
        let scene = scene();
        let said = scene.run(&["pretrain", "pre.toml", "--out", "pre", "--set", layout, "--json"]).object();
        let keys: Vec<&str> = said.keys().map(String::as_str).collect();
        let expected = [
            "out",
            "model",
            "steps",
            "seconds",
            "tokens",
            "tokens_per_s",
            "parameters",
            "vocabulary",
            "perplexity",
            "saved_perplexity",
            "model_bytes",
            "peak_rss_mb",
        ];
        assert_eq!(keys, expected);
        assert_eq!((said["steps"].as_u64(), said["model"].as_str()), (Some(12), Some("pre/model")));
        scene.run(&["inspect", "pre/model"]).done();
        // The words of the task are single tokens, because words.txt has them.
        scene.edit("run.toml", "model = \"model\"", "model = \"pre/model\"");
        scene.edit("run.toml", "max_tokens = 40", "max_tokens = 24");
        scene.template("[P*2] {premise|shorten} {hypothesis|shorten} [P*1] [MASK]");
        let said = scene.run(&["train", "run.toml", "--out", "tuned"]);
        assert!(!said.err.contains("label words of several tokens"), "{}", said.err);
        said.done();
    }
}

#[test]
fn killed_at_random_moments_it_comes_to_the_same_bytes() {
    let scene = scene();
    let results = |out: &str| {
        let mut found = std::collections::BTreeMap::new();
        list(&scene.path(out).join("model"), &mut found);
        list(&scene.path(out).join("initial"), &mut found);
        let mut bytes: Vec<Vec<u8>> = found.into_values().collect();
        bytes.push(fs::read(scene.path(out).join("metrics.jsonl")).unwrap());
        bytes
    };
    let begin = std::time::Instant::now();
    let long = ["pretrain", "pre.toml", "--set", "train.steps=150", "--set", "train.save_every=3", "--resume"];
    scene.run(&[&long[..], &["--out", "whole"]].concat()).done();
    let (time, expected) = (begin.elapsed(), results("whole"));
    // Shares of the whole run's time; with every resume the run is further on.
    for (run, shares) in [[0.1, 0.3, 0.3], [0.5, 0.05, 0.2], [0.8, 0.1, 0.1]].iter().enumerate() {
        let out = format!("killed-{run}");
        let resume = [&long[..], &["--out", &out]].concat();
        for share in shares {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ptune"));
            command.args(&resume).current_dir(scene.path("")).stderr(std::process::Stdio::null());
            let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
            std::thread::sleep(time.mul_f64(*share));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        scene.run(&resume).done();
        assert!(results(&out) == expected, "{out} differs");
    }
}

#[test]
fn wrong_requests_are_told_before_anything_is_written() {
    let scene = scene();
    scene.write("empty.txt", "\n  \n");
    scene.write("two.txt", "New York\n");
    let refused =
        |set: &str, says: &[&str]| scene.refused(&["pretrain", "pre.toml", "--out", "pre", "--set", set], says);
    refused("train.stepz=3", &["unknown key", "train.steps"]);
    refused("data.text=[\"empty.txt\"]", &["there is no text in", "empty.txt"]);
    refused("data.text=[\"none.txt\"]", &["cannot read", "none.txt"]);
    refused("tokenizer.vocabulary=20", &["tokenizer.vocabulary", "too small"]);
    refused("tokenizer.words=two.txt", &["'New York' is 2 words"]);
    refused("model.layout=t5", &["model.layout"]);
    scene.refused(&["pretrain", "."], &["is a directory"]);
    // A checkpoint whose positions are too few.
    let head = RUN.split("[tokenizer]").next().unwrap();
    scene.write("on.toml", format!("{head}[model]\ncheckpoint = \"model\"\n[train]\nsteps = 2\n"));
    scene.refused(
        &["pretrain", "on.toml", "--out", "on", "--set", "data.max_tokens=5000"],
        &["data.max_tokens", "positions"],
    );
}

#[test]
fn a_second_run_is_kept_out_and_a_finished_one_is_not_repeated() {
    let scene = scene();
    scene.run(&["pretrain", "pre.toml", "--out", "pre"]).done();
    scene.refused(&["pretrain", "pre.toml", "--out", "pre"], &["holds a run already"]);
    let said = scene.run(&["pretrain", "pre.toml", "--out", "pre", "--resume"]);
    assert!(said.err.contains("this run is finished"), "{}", said.err);
    said.done();
    let change = ["pretrain", "pre.toml", "--out", "pre", "--resume", "--set", "seed=2"];
    let said = scene.run(&change);
    assert_eq!(said.status, Some(2));
    assert!(said.err.contains("seed was 1 and is 2"), "{}", said.err);
}
