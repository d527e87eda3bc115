//! `ptune search` as people meet it: what it prints and writes, that its adapter is one like any other, wrong requests, Korean,
//! and what an interruption leaves.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::scene::Scene;

const KEYS: [&str; 10] = ["out", "steps", "seconds", "prompt", "labels", "tokens", "prompts", "tried", "dev", "test"];
const PROMPTS: &str = "{premise|shorten} [MASK] . {hypothesis|no_punct} ?\n\n[P*2] {premise|shorten} [MASK]\n\
                       {hypothesis} ? [MASK] , {premise|shorten}\n";

/// A classification with three places for tokens, and a short search.
fn scene() -> Scene {
    let scene = Scene::new();
    let search = "\n[search]\nsteps = 6\nbatch_size = 2\ncandidates = 4\n";
    scene.write("run.toml", scene.read("run.toml") + search);
    scene.write("prompts.txt", PROMPTS);
    scene
}

/// What `eval` says of the adapter in a new process is what the search has said.
#[track_caller]
fn eval_repeats(scene: &Scene, found: &Map<String, Value>) {
    let adapter = format!("{}/adapter", found["out"].as_str().unwrap());
    let evaluated = scene.run(&["eval", &adapter, "--data", "test.jsonl", "--json"]).object();
    assert_eq!(evaluated["metrics"].to_string(), found["test"].to_string());
}

#[test]
fn tokens_that_are_found_are_an_adapter_like_any_other() {
    let scene = scene();
    let said = scene.run(&["search", "run.toml", "--out", "out", "--json"]);
    assert!(said.err.contains("step     4  dev  accuracy"), "{}", said.err);
    let found = said.object();
    assert_eq!(found.keys().collect::<Vec<_>>(), KEYS);
    assert_eq!(
        (&found["steps"], &found["labels"], &found["prompts"]),
        (&6.into(), &Value::Array(vec![]), &found["tried"])
    );
    let tokens = found["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 3);
    for token in tokens {
        let token = token.as_str().unwrap();
        assert!(found["prompt"].as_str().unwrap().contains(token.trim_start_matches('#')), "{found:?}");
        assert!(
            !["[MASK]", "yes", "true", "no"].contains(&token),
            "a label word or a mask stands in the prompt: {token}"
        );
    }
    eval_repeats(&scene, &found);
    let answer =
        scene.run(&["predict", "out/adapter", "--field", "premise=Soup", "--field", "hypothesis=tea", "--json"]);
    assert!(["entailment", "not_entailment"].contains(&answer.object()["label"].as_str().unwrap()));
    let inspected = scene.run(&["inspect", "out/adapter", "--json"]).object();
    assert_eq!(inspected["discrete"]["tokens"].as_array().unwrap().len(), 3);
    // The same request comes to the same bytes, and people get the same in words.
    let text = scene.run(&["search", "run.toml", "--out", "again", "--threads", "1"]).done();
    for part in ["6 steps in ", "\nprompt ", "\ntokens ", "\ndev ", "\ntest ", "\nadapter: again/adapter ("] {
        assert!(text.contains(part), "'{part}' is not in {text}");
    }
    assert!(scene.written("out") == scene.written("again"));
}

#[test]
fn given_prompts_answer_alone_or_together() {
    let scene = scene();
    for (combine, together) in [("best", 1), ("mean", 2), ("weighted", 2)] {
        let set = format!("search.combine={combine}");
        let said =
            scene.run(&["search", "run.toml", "--prompts", "prompts.txt", "--set", &set, "--out", combine, "--json"]);
        assert!(
            said.err.contains("prompts.txt:3: left out: ") && said.err.contains("without pseudo tokens"),
            "{}",
            said.err
        );
        let found = said.object();
        assert_eq!(found.keys().collect::<Vec<_>>(), KEYS);
        let count = |key: &str| found[key].as_array().unwrap().len();
        assert_eq!((count("tried"), count("prompts"), count("tokens")), (2, together, 0), "{combine}");
        let weights = found["prompts"].as_array().unwrap().iter().map(|prompt| prompt["weight"].as_f64().unwrap());
        assert!((weights.sum::<f64>() - 1.0).abs() < 1e-9);
        eval_repeats(&scene, &found);
    }
    // JSON lines; a path from where the command stands, not from the run file.
    let lines = PROMPTS.lines().filter(|line| !line.is_empty()).map(|line| format!("{{\"template\": {line:?}}}\n"));
    scene.write("prompts.jsonl", lines.collect::<String>());
    std::fs::create_dir(scene.path("run")).unwrap();
    let text = scene.read("run.toml").replace("model = \"model\"", "model = \"../model\"");
    scene.write("run/run.toml", text.replace(" = \"t", " = \"../t").replace(" = \"d", " = \"../d"));
    let text = scene.run(&["search", "run/run.toml", "--prompts", "prompts.jsonl", "--out", "lines"]).done();
    assert!(text.contains("2 prompts in ") && text.contains("weight    prompt\n  1.0000  {"), "{text}");
}

#[test]
fn label_words_are_found_and_train_on() {
    let scene = scene();
    let more = ["--set", "search.label_words=2", "--set", "search.label_pool=0"];
    let said = scene.run(&[&["search", "run.toml", "--out", "out"][..], &more].concat());
    assert!(said.err.contains("label words: entailment = "), "{}", said.err);
    assert!(said.done().contains("\nlabel  not_entailment: "));
    let found = scene.run(&[&["search", "run.toml", "--out", "json", "--json"][..], &more].concat()).object();
    eval_repeats(&scene, &found);
    let labels = found["labels"].as_array().unwrap();
    assert_eq!(
        labels.iter().map(|label| label["label"].as_str().unwrap()).collect::<Vec<_>>(),
        ["entailment", "not_entailment"]
    );
    let words: Vec<&str> =
        labels.iter().flat_map(|label| label["words"].as_array().unwrap()).filter_map(Value::as_str).collect();
    assert_eq!(words.len(), 4);
    // The run file of the run directory has them, so that a training begins with them.
    scene.run(&["train", "json/run.toml", "--out", "trained"]).done();
    let trained = scene.read("trained/adapter/adapter.toml");
    assert!(words.iter().all(|word| trained.contains(&format!("\"{word}\""))), "{words:?} in {trained}");
}

#[test]
fn wrong_requests_are_refused_before_anything_is_written() {
    let refused = |scene: &Scene, more: &[&str], says: &[&str]| {
        scene.refused(&[&["search", "run.toml", "--out", "out", "--json"], more].concat(), says);
    };
    let set = |key_and_value: &str, says: &str| refused(&scene(), &["--set", key_and_value], &[says]);
    set("task.template={premise|shorten} [MASK] .", "task.template: has no [P*n]");
    set("search.stepz=3", "did you mean 'search.steps'?");
    set("search.candidates=0", "search.candidates: 0: must be from 1");
    set("search.combine=all", "search.combine");
    set("search.top=3", "search.top: is for prompts that answer together");
    set("search.label_words=101", "search.label_words: 101: must be from 1 to 100");
    set("search.label_pool=-1", "search.label_pool");
    set("prompt.prefix_tokens=2", "prompt.prefix_tokens: a prefix has no tokens");
    set("train.select=mrr", "train.select");
    refused(&Scene::probing(), &["--set", "search.label_words=1"], &["search.label_words: are words of labels"]);
    refused(&Scene::text(), &[], &["task.answer: a search asks for labels or for one word"]);
    refused(&scene(), &["--prompts", "nowhere.txt"], &["nowhere.txt: No such file"]);
    let with = |prompts: &str, says: &str| {
        let scene = scene();
        scene.write("prompts.txt", prompts);
        refused(&scene, &["--prompts", "prompts.txt"], &[says]);
    };
    with("[X] is [Y]\n", "prompts.txt:1: [X] stands for the only field of task.template, which has 2");
    with("\n\n", "prompts.txt: holds no prompt that this task can be asked by");
    with("{premise} [P*1] [MASK]\n", "prompts.txt: holds no prompt that this task can be asked by");
    let scene = scene();
    scene.refused(&["search", "model"], &["model: is a directory; a run file (TOML) is wanted here"]);
    scene.run(&["search", "run.toml", "--out", "out"]).done();
    refused(&scene, &[], &["out: holds a run already"]);
}

/// The built-in model, asked in Korean: given prompts with labels of Korean names, and tokens between Korean words.
#[test]
fn korean_prompts_are_compared_and_found() {
    let scene = Scene::new();
    let capitals = [("한국", "서울"), ("일본", "도쿄"), ("프랑스", "파리"), ("이탈리아", "로마"), ("영국", "런던")];
    let rows = capitals.map(|(x, y)| format!("{{\"나라\": \"{x}\", \"수도\": \"{y}\"}}\n"));
    for name in ["train.jsonl", "dev.jsonl", "test.jsonl"] {
        scene.write(name, rows.concat());
    }
    let run = "model = 'world-mlm'\n[data]\ntrain = 'train.jsonl'\ndev = 'dev.jsonl'\ntest = 'test.jsonl'\n\
               [task]\ntemplate = '{나라} [P*1] 수도는 [MASK] 입니다.'\ntarget = '수도'\n\
               [search]\nsteps = 3\nbatch_size = 4\ncandidates = 3\n";
    scene.write("run.toml", run);
    scene.write("질문.txt", "[X]에서 [Y] 입니다.\n[X]의 수도는 [Y] 입니다.\n");
    let found = scene.run(&["search", "run.toml", "--prompts", "질문.txt", "--out", "질문", "--json"]).object();
    assert_eq!(found["prompt"], "{나라}의 수도는 [MASK] 입니다.");
    assert_eq!(found["test"]["p_at_1"], 1.0);
    let text = scene.run(&["search", "run.toml", "--out", "낱말"]).done();
    assert!(text.contains("\nprompt {나라}") && text.contains(" 수도는 [MASK] 입니다.\ntokens "), "{text}");
    for (out, answer) in [("질문", true), ("낱말", false)] {
        let said = scene.run(&["predict", &format!("{out}/adapter"), "--field", "나라=일본", "--json"]).object();
        let top = said["top"][0]["word"].as_str().unwrap();
        assert!(!answer || top == "도쿄", "{top}");
    }
    scene.write("질문.txt", "[X]의 수도는 [MASK 입니다.\n");
    scene.refused(&["search", "run.toml", "--prompts", "질문.txt", "--out", "x"], &["질문.txt: holds no prompt"]);
}

/// Ctrl-C, and a kill at any moment: what was found stays and answers, the log is whole, and nothing is written over.
#[cfg(unix)]
#[test]
fn an_interrupted_search_keeps_its_best() {
    use crate::resume::{end, nothing_is_damaged, signal, start, wait_for};
    let scene = scene();
    let endless = |out: &str| start(&scene, &["search", "run.toml", "--set", "search.steps=1000000", "--out", out]);
    let child = endless("asked");
    wait_for(&scene.path("asked/adapter/adapter.toml"));
    signal(&child, "INT");
    let (status, err) = end(child);
    let last = err.lines().last().unwrap();
    assert_eq!(status.code(), Some(1), "{err}");
    assert!(
        last.starts_with("ptune: stopped after step ") && last.ends_with("the best so far is asked/adapter"),
        "{err}"
    );
    scene.run(&["eval", "asked/adapter", "--data", "test.jsonl"]).done();
    nothing_is_damaged(&scene, "asked");
    for pause in [0, 3, 10, 30] {
        let out = format!("killed-{pause}");
        let mut child = endless(&out);
        wait_for(&scene.path(&out).join("metrics.jsonl"));
        std::thread::sleep(std::time::Duration::from_millis(pause));
        child.kill().unwrap();
        end(child);
        nothing_is_damaged(&scene, &out);
        let before: BTreeMap<_, _> = scene.files();
        assert!(!before.keys().any(|path| path.extension().is_some_and(|extension| extension == "toml.tmp")));
        scene.refused(&["search", "run.toml", "--out", &out], &["holds a run already"]);
    }
}
