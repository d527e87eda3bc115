//! Every method over every family, as the table says. What it calls trained is trained for five steps, and then
//!
//! - the adapter on disk gives the scores of what is in memory, to the bit;
//! - every weight that is not trained is what the checkpoint has, byte for byte;
//! - a gradient has reached every number that is trained (`gradients.rs` names what none can reach);
//! - the same run stopped after three steps and resumed comes to the same files.
//!
//! BERT and GPT-2 take all combinations. Over the other families each pair of choices stands once (prompt and backbone, prompt
//! and head, backbone and head), the third going round with the family.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ptune::checkpoint::Weights;
use ptune::train::{Event, Options, RunConfig, run_with};
use ptune::{Device, Error};

use crate::gradients;
use crate::memory::{Answers, Memory, untouched};
use crate::scene::{Choice, Family, families, rows};
use crate::table::table;

/// The bytes that must be the same: the log and the adapter's files.
pub(crate) fn results(out: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(out.join("adapter")).expect("an adapter").map(|entry| entry.expect("a file").path()).collect();
    files.push(out.join("metrics.jsonl"));
    files.sort();
    let name = |file: &Path| file.strip_prefix(out).expect("inside").to_path_buf();
    files.iter().map(|file| (name(file), fs::read(file).expect("a file"))).collect()
}

/// One run file's runs.
struct Scene<'a> {
    what: &'a str,
    config: &'a RunConfig,
    file: &'a Path,
    device: Device,
}

impl Scene<'_> {
    /// Trains to the end, or to a step; what is in memory at the end.
    fn run(&self, out: &Path, until: Option<usize>) -> Option<Memory> {
        let (flag, mut memory) = (AtomicBool::new(false), None);
        let options = Options { resume: true, stop: Some(&flag) };
        let ended = run_with(self.config, self.file, out, &self.device, options, &mut |event| match event {
            Event::Step { step, .. } => flag.store(Some(step) == until, Ordering::Relaxed),
            Event::Trained { model, learner } => memory = Some(Memory::of(model, learner, self.config, self.file)),
            _ => {}
        });
        match (ended, until) {
            (Ok(_), None) => {}
            (Err(Error::Stopped { step }), Some(until)) if step == until => {}
            (ended, _) => panic!("{}: {ended:?}", self.what),
        }
        memory
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
    let what = &format!("{}: {}, {}, {}", family.name, choice.prompt, choice.backbone, choice.head);
    let (rows, device) = (rows(), Device::processor(Some(1)));
    let (config, file) = choice.run_file(family, rows.path());
    let out = rows.path().join("run");
    if becomes.starts_with("refused") || choice.head == "text" && !family.causal {
        let ran = config.and_then(|config| ptune::train::run(&config, &file, &out, &device, &mut |_| {}));
        let error = ran.err().unwrap_or_else(|| panic!("{what}: is not refused"));
        assert!(error.is_request() && !out.join("adapter").exists(), "{what}: {error}");
        return;
    }
    let config = &config.unwrap_or_else(|error| panic!("{what}: {error}"));
    let scene = Scene { what, config, file: &file, device };
    let memory = scene.run(&out, None).unwrap_or_else(|| panic!("{what}: no end"));
    assert!(memory.frozen == untouched(family, choice), "{what}: a frozen weight has moved");
    let on_disk = Answers::of(&out.join("adapter"), &rows.path().join("rows.jsonl"), config.is_text());
    assert!(memory.answers == on_disk, "{what}: the adapter answers {on_disk:?}, memory {:?}", memory.answers);
    check_files(what, choice, &out.join("adapter"));
    let log = fs::read_to_string(out.join("metrics.jsonl")).expect("a log");
    assert_eq!(log.contains("\"step\":5"), becomes == "trained", "{what}: {becomes}");
    if becomes == "trained" {
        let parts = rows.path().join("in-parts");
        scene.run(&parts, Some(3));
        gradients::check(what, config, &file, &parts.join("state/state.safetensors"));
        assert!(scene.run(&parts, None) == Some(memory), "{what}: in parts it comes to something else");
        assert!(results(&parts) == results(&out), "{what}: in parts it writes something else");
    }
}

/// Families that take all combinations: one masked, one causal.
const WHOLE: [&str; 2] = ["bert", "gpt2"];

/// Whether a family takes this cell of the table, by the numbers of its family, row and column: of three rows that differ in
/// the backbone alone one, another for the next family and in the next column. So each pair of choices meets every family.
fn takes(family: &Family, [number, row, column]: [usize; 3]) -> bool {
    WHOLE.contains(&family.name.as_str()) || (number + row + row / 3 + column).is_multiple_of(3)
}

#[test]
fn every_pair_of_choices_meets_every_family() {
    let table: Vec<Choice> = table().into_iter().map(|(choice, _)| choice).filter(|c| !c.is_found()).collect();
    for (number, family) in families().iter().enumerate() {
        let taken = |(cell, _): &(usize, &Choice)| takes(family, [number, cell / 4, cell % 4]);
        let taken: Vec<&Choice> = table.iter().enumerate().filter(taken).map(|(_, choice)| choice).collect();
        let pairs = |choices: &mut dyn Iterator<Item = &Choice>| -> BTreeSet<[&str; 2]> {
            choices.flat_map(|c| [[c.prompt, c.backbone], [c.prompt, c.head], [c.backbone, c.head]]).collect()
        };
        assert_eq!(pairs(&mut taken.into_iter()), pairs(&mut table.iter()), "{}", family.name);
    }
}

/// The combinations with one of the prompts, all of them or those that each family takes.
fn check_prompt(prompt: &str, all: bool) {
    let table = table();
    let heads = table.iter().filter(|(choice, _)| (choice.prompt, choice.backbone) == (prompt, "frozen")).count();
    for (number, family) in families().iter().enumerate() {
        for (cell, (choice, becomes)) in table.iter().enumerate().filter(|(_, (choice, _))| choice.prompt == prompt) {
            if all || takes(family, [number, cell / heads, cell % heads]) {
                check(family, *choice, becomes);
            }
        }
    }
}

/// A few minutes of a debug build; by hand (`-- --ignored`), when something that families share has changed.
#[test]
#[ignore = "takes minutes; the tests below take a third of it"]
fn every_combination_over_every_family() {
    let prompts: BTreeSet<&str> =
        table().iter().map(|(choice, _)| *choice).filter(|c| !c.is_found()).map(|c| c.prompt).collect();
    prompts.into_iter().for_each(|prompt| check_prompt(prompt, true));
}

#[test]
fn manual_templates() {
    check_prompt("manual", false);
}

#[test]
fn pseudo_tokens_from_a_table() {
    check_prompt("embedding", false);
}

#[test]
fn pseudo_tokens_from_an_mlp() {
    check_prompt("mlp", false);
}

#[test]
fn pseudo_tokens_from_an_lstm() {
    check_prompt("lstm", false);
}

#[test]
fn prefixes() {
    check_prompt("prefix", false);
}

#[test]
fn projected_prefixes() {
    check_prompt("projected prefix", false);
}

#[test]
fn prefixes_and_pseudo_tokens() {
    check_prompt("prefix + mlp", false);
}
