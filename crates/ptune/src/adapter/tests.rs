//! Adapters survive a round trip byte for byte, and damaged or hostile ones are refused with the place.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::checkpoint::sha256;
use crate::prompt::CausalTail;

pub(super) fn classifier() -> Adapter {
    let metrics = Metrics { dev: [("accuracy".into(), 0.9375)].into(), test: [("accuracy".into(), 1.0 / 3.0)].into() };
    Adapter {
        tuned: Tuned::default(),
        description: Description {
            template: "[P*2] {text} = [MASK] \"é\"".into(),
            target: "label".into(),
            causal_tail: CausalTail::Error,
            max_tokens: 128,
            compute: "f32".into(),
            encoder: Some("lstm".into()),
            shapes: Some("lama".into()),
            prefix_tokens: None,
            head: None,
            loss: None,
            answer_tokens: None,
            labels: vec![("zebra".into(), vec!["z".into(), "y".into()]), ("a b".into(), vec!["a".into()])],
            vocabulary: None,
            discrete: Discrete::default(),
            base: Base {
                fingerprint: "0123456789abcdef".repeat(4),
                model_type: "bert".into(),
                width: 3,
                name: "tiny".into(),
                path: "models/tiny".into(),
            },
            metrics,
        },
        prompt: vec![0.1, -2.0, 3e-30, f32::MAX, 0.0, 1.0],
        rows: 2,
        width: 3,
        prefix: Matrix::default(),
    }
}

pub(super) fn probe() -> Adapter {
    let mut adapter = classifier();
    adapter.description.labels.clear();
    adapter.description.loss = Some("vocabulary".into());
    adapter.description.vocabulary = Some(vec![0, 7, 8, 30_521]);
    adapter
}

fn writer() -> Adapter {
    let mut adapter = classifier();
    adapter.description.labels.clear();
    adapter.description.answer_tokens = Some(32);
    adapter
}

pub(super) fn manual() -> Adapter {
    let mut adapter = classifier();
    (adapter.description.encoder, adapter.description.shapes) = (None, None);
    (adapter.prompt, adapter.rows) = (Vec::new(), 0);
    adapter.description.causal_tail = CausalTail::Drop;
    adapter
}

/// A prefix, with pseudo tokens or without.
fn prefixed(mut adapter: Adapter) -> Adapter {
    adapter.description.prefix_tokens = Some(2);
    adapter.prefix = Matrix { values: (0..16).map(|i| i as f32 / 3.0).collect(), rows: 2, width: 8 };
    adapter
}

fn saved(adapter: &Adapter) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    adapter.save(directory.path()).unwrap();
    directory
}

/// The names and bytes of a directory's files, by name.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(read).collect();
    files.sort();
    files
}

fn assert_refused(directory: &Path, parts: &[&str]) {
    let error = Adapter::load(directory).expect_err(&format!("should say {parts:?}"));
    assert!(error.is_request(), "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "'{part}' is not in: {error}");
    }
}

/// Saves the classifier, replaces a piece of `adapter.toml`, and checks what loading says.
fn assert_edit_refused(from: &str, to: &str, parts: &[&str]) {
    let directory = saved(&classifier());
    let file = directory.path().join("adapter.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "'{from}' is not in:\n{text}");
    fs::write(&file, text.replacen(from, to, 1)).unwrap();
    assert_refused(directory.path(), parts);
}

/// Saves the classifier, replaces `prompt.safetensors` with its hash, and checks what loading says.
fn assert_prompt_refused(bytes: &[u8], parts: &[&str]) {
    let directory = saved(&classifier());
    let (file, prompt) = (directory.path().join("adapter.toml"), directory.path().join("prompt.safetensors"));
    let old = sha256(&fs::read(&prompt).unwrap());
    fs::write(&prompt, bytes).unwrap();
    fs::write(&file, fs::read_to_string(&file).unwrap().replace(&old, &sha256(bytes))).unwrap();
    assert_refused(directory.path(), parts);
}

fn safetensors(header: &str, values: &[f32]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[test]
fn every_kind_of_adapter_comes_back_as_it_was() {
    for (adapter, files) in [
        (classifier(), ["adapter.toml", "prompt.safetensors"].as_slice()),
        (probe(), ["adapter.toml", "prompt.safetensors", "vocabulary.bin"].as_slice()),
        (manual(), ["adapter.toml"].as_slice()),
        (writer(), ["adapter.toml", "prompt.safetensors"].as_slice()),
    ] {
        let directory = saved(&adapter);
        assert_eq!(Adapter::load(directory.path()).unwrap(), adapter);
        let names: Vec<_> = contents(directory.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, files);
    }
}

/// Tokens in the place of vectors, and prompts that answer together.
fn discrete() -> [Adapter; 2] {
    let [mut tokens, mut together] = [manual(), manual()];
    tokens.description.discrete.tokens = vec![7, 30_521, 7];
    let prompt = |template: &str, weight| WeightedPrompt { template: template.into(), weight };
    let first = together.description.template.clone();
    together.description.discrete.prompts = vec![prompt(&first, 0.75), prompt("수도 {text} [MASK]", 1.0 / 3.0)];
    [tokens, together]
}

#[test]
fn discrete_prompts_come_back_as_they_were_and_are_checked() {
    for adapter in discrete() {
        assert_eq!(Adapter::load(saved(&adapter).path()).unwrap(), adapter);
    }
    type Damage = fn(&mut Discrete);
    let damages: [(Damage, &str); 3] = [
        (|discrete| discrete.tokens = vec![1], "exclude tokens"),
        (|discrete| discrete.prompts.reverse(), "the first of them"),
        (|discrete| discrete.prompts[1].weight = -1.0, "not below 0"),
    ];
    for (damage, part) in damages {
        let [_, mut together] = discrete();
        damage(&mut together.description.discrete);
        let error = together.save(tempfile::tempdir().unwrap().path()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_same_adapter_has_the_same_bytes() {
    for adapter in [classifier(), probe(), manual(), writer(), prefixed(classifier()), prefixed(manual())] {
        assert_eq!(Adapter::load(saved(&adapter).path()).unwrap(), adapter);
        assert_eq!(contents(saved(&adapter).path()), contents(saved(&adapter.clone()).path()));
    }
}

#[test]
fn saving_over_an_older_adapter_leaves_nothing_of_it() {
    let directory = saved(&probe());
    manual().save(directory.path()).unwrap();
    assert_eq!(contents(directory.path()), contents(saved(&manual()).path()));
    classifier().save(directory.path()).unwrap();
    assert_eq!(Adapter::load(directory.path()).unwrap(), classifier());
}

#[test]
fn an_adapter_that_could_not_be_loaded_is_not_saved() {
    type Damage = fn(&mut Adapter);
    let cases: [(Damage, &str); 12] = [
        (|adapter| adapter.prompt[1] = f32::NAN, "NaN"),
        (|adapter| adapter.prompt.truncate(5), "5 values for 2 rows"),
        (|adapter| adapter.width = 2, "prompt.width"),
        (|adapter| adapter.description.encoder = None, "task.encoder"),
        (|adapter| adapter.description.prefix_tokens = Some(2), "prompt.prefix_rows"),
        (
            |adapter| {
                *adapter =
                    Adapter { prefix: Matrix { width: 7, ..prefixed(classifier()).prefix }, ..prefixed(classifier()) }
            },
            "16 values for 2 rows",
        ),
        (|adapter| adapter.prefix = prefixed(classifier()).prefix, "task.prefix_tokens is 0"),
        (|adapter| adapter.description.labels.truncate(1), "task.labels"),
        (|adapter| adapter.description.answer_tokens = Some(8), "task.answer_tokens"),
        (|adapter| adapter.description.base.fingerprint.truncate(8), "task.base.fingerprint"),
        (|adapter| adapter.description.compute = "f64".into(), "task.compute"),
        (|adapter| adapter.description.metrics.dev = [("mrr".into(), f64::NAN)].into(), "task.metrics"),
    ];
    for (damage, reason) in cases {
        let directory = saved(&probe());
        let before = contents(directory.path());
        let mut adapter = classifier();
        damage(&mut adapter);
        let message = adapter.save(directory.path()).expect_err(reason).to_string();
        assert!(message.contains(reason), "'{reason}' is not in: {message}");
        assert_eq!(contents(directory.path()), before, "the older adapter was touched");
    }
    let mut adapter = probe();
    adapter.description.vocabulary = Some(vec![3, 3]);
    let error = adapter.save(tempfile::tempdir().unwrap().path()).unwrap_err().to_string();
    assert!(error.contains("distinct token ids"), "{error}");
}

#[test]
fn a_file_that_cannot_be_replaced_leaves_the_older_adapter() {
    let directory = saved(&manual());
    fs::create_dir(directory.path().join("prompt.safetensors.next")).unwrap();
    let error = classifier().save(directory.path()).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
    assert_eq!(Adapter::load(directory.path()).unwrap(), manual());
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "a temporary file was left: {names:?}");
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_older_adapter() {
    let directory = saved(&classifier());
    let before = contents(directory.path());
    if let Some(child) = crate::files::tests::on_a_full_disk("a_full_disk_leaves_the_older_adapter", directory.path()) {
        // The prompt still fits, the vocabulary does not: nothing may have been renamed by then.
        let mut adapter = probe();
        adapter.prompt[0] = 0.2;
        adapter.description.vocabulary = Some((0..200_000).collect());
        let error = adapter.save(&child).unwrap_err();
        assert!(matches!(error, Error::Write { .. }), "{error}");
        return;
    }
    assert_eq!(contents(directory.path()), before);
}

#[test]
fn threat_parts_of_two_adapters() {
    let directory = saved(&classifier());
    let mut newer = classifier();
    newer.prompt[0] = 0.2;
    fs::copy(saved(&newer).path().join("prompt.safetensors"), directory.path().join("prompt.safetensors")).unwrap();
    assert_refused(directory.path(), &["prompt.safetensors", "does not belong"]);

    let directory = saved(&probe());
    fs::write(directory.path().join("vocabulary.bin"), "Paris\n서울\ny\n").unwrap();
    assert_refused(directory.path(), &["vocabulary.bin", "does not belong"]);
}

/// A save writes `prompt.safetensors.next`, renames `adapter.toml`, renames the prompt: after each of these the
/// directory holds one whole adapter.
#[test]
fn a_save_that_is_interrupted_leaves_the_older_or_the_newer_adapter() {
    let mut newer = classifier();
    newer.prompt[0] = 0.2;
    let (directory, after) = (saved(&classifier()), saved(&newer));
    let (here, there) = (|name: &str| directory.path().join(name), |name: &str| after.path().join(name));
    fs::copy(there("prompt.safetensors"), here("prompt.safetensors.next")).unwrap();
    assert_eq!(Adapter::load(directory.path()).unwrap(), classifier());
    fs::copy(there("adapter.toml"), here("adapter.toml")).unwrap();
    assert_eq!(Adapter::load(directory.path()).unwrap(), newer);
    // The next save clears what the interrupted one left.
    classifier().save(directory.path()).unwrap();
    assert_eq!(Adapter::load(directory.path()).unwrap(), classifier());
    assert!(!here("prompt.safetensors.next").exists());
}

#[test]
fn threat_missing_files() {
    let directory = tempfile::tempdir().unwrap();
    assert_refused(directory.path(), &["no adapter.toml"]);
    assert_refused(&directory.path().join("nowhere"), &["there is no such directory"]);
    for name in ["prompt.safetensors", "vocabulary.bin"] {
        let directory = saved(&probe());
        fs::remove_file(directory.path().join(name)).unwrap();
        assert_refused(directory.path(), &["cannot read", name]);
    }
}

#[test]
fn threat_adapter_toml_that_is_empty_broken_or_of_another_version() {
    let directory = saved(&classifier());
    for (text, part) in [("", "format"), ("format = \"1\"", "format"), ("format = ", ":1:"), ("format = 1", "task")] {
        fs::write(directory.path().join("adapter.toml"), text).unwrap();
        assert_refused(directory.path(), &["adapter.toml", part]);
    }
    fs::write(directory.path().join("adapter.toml"), "format = 2\n[something]\nnew = 1").unwrap();
    assert_refused(directory.path(), &["format", "2", "newer release"]);
    assert_edit_refused("format = 1", "format = 0", &["format", "1 was expected"]);
    assert_edit_refused("target = ", "tarjet = ", &["adapter.toml:", "tarjet"]);
}

#[test]
fn threat_sizes_that_disagree_or_are_absurd() {
    assert_edit_refused("[prompt]\nrows = 2", "[prompt]\nrows = 3", &["prompt", "[2, 3]", "[3, 3]"]);
    assert_edit_refused("[prompt]\nrows = 2", "[prompt]\nrows = 0", &["task.encoder"]);
    assert_edit_refused("[prompt]\nrows = 2", "[prompt]\nrows = 9223372036854775807", &["prompt.rows"]);
    assert_edit_refused("[prompt]\nrows = 2", "[prompt]\nrows = -2", &["adapter.toml:"]);
    assert_edit_refused("rows = 2\nwidth = 3", "rows = 2\nwidth = 4", &["prompt.width", "4"]);
    assert_edit_refused("width = 3", "width = 0", &["task.base.width"]);
    assert_edit_refused("max_tokens = 128", "max_tokens = 0", &["task.max_tokens"]);
}

#[test]
fn threat_words_that_make_no_sense() {
    assert_edit_refused("\"f32\"", "\"f64\"", &["task.compute", "f64", "f32, bf16"]);
    assert_edit_refused("[\"z\", \"y\"]", "[]", &["task.labels.zebra"]);
    assert_edit_refused("[\"z\", \"y\"]", "[\"\"]", &["task.labels.zebra"]);
    assert_edit_refused("0.9375", "nan", &["task.metrics"]);
    assert_edit_refused("\"0123456789", "\"x123456789", &["task.base.fingerprint"]);
    assert_edit_refused("target = \"label\"", "target = \"\"", &["task.target"]);
}

#[test]
fn threat_prompt_file_that_is_truncated_wrong_or_not_finite() {
    let right = r#"{"prompt":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;
    assert_prompt_refused(b"", &["prompt.safetensors", "no safetensors file"]);
    assert_prompt_refused(&u64::MAX.to_le_bytes(), &["prompt.safetensors", "no safetensors file"]);
    assert_prompt_refused(&safetensors(right, &[0.0; 5]), &["prompt.safetensors", "no safetensors file"]);
    assert_prompt_refused(&safetensors(&right.replace("[2,3]", "[3,2]"), &[0.0; 6]), &["[3, 2]", "[2, 3]"]);
    assert_prompt_refused(&safetensors(&right.replace("F32", "I32"), &[0.0; 6]), &["I32", "F32"]);
    assert_prompt_refused(&safetensors(&right.replace("\"prompt\"", "\"promt\""), &[0.0; 6]), &["'prompt'", "missing"]);
    assert_prompt_refused(&safetensors(right, &[0.0, 1.0, 2.0, 3.0, f32::NAN, 5.0]), &["[1, 1]", "NaN"]);
    assert_prompt_refused(&safetensors(right, &[f32::INFINITY; 6]), &["[0, 0]", "inf"]);
    assert_prompt_refused(&vec![0; 1 << 20], &["prompt.safetensors", "longer than"]);
}

#[test]
fn another_base_is_refused_with_both_names() {
    let adapter = classifier();
    let fingerprint = adapter.description.base.fingerprint.clone();
    adapter.check_base(&fingerprint, Path::new("models/tiny")).unwrap();
    let other = "f".repeat(64);
    let error = adapter.check_base(&other, Path::new("models/other")).unwrap_err();
    assert!(error.is_request());
    for part in ["models/other", "'tiny'", "0123456789abcdef", "ffffffffffffffff"] {
        assert!(error.to_string().contains(part), "'{part}' is not in: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_damage_makes_loading_panic_and_damaged_numbers_never_load(at in 0usize..10_000, new in any::<u8>()) {
        let directory = saved(&probe());
        for (name, mut bytes) in contents(directory.path()) {
            let file = directory.path().join(&name);
            let original = bytes.clone();
            let at = at % bytes.len();
            bytes[at] = new;
            fs::write(&file, &bytes).unwrap();
            let loaded = Adapter::load(directory.path());
            prop_assert!(name == "adapter.toml" || bytes == original || loaded.is_err(), "{name} was damaged and loaded");
            bytes.truncate(at);
            fs::write(&file, &bytes).unwrap();
            let _ = Adapter::load(directory.path());
            fs::write(&file, &original).unwrap();
        }
        prop_assert_eq!(Adapter::load(directory.path()).unwrap(), probe());
    }
}
