//! The combinations of docs/methods.md over every family: what the table calls trained is trained for five steps, saved,
//! loaded and gone on with; what it calls refused is refused. BERT and GPT-2 take all of them, the other families each
//! choice in turn beside the others' usual one, so that the whole stays a matter of seconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ptune::checkpoint::Weights;
use ptune::predict::Predictor;
use ptune::train::{Event, Options, RunConfig, Summary, run, run_with};
use ptune::{Device, Error};

use crate::scene::{Choice, Family, families, rows};

/// The table: a choice in each cell, and what becomes of it.
fn table() -> Vec<(Choice, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/methods.md");
    let manual = fs::read_to_string(file).expect("docs/methods.md");
    let section = manual.split("\n## ").find(|section| section.starts_with("Combinations\n")).expect("the section");
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let mut lines = section.lines().filter(|line| line.starts_with('|'));
    let heads = cells(lines.next().expect("the heading"));
    let mut table = Vec::new();
    for line in lines.skip(1) {
        let row = cells(line);
        for (head, becomes) in heads.iter().zip(&row).skip(2) {
            let [prompt, backbone, head] = [&row[0], &row[1], head].map(|name| &*name.clone().leak());
            table.push((Choice { prompt, backbone, head }, becomes.clone()));
        }
    }
    table
}

#[test]
fn the_table_names_every_combination_and_refuses_few() {
    let table = table();
    let distinct = |name: fn(&Choice) -> &'static str| {
        let mut names: Vec<&str> = table.iter().map(|(choice, _)| name(choice)).collect();
        names.sort_unstable();
        names.dedup();
        names.len()
    };
    let (prompts, backbones) = (distinct(|choice| choice.prompt), distinct(|choice| choice.backbone));
    assert_eq!((prompts, backbones), (5, 3));
    assert_eq!(table.len(), prompts * backbones * distinct(|choice| choice.head));
    let refused = table.iter().filter(|(_, becomes)| becomes.starts_with("refused")).count();
    assert!(100 * refused <= 15 * table.len(), "{refused} of {} are refused", table.len());
}

/// The bytes that must be the same: the log and the adapter's files.
fn results(out: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(out.join("adapter")).expect("an adapter").map(|entry| entry.expect("a file").path()).collect();
    files.push(out.join("metrics.jsonl"));
    files.sort();
    let name = |file: &Path| file.strip_prefix(out).expect("inside").to_path_buf();
    files.iter().map(|file| (name(file), fs::read(file).expect("a file"))).collect()
}

/// A run that is stopped after three steps, and goes on.
fn interrupted(what: &str, config: &RunConfig, file: &Path, out: &Path, device: &Device) {
    let flag = AtomicBool::new(false);
    let options = Options { resume: true, stop: Some(&flag) };
    let stopped = run_with(config, file, out, device, options, &mut |event| {
        if matches!(event, Event::Step { step: 3, .. }) {
            flag.store(true, Ordering::Relaxed);
        }
    });
    assert!(matches!(stopped, Err(Error::Stopped { step: 3 })), "{what}: {stopped:?}");
    gradients_reach_everything(what, &out.join("state/state.safetensors"));
    let options = Options { resume: true, stop: None };
    run_with(config, file, out, device, options, &mut |_| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
}

/// Adam's second moment of each parameter is above zero somewhere: a gradient has been there.
fn gradients_reach_everything(what: &str, state: &Path) {
    let state = Weights::open_file(state).expect("a state");
    let moments: Vec<&str> = state.names().filter(|name| name.ends_with(".moment2")).collect();
    assert!(!moments.is_empty(), "{what}: nothing is trained");
    for name in moments {
        let (shape, mut numbers) = (state.shape(name).expect("a shape").to_vec(), Vec::new());
        state.read_into(name, &shape, &mut numbers).expect("a moment");
        assert!(numbers.iter().any(|x| *x > 0.0), "{what}: no gradient reaches {name}");
    }
}

/// What an adapter may hold of its model.
fn check_files(what: &str, choice: Choice, adapter: &Path) {
    let backbone = adapter.join("backbone.safetensors");
    assert_eq!(backbone.exists(), choice.backbone != "frozen", "{what}");
    if choice.backbone == "lora" {
        let file = Weights::open_file(&backbone).expect("the matrices");
        assert!(file.names().all(|name| name.contains(".lora_")), "{what}: more than the matrices");
    }
}

fn check(family: &Family, choice: Choice, becomes: &str) {
    let what = format!("{}: {}, {}, {}", family.name, choice.prompt, choice.backbone, choice.head);
    let (rows, device) = (rows(), Device::processor(Some(1)));
    let (config, file) = choice.run_file(family, rows.path());
    let out = rows.path().join("run");
    let ran: ptune::Result<(RunConfig, Summary)> = config.and_then(|config| {
        let summary = run(&config, &file, &out, &device, &mut |_| {})?;
        Ok((config, summary))
    });
    if becomes.starts_with("refused") || choice.head == "text" && !family.causal {
        let error = ran.err().unwrap_or_else(|| panic!("{what}: is not refused"));
        assert!(error.is_request() && !out.join("adapter").exists(), "{what}: {error}");
        return;
    }
    let (config, summary) = ran.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(summary.steps, if becomes == "trained" { 5 } else { 0 }, "{what}: {becomes}");
    let predictor = Predictor::open(&out.join("adapter"), None, &device, &mut |_, _| {});
    let predictor = predictor.unwrap_or_else(|error| panic!("{what}: {error}"));
    let again = predictor.evaluate(&rows.path().join("rows.jsonl"), &mut |_, _| {}).expect("an evaluation");
    assert_eq!(Some(again.metrics), summary.test, "{what}: another process finds other metrics");
    check_files(&what, choice, &out.join("adapter"));
    if becomes == "trained" {
        let parts = rows.path().join("in-parts");
        interrupted(&what, &config, &file, &parts, &device);
        assert!(results(&parts) == results(&out), "{what}: in parts it comes to something else");
    }
}

/// Families that take all combinations: one masked, one causal.
const WHOLE: [&str; 2] = ["bert", "gpt2"];

/// Whether at most one of the three choices is not the usual one.
fn is_near_the_usual(choice: Choice) -> bool {
    let usual = [choice.prompt == "mlp", choice.backbone == "frozen", choice.head == "verbalizer"];
    usual.into_iter().filter(|usual| !usual).count() < 2
}

/// The combinations with one of the prompts.
fn check_prompt(prompt: &str) {
    let table = table();
    for family in families() {
        let whole = WHOLE.contains(&family.name.as_str());
        let mine = |choice: Choice| choice.prompt == prompt && (whole || is_near_the_usual(choice));
        for (choice, becomes) in table.iter().filter(|(choice, _)| mine(*choice)) {
            check(&family, *choice, becomes);
        }
    }
}

#[test]
fn manual_templates() {
    check_prompt("manual");
}

#[test]
fn pseudo_tokens_from_a_table() {
    check_prompt("embedding");
}

#[test]
fn pseudo_tokens_from_an_mlp() {
    check_prompt("mlp");
}

#[test]
fn pseudo_tokens_from_an_lstm() {
    check_prompt("lstm");
}

#[test]
fn prefixes() {
    check_prompt("prefix");
}
