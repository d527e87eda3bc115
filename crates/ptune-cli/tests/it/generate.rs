//! Tasks whose answers are texts: `train`, `eval` and `generate`, and who is refused by whom.

use serde_json::{Value, json};

use crate::scene::Scene;

fn parsed(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn eval_repeats_the_run_and_the_answer_has_its_keys() {
    let scene = Scene::text();
    let run = scene.run(&["train", "run.toml", "--out", "out", "--json"]).object();
    let names: Vec<&String> = run["test"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["exact_match", "perplexity", "loss"]);
    let evaluated = scene.run(&["eval", "out/adapter", "--data", "test.jsonl", "--json"]).object();
    assert_eq!(evaluated["metrics"].to_string(), run["test"].to_string());
    let adapter = scene.read("out/adapter/adapter.toml");
    assert!(adapter.contains("answer_tokens = 24") && !adapter.contains("labels"), "{adapter}");
    assert!(scene.run(&["inspect", "out/adapter"]).done().contains("any text of at most 24 tokens"));
    assert!(scene.read("out/report.html").contains("answers are texts"));
    let answer = scene.run(&["generate", "out/adapter", "--field", "premise=Soup", "--json"]).object();
    assert_eq!(answer.keys().collect::<Vec<_>>(), ["text", "tokens", "ended"]);
    assert_eq!((&answer["tokens"], &answer["ended"]), (&json!(24), &json!("length")));
    let text = scene.run(&["generate", "out/adapter", "--field", "premise=Soup", "--max-tokens", "3"]).done();
    assert!(answer["text"].as_str().unwrap().starts_with(text.trim_end_matches(['\n', '\u{fffd}'])), "{text}");
}

#[test]
fn lines_are_answered_in_order_and_bad_ones_in_their_place() {
    let scene = Scene::text().trained();
    let line = |premise: &str| json!({"premise": premise}).to_string();
    let words = ["Soup", "the cat sleeps", "국물이 좋다", "it was in Rome"];
    let mut lines: Vec<String> = (0..70).map(|i| line(words[i % 4])).collect();
    lines[1] = "{\"premise\": ".into();
    lines[5] = "{\"text\": \"no premise\"}".into();
    scene.write("lines.jsonl", lines.join("\n"));
    let generate = |input: &str, more: &[&str]| {
        scene.run(&[&["generate", "out/adapter", "--max-tokens", "8", "--input", input][..], more].concat())
    };
    let said = generate("lines.jsonl", &[]);
    assert_eq!(said.status, Some(2), "{}", said.err);
    let answers = parsed(&said.out);
    assert_eq!(answers.len(), 70);
    assert!(answers[1]["error"].as_str().unwrap().contains("JSON") && answers[1]["line"] == 2);
    assert!(answers[5]["error"].as_str().unwrap().contains("premise") && answers[5]["line"] == 6);
    assert!((8..70).all(|i| answers[i] == answers[i - 4] || i == 9), "greedy texts depend on their lines alone");
    assert!(answers[2] != answers[4] && answers[2] != answers[3], "all are alike");
    // Drawn ones depend on the line's number too, and on nothing else.
    let drawn = ["--temperature", "2", "--seed", "3"];
    let all = parsed(&generate("lines.jsonl", &drawn).out);
    assert!((8..70).any(|i| all[i] != all[i - 4]));
    scene.write("few.jsonl", lines[..3].join("\n"));
    assert_eq!(parsed(&generate("few.jsonl", &drawn).out)[..], all[..3]);
    let one = scene.run(
        &[&["generate", "out/adapter", "--max-tokens", "8", "--field", "premise=Soup", "--json"][..], &drawn].concat(),
    );
    assert_eq!(Value::Object(one.object()), all[0], "a field is a first line");
    let threads = generate("lines.jsonl", &[&drawn[..], &["--threads", "3"]].concat());
    assert_eq!(parsed(&threads.out), all);
}

#[test]
fn a_stop_string_ends_a_text() {
    let scene = Scene::text().trained();
    let ask = ["generate", "out/adapter", "--field", "premise=Soup", "--json"];
    let whole = scene.run(&ask).object()["text"].as_str().unwrap().to_owned();
    let stop = whole.chars().skip(2).take(2).collect::<String>();
    let stopped = scene.run(&[&ask[..], &["--stop", "nowhere in it", "--stop", &stop]].concat()).object();
    assert_eq!(stopped["ended"], "stop");
    assert_eq!(stopped["text"].as_str().unwrap(), whole[..whole.find(&stop).unwrap()].trim());
}

#[test]
fn who_writes_does_not_predict_and_who_predicts_does_not_write() {
    let scene = Scene::text().trained();
    scene.refused(&["predict", "out/adapter", "--field", "premise=Soup"], &["ptune generate"]);
    scene.refused(&["generate", "out/adapter", "--field", "other=Soup"], &["'premise' is missing"]);
    let field = ["generate", "out/adapter", "--field", "premise=Soup"];
    let refused = |more: &[&str], says: &str| scene.refused(&[&field[..], more].concat(), &[says]);
    refused(&["--temperature", "0"], "--temperature 0");
    refused(&["--temperature", "1", "--top-p", "0"], "--top-p 0");
    refused(&["--top-k", "3"], "--temperature");
    refused(&["--stop", ""], "--stop");
    let scene = Scene::gpt2().trained();
    let fields = ["--field", "premise=Soup", "--field", "hypothesis=tea"];
    scene.refused(&[&["generate", "out/adapter"][..], &fields].concat(), &["ptune predict", "task.answer"]);
}

#[test]
fn what_cannot_be_a_task_of_texts_is_refused_with_its_key() {
    let scene = Scene::text();
    scene.edit("run.toml", "answer_tokens = 24", "answer_tokens = 3");
    scene.refused(&["train", "run.toml"], &["train.jsonl:1", "task.answer_tokens is 3", "raise it"]);
    scene.edit("run.toml", "answer_tokens = 3", "answer_tokens = 40");
    scene.refused(&["train", "run.toml"], &["task.answer_tokens", "no room"]);
    let masked = Scene::new();
    masked.edit("run.toml", "[task]", "[task]\nanswer = \"text\"");
    let text = masked.read("run.toml");
    let labels = &text[text.find("[task.verbalizer]").unwrap()..text.find("[train]").unwrap()];
    masked.edit("run.toml", labels, "");
    masked.refused(&["train", "run.toml"], &["task.answer", "bert", "masked"]);
    let scene = Scene::text();
    scene.edit("train.jsonl", "The cat is in the room.", " ");
    scene.refused(&["train", "run.toml"], &["train.jsonl:1", "the answer is empty"]);
}
