//! A tiny demo: its numbers are those that other commands come to, and the same seed repeats them.

use std::fs;

use super::*;
use crate::predict::Predictor;
use crate::world::{Language, row};
use probe::Probe;

fn given(out: &Path) -> Facts {
    run(&Plan::tiny(), out, &Device::processor(Some(2)), &mut |_| {}).unwrap()
}

/// All numbers but the time and the place.
fn numbers(facts: &Facts) -> serde_json::Value {
    let mut value = serde_json::to_value(facts).unwrap();
    for key in ["seconds", "out"] {
        value.as_object_mut().unwrap().remove(key);
    }
    serde_json::from_str(&value.to_string().replace(&facts.out, "")).unwrap()
}

#[test]
fn a_demo_is_repeated_by_its_seed_and_its_adapters_keep_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let facts = given(&directory.path().join("first"));
    assert_eq!(numbers(&facts), numbers(&given(&directory.path().join("second"))));

    let written = fs::read(directory.path().join("first").join(NUMBERS)).unwrap();
    let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written["models"], serde_json::to_value(&facts.models).unwrap());
    let page = fs::read_to_string(directory.path().join("first").join(REPORT)).unwrap();
    assert!(page.contains("continent, Korean") && page.contains("</html>"));
    assert!(!page.contains("http") && !page.contains("<script"), "the page needs nothing else");

    let world = World::built_in();
    for lesson in &facts.models[0].lessons {
        let language = if lesson.language == "ko" { Language::Korean } else { Language::English };
        let place = world.relations.iter().position(|relation| relation.name == lesson.relation).unwrap();
        let test = directory.path().join("test.jsonl");
        let rows = Probe::new(&world, place, language, facts.seed).test;
        let lines = rows.iter().map(|fact| serde_json::Value::Object(row(fact, language)).to_string() + "\n");
        fs::write(&test, lines.collect::<String>()).unwrap();
        let device = Device::processor(Some(1));
        let predictor = Predictor::open(Path::new(&lesson.adapter.path), None, &device, &mut |_, _| {}).unwrap();
        let metrics = predictor.evaluate(&test, &mut |_, _| {}).unwrap().metrics;
        let kept = &lesson.prompts[lesson.adapter.prompt - 1];
        assert_eq!(metrics.get("p_at_1"), Some(kept.tuned.p_at_1), "{}", lesson.adapter.path);
        assert_eq!((rows.len(), metrics.get("majority")), (lesson.test, Some(lesson.majority)));
        assert!(lesson.random_weights < 0.1, "a model that has read nothing knows {}", lesson.random_weights);
    }
}

#[test]
fn a_directory_with_something_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mine.txt"), "mine").unwrap();
    let refused = run(&Plan::tiny(), directory.path(), &Device::processor(Some(1)), &mut |_| {}).unwrap_err();
    assert!(refused.is_request() && refused.to_string().contains("something else than an earlier demo"), "{refused}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    let file = directory.path().join("mine.txt");
    let refused = run(&Plan::tiny(), &file, &Device::processor(Some(1)), &mut |_| {}).unwrap_err();
    assert!(refused.is_request() && refused.to_string().contains("is a file"), "{refused}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn a_relation_that_does_not_exist_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut plan = Plan::tiny();
    plan.surveyed = 1;
    plan.models[0].relations = vec!["capitol".into()];
    let refused = run(&plan, directory.path(), &Device::processor(Some(1)), &mut |_| {}).unwrap_err();
    assert!(refused.is_request() && refused.to_string().contains("'capitol'"), "{refused}");
}
