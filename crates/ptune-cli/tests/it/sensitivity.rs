//! `ptune sensitivity` as people meet it: table, JSON and page, edits, training from each prompt and going on with it, wrong
//! requests, Korean.

use serde_json::Value;

use crate::scene::Scene;

const KEYS: [&str; 7] = ["metric", "rows", "examples", "majority", "prompts", "untrained", "tuned"];
const PROMPTS: &str = "[X] is located in [Y] .\nof [X] , [Y]\n";

fn scene() -> Scene {
    let scene = Scene::probing();
    scene.write("prompts.txt", PROMPTS);
    scene
}

#[test]
fn a_table_json_and_a_page_say_the_same() {
    let scene = scene();
    let said = scene.run(&["sensitivity", "run.toml", "--prompts", "prompts.txt", "--out", "out", "--json"]);
    assert!(said.err.contains("test.jsonl: 1 of 4 rows dropped"), "{}", said.err);
    let found = said.object();
    assert_eq!(found.keys().collect::<Vec<_>>(), KEYS);
    assert_eq!((&found["metric"], &found["rows"], &found["examples"]), (&"p_at_1".into(), &"test".into(), &3.into()));
    assert_eq!(found["prompts"][1]["template"], "of {subject} , [MASK]");
    let written: Value = serde_json::from_str(&scene.read("out/sensitivity.json")).unwrap();
    assert_eq!(written, Value::Object(found.clone()));
    let page = scene.read("out/sensitivity.html");
    assert!(page.contains("of {subject} , [MASK]") && !page.contains("http") && !page.contains("<script"), "{page}");
    // The scores are those of the prompts as adapters of their own.
    for (i, prompt) in found["prompts"].as_array().unwrap().iter().enumerate() {
        scene.template(prompt["template"].as_str().unwrap());
        let run = scene.run(&["train", "run.toml", "--out", &format!("alone-{i}"), "--json"]).object();
        assert_eq!(run["test"]["p_at_1"], prompt["untrained"]);
    }
    let text = scene.run(&["sensitivity", "run.toml", "--prompts", "prompts.txt", "--out", "text"]).done();
    assert!(text.starts_with("p_at_1 on 3 test rows; majority 0.3333\nuntrained   tuned  prompt\n"), "{text}");
    for part in ["  best\n", "  worst\n", "  mean\n", "  deviation\n", "\nreport: text/sensitivity.html"] {
        assert!(text.contains(part), "'{part}' is not in {text}");
    }
}

#[test]
fn without_prompts_the_run_files_own_is_edited() {
    let scene = scene();
    let found = scene.run(&["sensitivity", "run.toml", "--edits", "--out", "out", "--json"]).object();
    let prompts = found["prompts"].as_array().unwrap();
    assert_eq!(
        (&prompts[0]["template"], &prompts[0]["edit"]),
        (&"{subject} is located in [MASK] .".into(), &Value::Null)
    );
    assert!(prompts.len() > 5 && prompts[1..].iter().all(|prompt| prompt["edit"].is_string()), "{prompts:?}");
    let text = scene.run(&["sensitivity", "run.toml", "--edits", "--out", "text"]).done();
    assert!(text.contains("   (drop: 'is')\n") && text.contains("(punctuation: "), "{text}");
}

#[test]
fn wrong_requests_are_refused_before_anything_is_written() {
    let refused = |scene: &Scene, more: &[&str], says: &[&str]| {
        scene.refused(&[&["sensitivity", "run.toml", "--out", "out", "--json"], more].concat(), says);
    };
    let set = |key_and_value: &str, says: &str| refused(&scene(), &["--set", key_and_value], &[says]);
    set("sensitivity.tokens=0", "sensitivity.tokens: 0: must be from 1");
    set("sensitivity.token=2", "did you mean 'sensitivity.tokens'?");
    set("sensitivity.prompts=['{subject} is']", "has no [MASK]");
    set("sensitivity.prompts=['[P*2] {subject} [MASK]']", "without pseudo tokens");
    set("task.target=nothing", "the field 'nothing' is missing");
    refused(&Scene::text(), &[], &["task.answer: prompts are compared by labels or by one word"]);
    refused(&scene(), &["--prompts", "nowhere.txt"], &["nowhere.txt: No such file"]);
    let scene = scene();
    scene.edit("run.toml", "epochs = 2\n", "");
    refused(&scene, &["--tune"], &["train.steps: is missing"]);
    scene.refused(&["sensitivity", "model"], &["model: is a directory; a run file (TOML) is wanted here"]);
}

#[test]
fn korean_prompts_are_compared() {
    let scene = Scene::new();
    let rows = [("한국", "서울"), ("일본", "도쿄"), ("프랑스", "파리")]
        .map(|(x, y)| format!("{{\"나라\": \"{x}\", \"수도\": \"{y}\"}}\n"));
    scene.write("train.jsonl", rows.concat());
    let run = "model = 'world-mlm'\n[data]\ntrain = 'train.jsonl'\n\
               [task]\ntemplate = '{나라}의 수도는 [P*2] [MASK] 입니다.'\ntarget = '수도'\n";
    scene.write("run.toml", run);
    scene
        .write("질문.jsonl", "{\"template\": \"[X]의 수도는 [Y] 입니다.\"}\n{\"template\": \"[X]에서 [Y] 입니다!\"}\n");
    let found = scene.run(&["sensitivity", "run.toml", "--prompts", "질문.jsonl", "--out", "결과", "--json"]).object();
    assert_eq!(found["prompts"][0]["untrained"], 1.0);
    assert!(scene.read("결과/sensitivity.html").contains("{나라}에서 [MASK] 입니다!"));
    let text = scene.run(&["sensitivity", "run.toml", "--edits", "--out", "고침"]).done();
    assert!(text.contains("{나라}의 수도는 [MASK] 입니다") && text.contains("(punctuation: "), "{text}");
}

/// Ctrl-C and kills while prompts are trained: the same command comes to the bytes of one that was never interrupted.
#[cfg(unix)]
#[test]
fn an_interrupted_comparison_goes_on_to_the_same_bytes() {
    use crate::resume::{end, nothing_is_damaged, signal, start, wait_for};
    let scene = scene();
    let command = |out: &'static str| {
        let more = ["--set", "train.epochs=40", "--set", "train.save_every=5", "--set", "sensitivity.tokens=1"];
        [&["sensitivity", "run.toml", "--prompts", "prompts.txt", "--tune", "--out", out][..], &more].concat()
    };
    let said = scene.run(&command("whole"));
    assert!(said.err.contains("prompt 2 of 2: of {subject} , [MASK]"), "{}", said.err);
    said.done();
    let expected = scene.read("whole/sensitivity.json");
    let found: Value = serde_json::from_str(&expected).unwrap();
    assert!(found["tuned"]["mean"].is_f64(), "{expected}");
    assert_eq!(found["prompts"][0]["tuned_template"], "[P*1] {subject} is located in [P*1] [MASK] .");
    let child = start(&scene, &command("out"));
    wait_for(&scene.path("out/prompt-1/metrics.jsonl"));
    signal(&child, "INT");
    let (status, err) = end(child);
    if !status.success() {
        let last = err.lines().last().unwrap();
        assert_eq!(
            (status.code(), last),
            (Some(1), "ptune: stopped and saved; the same command with --out out goes on"),
            "{err}"
        );
    }
    for file in ["out/prompt-1/state/state.safetensors", "out/prompt-2/metrics.jsonl"] {
        let mut child = start(&scene, &command("out"));
        wait_for(&scene.path(file));
        child.kill().unwrap();
        end(child);
        for run in ["out/prompt-1", "out/prompt-2"].into_iter().filter(|run| scene.path(run).exists()) {
            nothing_is_damaged(&scene, run);
        }
    }
    scene.run(&command("out")).done();
    assert!(scene.read("out/sensitivity.json") == expected);
    for run in ["prompt-1", "prompt-2"] {
        assert!(scene.written(&format!("out/{run}")) == scene.written(&format!("whole/{run}")), "{run}");
    }
}
