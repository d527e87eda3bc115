//! RoBERTa and GPT-2 from run file to answer: what only shows when all parts meet.

use serde_json::Value;

use crate::scene::Scene;

/// Trains, evaluates in a new process, and answers: all three must agree.
fn whole_story(scene: &Scene) {
    let trained = scene.run(&["train", "run.toml", "--out", "out", "--json"]).object();
    let evaluated = scene.run(&["eval", "out/adapter", "--data", "test.jsonl", "--json"]).object();
    assert_eq!(trained["test"], evaluated["metrics"]);
    let answers = scene.run(&["predict", "out/adapter", "--input", "test.jsonl", "--json"]).done();
    let labels: Vec<Value> =
        answers.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["label"].clone()).collect();
    let right = labels.iter().zip(["entailment", "not_entailment", "entailment"]).filter(|(a, b)| a == b).count();
    let accuracy = evaluated["metrics"]["accuracy"].as_f64().unwrap();
    assert!((accuracy - right as f64 / 3.0).abs() < 1e-6, "{accuracy}, {labels:?}");
}

#[test]
fn roberta_trains_evaluates_and_answers() {
    whole_story(&Scene::roberta());
}

#[test]
fn gpt2_trains_evaluates_and_answers() {
    whole_story(&Scene::gpt2());
}

#[test]
fn a_causal_tail_is_left_out_where_the_run_file_says_so() {
    let scene = Scene::gpt2();
    scene.edit("run.toml", "[MASK]", "[MASK] .");
    let train = ["train", "run.toml", "--out", "out"];
    scene.refused(&train, &["nothing can stand behind [MASK]", "task.causal_tail = \"drop\"", "^"]);
    scene.edit("run.toml", "[task]", "[task]\ncausal_tail = \"drop\"");
    whole_story(&scene);
}
