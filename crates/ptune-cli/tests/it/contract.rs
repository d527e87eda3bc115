//! What `--json` promises: exactly these keys, one object, nothing else on standard output; and that `eval` in a new
//! process repeats the numbers of the run.

use serde_json::{Map, Value};

use crate::scene::Scene;

fn keys(object: &Map<String, Value>) -> Vec<&str> {
    object.keys().map(String::as_str).collect()
}

fn metrics<'a>(object: &'a Map<String, Value>, key: &str) -> &'a Map<String, Value> {
    object[key].as_object().unwrap()
}

const TRAIN_KEYS: [&str; 9] = [
    "out",
    "steps",
    "seconds",
    "train_examples_per_s",
    "trainable_parameters",
    "frozen_parameters",
    "peak_rss_mb",
    "dev",
    "test",
];

/// Trains, evaluates on the test file in a new process, and compares every number.
fn eval_repeats_the_run(scene: &Scene, names: &[&str], examples: u64) -> Map<String, Value> {
    let run = scene.run(&["train", "run.toml", "--out", "out", "--json"]).object();
    assert_eq!(keys(&run), TRAIN_KEYS);
    assert_eq!(run["out"], "out");
    assert_eq!(run["steps"], 4);
    assert_eq!(keys(metrics(&run, "dev")), names);
    let evaluated = scene.run(&["eval", "out/adapter", "--data", "test.jsonl", "--json"]).object();
    assert_eq!(keys(&evaluated), ["examples", "examples_per_s", "metrics"]);
    assert_eq!(evaluated["examples"], examples);
    assert_eq!(keys(metrics(&evaluated, "metrics")), names);
    assert_eq!(evaluated["metrics"].to_string(), run["test"].to_string());
    run
}

#[test]
fn a_verbalizer_task() {
    let scene = Scene::new();
    let run = eval_repeats_the_run(&scene, &["accuracy", "macro_f1", "majority"], 3);
    // Three rows of width 32 through the LAMA LSTM: table 3 x 32, two layers of two directions, an MLP.
    let lstm = 2 * 4 * (16 * 32 + 16 * 16 + 2 * 16) * 2;
    assert_eq!(run["trainable_parameters"], 3 * 32 + lstm + 2 * (32 * 32 + 32));
    assert_eq!(run["frozen_parameters"], 33003);
    let answer = scene
        .run(&["predict", "out/adapter", "--field", "premise=Soup", "--field", "hypothesis=tea", "--json"])
        .object();
    assert_eq!(keys(&answer), ["label", "probabilities"]);
    assert_eq!(keys(metrics(&answer, "probabilities")), ["entailment", "not_entailment"]);
    let sum: f64 = metrics(&answer, "probabilities").values().map(|p| p.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-12, "{sum}");
}

#[test]
fn a_probing_task() {
    let scene = Scene::probing();
    let run = eval_repeats_the_run(&scene, &["p_at_1", "p_at_10", "mrr", "majority", "kept", "dropped"], 3);
    assert_eq!((&run["test"]["kept"], &run["test"]["dropped"]), (&Value::from(3), &Value::from(1)));
    let answer = scene.run(&["predict", "out/adapter", "--field", "subject=Peru", "--top", "3", "--json"]).object();
    assert_eq!(keys(&answer), ["top"]);
    let top = answer["top"].as_array().unwrap();
    assert_eq!(top.len(), 3);
    for word in top {
        assert_eq!(keys(word.as_object().unwrap()), ["word", "probability"]);
        assert!(["paris", "rome", "oslo", "madrid"].contains(&word["word"].as_str().unwrap()), "{word}");
    }
    // More than there are: all of them.
    let all = scene.run(&["predict", "out/adapter", "--field", "subject=Peru", "--top", "9", "--json"]).object();
    assert_eq!(all["top"].as_array().unwrap().len(), 4);
}

/// The notes about what was left out belong to standard error, and each says how many.
#[test]
fn what_is_left_out_is_told() {
    let said = Scene::probing().run(&["train", "run.toml", "--out", "out", "--json"]);
    assert!(said.err.contains("words.json: 4 candidates; 1 words dropped"), "{}", said.err);
    assert!(said.err.contains("1 merged with another"), "{}", said.err);
    assert!(said.err.contains("dev.jsonl: 1 of 4 rows dropped: their answer is not a candidate"), "{}", said.err);
}

#[test]
fn a_manual_template_is_evaluated_and_not_trained() {
    let scene = Scene::new();
    scene.template("{premise|shorten} [MASK] . {hypothesis}");
    let run = scene.run(&["train", "run.toml", "--out", "out", "--json"]).object();
    assert_eq!((&run["steps"], &run["trainable_parameters"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(run["train_examples_per_s"], 0.0);
    assert!(!scene.path("out/adapter/prompt.safetensors").exists());
    let evaluated = scene.run(&["eval", "out/adapter", "--data", "test.jsonl", "--json"]).object();
    assert_eq!(evaluated["metrics"].to_string(), run["test"].to_string());
}

#[test]
fn without_dev_and_test_their_places_are_null_and_the_last_prompt_is_kept() {
    let scene = Scene::new();
    scene.edit("run.toml", "dev = \"dev.jsonl\"\ntest = \"test.jsonl\"\n", "");
    let run = scene.run(&["train", "run.toml", "--out", "out", "--json"]).object();
    assert_eq!(keys(&run), TRAIN_KEYS);
    assert_eq!((&run["dev"], &run["test"]), (&Value::Null, &Value::Null));
    scene.run(&["eval", "out/adapter", "--data", "test.jsonl"]).done();
}

#[test]
fn a_directory_whose_name_is_no_utf8_can_hold_a_run() {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let scene = Scene::new();
        let name = std::ffi::OsStr::from_bytes(b"out\xff");
        let run = scene.said(scene.ptune().args(["train", "run.toml", "--json", "--out"]).arg(name)).object();
        assert_eq!(run["out"], "out\u{fffd}");
    }
}

const BENCH_KEYS: [&str; 7] = [
    "compute",
    "train_examples_per_s",
    "eval_examples_per_s",
    "step_gflops",
    "matmul_peak_gflops",
    "peak_rss_mb",
    "operations",
];

/// The kinds of operations and their shares of the time, which together are all of it.
fn operations(bench: &Map<String, Value>) -> Vec<String> {
    let list = bench["operations"].as_array().unwrap();
    let share: f64 = list.iter().map(|one| one["share"].as_f64().unwrap()).sum();
    assert!((share - 1.0).abs() < 0.01, "{share}");
    list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn bench_measures_and_writes_nothing() {
    let scene = Scene::new();
    let before = scene.files();
    let bench = scene.run(&["bench", "run.toml", "--epochs", "2", "--json"]).object();
    assert_eq!(keys(&bench), BENCH_KEYS);
    for key in &BENCH_KEYS[1..5] {
        assert!(bench[*key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(bench["step_gflops"].as_f64() < bench["matmul_peak_gflops"].as_f64());
    let names = operations(&bench);
    for name in ["products", "products_backward", "attention_backward", "prompt_encoder", "optimizer", "other"] {
        assert!(names.iter().any(|other| other == name), "{name} is not in {names:?}");
    }
    let text = scene.run(&["bench", "run.toml", "--epochs", "1"]).done();
    assert!(text.contains("3 examples x 1") && text.contains("one training step"), "{text}");
    assert!(scene.files() == before, "something was written");
}

#[test]
fn bench_of_a_manual_prompt_only_evaluates() {
    let scene = Scene::new();
    scene.template("{premise|shorten} [MASK] . {hypothesis}");
    let bench = scene.run(&["bench", "run.toml", "--epochs", "1", "--json"]).object();
    assert_eq!(keys(&bench), BENCH_KEYS);
    assert!(bench["train_examples_per_s"].is_null());
    assert!(!operations(&bench).iter().any(|name| name.ends_with("_backward")));
    let text = scene.run(&["bench", "run.toml", "--epochs", "1"]).done();
    assert!(text.contains("a manual prompt has nothing to train") && text.contains("one evaluation"), "{text}");
}
