//! Run files: what is decided, what is refused and in which words, and the manual beside the code.

use std::fs;

use toml::{Table, Value};

use super::*;

const MINIMAL: &str = "[data]\ntext = [\"a.txt\"]\n[model]\nlayout = \"bert\"\n[train]\nsteps = 50\n";

fn read_with(text: &str, overrides: &[(&str, &str)]) -> Result<PretrainConfig> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.toml");
    fs::write(&file, text).unwrap();
    let overrides: Vec<_> = overrides.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    PretrainConfig::read(&file, &overrides)
}

#[track_caller]
fn assert_says(overrides: &[(&str, &str)], parts: &[&str]) {
    let message = read_with(MINIMAL, overrides).unwrap_err().to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
}

#[test]
fn what_the_file_leaves_open_is_decided() {
    let bert = read_with(MINIMAL, &[]).unwrap();
    assert_eq!(bert.tokenizer.kind, Some(TokenizerKind::WordPiece));
    assert_eq!((bert.model.inner, bert.train.warmup_steps, bert.train.eval_every), (Some(768), Some(2), Some(5)));
    assert!(bert.data.text[0].is_absolute());
    let gpt2 = read_with(MINIMAL, &[("model.layout", "gpt2")]).unwrap();
    assert_eq!(gpt2.tokenizer.kind, Some(TokenizerKind::Bpe));
    assert_eq!(gpt2.with_positions(64).data.max_tokens, Some(64));
    assert_eq!(gpt2.with_positions(1024).data.max_tokens, Some(128));
}

#[test]
fn the_resolved_file_reads_back_as_the_same() {
    let checkpoint = MINIMAL.replace("layout = \"bert\"", "checkpoint = \"dir\"");
    for text in [MINIMAL, &checkpoint] {
        let config = read_with(text, &[]).unwrap();
        assert_eq!(read_with(&config.to_toml().unwrap(), &[]).unwrap(), config);
    }
}

#[test]
fn a_run_begins_from_a_shape_or_from_a_checkpoint() {
    let nothing = MINIMAL.replace("layout = \"bert\"\n", "");
    let message = read_with(&nothing, &[]).unwrap_err().to_string();
    assert!(message.contains("model.layout") && message.contains("model.checkpoint"), "{message}");
    assert_says(&[("model.checkpoint", "dir")], &["model.checkpoint", "has a shape already"]);
    let checkpoint = nothing.replace("[model]\n", "[model]\ncheckpoint = \"dir\"\n");
    let message = read_with(&checkpoint, &[("tokenizer.vocabulary", "99")]).unwrap_err().to_string();
    assert!(message.contains("has a tokenizer already"), "{message}");
}

#[test]
fn wrong_keys_and_values_are_named() {
    assert_says(&[("train.stepz", "3")], &["unknown key", "'train.steps'"]);
    let message = read_with(&MINIMAL.replace("steps", "step"), &[]).unwrap_err().to_string();
    assert!(message.contains("run.toml:6") && message.contains("'train.steps'"), "{message}");
    for (key, value, part) in [
        ("data.text", "[]", "a list of text files"),
        ("data.held_out", "0.9", "from 0 (none) to 0.5"),
        ("data.max_tokens", "2", "from 3"),
        ("data.max_tokens", "129", "only 128 positions"),
        ("model.layout", "t5", "unknown variant"),
        ("model.heads", "5", "must divide model.hidden"),
        ("model.layers", "0", "from 1"),
        ("tokenizer.kind", "unigram", "unknown variant"),
        ("tokenizer.vocabulary", "0", "from 1"),
        ("train.steps", "0", "the length of the run"),
        ("train.batch_tokens", "0", "from 1"),
        ("train.learning_rate", "0.0", "above 0"),
        ("train.learning_rate", "nan", "above 0"),
        ("train.schedule", "exponential", "constant or linear"),
        ("train.warmup_steps", "51", "from 0 to 50"),
        ("train.masked", "1.0", "at most 0.9"),
        ("train.save_every", "0", "from 1"),
        ("seed", "-1", "expected a whole number"),
    ] {
        assert_says(&[(key, value)], &[key, part]);
    }
}

#[test]
fn the_manual_has_every_key_with_its_default() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pretrain.md");
    let manual = fs::read_to_string(file).unwrap();
    let keys = manual.split("\n## Keys\n").nth(1).unwrap();
    let rows: Vec<(&str, &str)> = keys
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
            (cells.next().unwrap().trim_matches('`'), cells.next().unwrap())
        })
        .collect();
    let mut documented: Vec<&str> = rows.iter().map(|(key, _)| *key).collect();
    let mut keys = PretrainConfig::keys().unwrap().known;
    documented.sort();
    keys.sort();
    assert_eq!(documented, keys, "docs/pretrain.md and the code have different keys");
    let defaults = Table::try_from(PretrainConfig::default()).unwrap();
    for (key, default) in rows {
        let mut value = Some(&Value::Table(defaults.clone())).cloned();
        for part in key.split('.') {
            value = value.and_then(|value| value.get(part).cloned());
        }
        let in_code = match value {
            None => "-".to_string(),
            Some(Value::Array(empty)) if empty.is_empty() => "required".into(),
            Some(Value::Integer(0)) if key == "train.steps" => "required".into(),
            Some(value) => format!("`{value}`"),
        };
        assert_eq!(default, in_code, "docs/pretrain.md has another default for {key}");
    }
    let example = manual.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    read_with(example, &[]).unwrap();
}
