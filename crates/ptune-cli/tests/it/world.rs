//! `ptune world`: it writes the files that its help and docs/world.md name.

use std::collections::BTreeSet;

use ptune::prompt::template::Template;
use ptune::world::{Fact, Kind, Language, World, corpus, row, split};

use crate::scene::Scene;

/// One run only: it syncs some hundred files. That a seed always gives the same text is a test of the library.
#[test]
fn the_files_hold_what_the_library_makes_of_the_seed() {
    let scene = Scene::new();
    let said = scene.run(&["world", "out", "--sentences", "6000", "--seed", "1", "--json"]).object();
    assert_eq!(said.keys().collect::<Vec<_>>(), ["out", "lines", "bytes", "facts", "relations", "answers", "prompts"]);
    let world = World::built_in();
    assert_eq!(scene.read("out/corpus.txt"), corpus(&world, 1, 6000).unwrap());
    let test: String = split(&world, 0, 1).test.iter().map(|fact| json(fact) + "\n").collect();
    assert_eq!(world.relations[0].name, "capital");
    assert_eq!(scene.read("out/ko/capital/test.jsonl"), test);
    let parts = ["train", "dev", "test"].map(|part| scene.read(&format!("out/ko/capital/{part}.jsonl")));
    assert_eq!(parts.iter().filter(|rows| rows.contains(r#""sub_label":"영국","obj_label":"런던""#)).count(), 1);
    assert_eq!(scene.read("out/en/answers.txt").lines().collect::<Vec<_>>(), world.answers(Language::English));
    assert_eq!(scene.read("out/prompts.jsonl").lines().count() as u64, said["prompts"].as_u64().unwrap());
}

/// Its run files work on what stands beside them, and every answer is a token of the tokenizer that they make.
#[test]
fn the_run_files_make_the_models_in_the_binary() {
    let scene = Scene::new();
    scene.run(&["world", "out", "--sentences", "6000", "--json"]).object();
    let answers = scene.read("out/answers.txt");
    for name in ["world-mlm", "world-gpt"] {
        let file = format!("out/{name}.toml");
        let short = ["--set", "train.steps=1", "--set", "train.batch_tokens=64", "--set", "data.held_out=0.0"];
        scene.run(&[&["pretrain", &file, "--out", name, "--json"][..], &short].concat()).object();
        let tokenizer: serde_json::Value = scene.read(&format!("{name}/model/tokenizer.json")).parse().unwrap();
        let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap();
        assert_eq!(vocabulary.len(), 4000);
        let cut: Vec<_> = answers.lines().filter(|word| !vocabulary.contains_key(*word)).collect();
        assert!(cut.is_empty(), "{name} has no token for {cut:?}");
    }
}

fn json(fact: &Fact) -> String {
    serde_json::to_string(&row(fact, Language::Korean)).unwrap()
}

#[test]
fn too_few_sentences_are_a_wrong_request_and_write_nothing() {
    let scene = Scene::new();
    let said = scene.run(&["world", "out", "--sentences", "10"]);
    assert_eq!(said.status, Some(2), "{}", said.err);
    assert!(said.err.contains("10 sentences are too few"), "{}", said.err);
    assert!(!scene.path("out").exists());
}

#[test]
fn every_prompt_is_a_template_over_the_rows_and_no_prompt_stands_twice() {
    for relation in &World::built_in().relations {
        for language in Language::ALL {
            let row = row(&relation.facts[0], language);
            let fields: Vec<&str> = row.keys().map(String::as_str).collect();
            let mut seen = BTreeSet::new();
            for prompt in &relation.voice(language).prompts {
                Template::parse(&prompt.template).unwrap().check_fields(&fields).unwrap();
                assert!(seen.insert(&prompt.template), "{}: {} twice", relation.name, prompt.template);
                assert_eq!(prompt.kind == Kind::Phrasing, prompt.template == prompt.of);
            }
        }
    }
}
