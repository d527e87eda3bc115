//! The table of docs/methods.md: a choice in each cell, and what becomes of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::scene::Choice;

/// The prompts of `ptune train`.
const TRAINED: usize = 7;

pub(crate) fn table() -> Vec<(Choice, String)> {
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
fn it_names_every_combination_and_refuses_few() {
    let table = table();
    let names = |name: fn(&Choice) -> &'static str| -> BTreeSet<&str> {
        table.iter().map(|(choice, _)| name(choice)).collect()
    };
    let (found, trained): (Vec<Choice>, Vec<Choice>) =
        table.iter().map(|(choice, _)| *choice).partition(|choice| choice.is_found());
    assert_eq!(names(|choice| choice.backbone), BTreeSet::from(["frozen", "lora", "full"]));
    assert_eq!(names(|choice| choice.head), BTreeSet::from(["verbalizer", "classifier", "vocabulary", "text"]));
    assert_eq!((trained.len(), found.len()), (TRAINED * 3 * 4, 2 * 4));
    let refused = table.iter().filter(|(_, becomes)| becomes.starts_with("refused")).count();
    assert!(100 * refused <= 15 * table.len(), "{refused} of {} are refused", table.len());
}
