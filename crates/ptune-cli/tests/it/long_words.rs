//! Label words of several tokens, from the run file to the answer.

use std::path::Path;

use crate::scene::Scene;

/// The sentiment task of the tree with label words of one to three tokens.
fn sentiment() -> Scene {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let scene = Scene::new();
    for name in ["train.jsonl", "dev.jsonl", "test.jsonl"] {
        scene.write(name, std::fs::read(examples.join("sentiment").join(name)).unwrap());
    }
    scene.write("run.toml", std::fs::read(examples.join("sentiment/run.toml")).unwrap());
    let model = examples.join("tiny-mlm").canonicalize().unwrap();
    scene.edit("run.toml", "\"../tiny-mlm\"", &format!("'{}'", model.display()));
    scene.edit("run.toml", "[\"good\"]", "[\"good\", \"really good\", \"a wonderful thing\"]");
    scene.edit("run.toml", "[\"bad\"]", "[\"really bad\", \"a terrible thing\"]");
    scene.edit("run.toml", "steps = 250", "steps = 100");
    scene
}

#[test]
fn train_eval_and_predict_score_words_of_several_tokens() {
    let scene = sentiment();
    let said = scene.run(&["train", "run.toml", "--out", "out", "--json"]);
    let note = "scored over the whole vocabulary, which takes longer: 'really good' (really, good) and 3 more";
    assert!(said.err.contains(note), "{}", said.err);
    let summary = said.object();
    assert!(summary["test"]["accuracy"].as_f64().unwrap() >= 0.85, "{summary:?}");

    let eval = scene.run(&["eval", "out/adapter", "--data", "test.jsonl", "--json"]).object();
    assert_eq!(eval["metrics"]["accuracy"], summary["test"]["accuracy"]);
    assert_eq!(eval["metrics"]["macro_f1"], summary["test"]["macro_f1"]);

    let answers = scene.run(&["predict", "out/adapter", "--input", "test.jsonl"]).done();
    let gold = scene.read("test.jsonl");
    let mut right = 0;
    for (answer, row) in answers.lines().zip(gold.lines()) {
        let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        let (positive, negative) = (&answer["probabilities"]["positive"], &answer["probabilities"]["negative"]);
        let sum = positive.as_f64().unwrap() + negative.as_f64().unwrap();
        assert!((sum - 1.0).abs() < 1e-9, "{answer}");
        right += usize::from(answer["label"] == row["label"]);
    }
    let accuracy = right as f64 / gold.lines().count() as f64;
    assert_eq!(Some(accuracy), summary["test"]["accuracy"].as_f64());
}

#[test]
fn a_row_leaves_room_for_the_longest_word() {
    let scene = sentiment();
    let row = format!("{{\"text\": \"{}\", \"label\": \"positive\"}}\n", "story ".repeat(20));
    for name in ["train.jsonl", "dev.jsonl", "test.jsonl"] {
        scene.write(name, &row);
    }
    // [CLS] [P*3] 20 it was [P*3] [MASK] [SEP] are 31 tokens with one mask, 33 with three.
    let run = |max: &str| scene.run(&["train", "run.toml", "--out", max, "--set", &format!("data.max_tokens={max}")]);
    let said = run("32");
    assert_eq!(said.status, Some(2), "{}", said.err);
    assert!(said.err.contains("train.jsonl:1: this row has 33 tokens, max_tokens is 32"), "{}", said.err);
    run("33").done();
}

/// GPT-2 with a template that goes on behind its answer, and English and Korean words of one to seven tokens.
#[test]
fn a_causal_model_answers_behind_a_template_that_was_cut() {
    let scene = Scene::gpt2();
    scene.template("[P*2] {premise|shorten} ? [P*1] [MASK] . [P*4] {hypothesis}");
    let run = scene.read("run.toml");
    let words = run.split("[task.verbalizer]\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let new = "entailment = [\"yes\", \"최고입니다\"]\nnot_entailment = [\"not good\", \"나쁘\"]";
    scene.write("run.toml", run.replace(words, new));
    let says = ["nothing can stand behind [MASK]", "task.causal_tail = \"drop\""];
    scene.refused(&["train", "run.toml", "--out", "out"], &says);

    let summary =
        scene.run(&["train", "run.toml", "--out", "out", "--set", "task.causal_tail=drop", "--json"]).object();
    let adapter = scene.read("out/adapter/adapter.toml");
    assert!(adapter.contains("causal_tail = \"drop\"") && adapter.contains("rows = 3"), "{adapter}");
    let eval = scene.run(&["eval", "out/adapter", "--data", "test.jsonl", "--json"]).object();
    assert_eq!(eval["metrics"], summary["test"]);
    // A field that was left out with the tail is not asked for.
    let answer = scene.run(&["predict", "out/adapter", "--field", "premise=soup", "--json"]).object();
    let probability = |label: &str| answer["probabilities"][label].as_f64().unwrap();
    assert!((probability("entailment") + probability("not_entailment") - 1.0).abs() < 1e-9, "{answer:?}");
}
