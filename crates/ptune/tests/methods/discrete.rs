//! Prompts that `ptune search` finds, over every family: what the table calls found is found, its adapter answers as the
//! search did, and the same search comes to the same files; what it calls refused is refused.

use std::fs;

use ptune::Device;
use ptune::predict::Predictor;
use ptune::search::search;

use crate::matrix::results;
use crate::scene::{Choice, Family, families, rows};
use crate::table::table;

/// Templates that differ in the place of the text.
const PROMPTS: &str = "{text} it was [MASK]\n{text} the film was [MASK]\nshe loved {text} [MASK]\n";

fn check(family: &Family, choice: Choice, becomes: &str) {
    let what = &format!("{}: {}, {}, {}", family.name, choice.prompt, choice.backbone, choice.head);
    let (rows, device) = (rows(), Device::processor(Some(1)));
    fs::write(rows.path().join("prompts.txt"), PROMPTS).expect("the prompts");
    let (config, file) = choice.run_file(family, rows.path());
    let out = rows.path().join("run");
    let found = config.and_then(|config| {
        let found = search(&config, &file, &out, &device, None, &mut |_| {})?;
        Ok((config, found))
    });
    if becomes.starts_with("refused") {
        let error = found.err().unwrap_or_else(|| panic!("{what}: is not refused"));
        assert!(error.is_request() && !out.exists(), "{what}: {error}");
        return;
    }
    assert_eq!(becomes, "found", "{what}");
    let (config, found) = found.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(found.prompts.is_empty(), choice.prompt == "discrete", "{what}");
    assert!(!out.join("adapter/backbone.safetensors").exists(), "{what}");
    let predictor = Predictor::open(&out.join("adapter"), None, &device, &mut |_, _| {}).expect("an adapter");
    let again = predictor.evaluate(&rows.path().join("rows.jsonl"), &mut |_, _| {}).expect("an evaluation");
    assert_eq!(Some(again.metrics), found.summary.test, "{what}: the adapter answers otherwise");
    let second = rows.path().join("second");
    search(&config, &file, &second, &device, None, &mut |_| {}).expect("the same again");
    assert!(results(&second) == results(&out), "{what}: the same search comes to something else");
}

#[test]
fn found_prompts() {
    for family in families() {
        for (choice, becomes) in table().iter().filter(|(choice, _)| choice.is_found()) {
            check(&family, *choice, becomes);
        }
    }
}
