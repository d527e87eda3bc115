//! Everything that reads a file from outside, as functions of bytes: called by the fuzz targets (`fuzz/`) with what
//! libFuzzer invents, and by the tests beside this file with seeds and mutations of them.
//!
//! Each calls the functions that the commands call, on a directory of its own in memory. None may panic, hang or take
//! memory without end; every refusal must be a sentence about a wrong request (exit status 2).
//!
//! Where a reader takes several files, the bytes are an archive, which people can read and a fuzzer can cut up:
//! ```text
//! === config.json
//! {"model_type": "bert"}
//! === vocab.txt
//! [UNK]
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use ptune::adapter::Adapter;
use ptune::checkpoint::{Glue, ModelDirectory, Tokenizer, Weights};
use ptune::data::Example;
use ptune::data::jsonl::{self, Lines};
use ptune::model::spec::ModelSpec;
use ptune::model::{Gradients, Model};
use ptune::predict::Predictor;
use ptune::prompt::{Template, Vocabulary};
use ptune::train::config::{Loss, TaskConfig};
use ptune::train::{RunConfig, Task, events, log};
use ptune::{Device, Error};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::TESTS;

#[path = "tiny.rs"]
mod tiny;

/// An entry point.
pub type Entry = fn(&[u8]);

/// All entry points by the name of their fuzz target and of their folder of seeds.
pub const ENTRIES: [(&str, Entry); 9] = [
    ("weights", weights),
    ("config", config),
    ("tokenizer", tokenizer),
    ("template", template),
    ("run_file", run_file),
    ("adapter", adapter),
    ("data", data),
    ("vocabulary", vocabulary),
    ("run_log", run_log),
];

/// What stands in for a text of the data: words, punctuation, Hangul, a special token's name.
const TEXT: &str = "The cat, asleep. 수도는 [MASK]입니다!";

/// `model.safetensors`, or `model.safetensors.index.json` with shards: every tensor is read in its own shape.
pub fn weights(bytes: &[u8]) {
    let names = ["model.safetensors", "model.safetensors.index.json", "a.safetensors", "b.safetensors"];
    let directory = unpacked(bytes, &names);
    let Some(weights) = accepted(Weights::open(directory.path())) else { return };
    let mut values = Vec::new();
    for name in weights.names() {
        let shape = weights.shape(name).expect("a listed tensor has a shape");
        if accepted(weights.read_into(name, shape, &mut values)).is_some() {
            assert_eq!(values.len(), shape.iter().product::<usize>());
        }
    }
}

/// `config.json` over the smallest weights of each family: the spec, and the model where the spec fits.
pub fn config(bytes: &[u8]) {
    for weights in WEIGHTS.iter() {
        let directory = unpacked(&[], &[]);
        let path = directory.path();
        fs::write(path.join("config.json"), bytes).unwrap();
        fs::write(path.join("model.safetensors"), weights).unwrap();
        let Some(opened) = accepted(ModelDirectory::open(path)) else { return };
        if accepted(ModelSpec::read(&opened)).is_some() {
            accepted(Model::load(&opened, &[], &DEVICE, Gradients::Weights, &mut |_, _| {}));
        }
    }
}

/// The configurations of the seeds fit these weights: the tests would be blind otherwise.
pub fn fits(config: &[u8]) -> bool {
    WEIGHTS.iter().any(|weights| {
        let directory = unpacked(&[], &[]);
        fs::write(directory.path().join("config.json"), config).unwrap();
        fs::write(directory.path().join("model.safetensors"), weights).unwrap();
        let opened = ModelDirectory::open(directory.path()).unwrap();
        Model::load(&opened, &[], &DEVICE, Gradients::Weights, &mut |_, _| {}).is_ok()
    })
}

/// A tokenizer's files, and a text to encode: after nothing, after white space, glued to a letter, glued to a Han sign.
pub fn tokenizer(bytes: &[u8]) {
    let names = [
        "tokenizer.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "text",
    ];
    let directory = unpacked(bytes, &names);
    let Some(tokenizer) = accepted(Tokenizer::open(directory.path())) else { return };
    let given = fs::read(directory.path().join("text")).unwrap_or_default();
    for text in [TEXT, &String::from_utf8_lossy(&given)] {
        for glue in [Glue::Start, Glue::Space, Glue::Joined('a'), Glue::Joined('中')] {
            let Some(ids) = accepted(tokenizer.encode(text, glue)) else { continue };
            assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()), "an id outside the vocabulary");
            tokenizer.shown_tokens(&ids);
            accepted(tokenizer.single_token(text, glue));
        }
    }
    for id in [0, 3, u32::MAX] {
        tokenizer.token(id);
    }
}

/// A template: parsed, checked, and an example encoded.
pub fn template(bytes: &[u8]) {
    let source = String::from_utf8_lossy(bytes);
    let Some(template) = accepted(Template::parse(&source)) else { return };
    accepted(template.check_fields(&["text"]));
    assert!(template.pieces().iter().all(|piece| source.is_char_boundary(piece.at)));
    for max_tokens in [20, 48] {
        if let Some(task) = accepted(task(&source, max_tokens)) {
            encode(&task);
        }
    }
}

/// `run.toml` and `set`, a line of `--set key=value` each. The task is built on a good model; its vocabulary file, whose
/// path may be any, is not opened.
pub fn run_file(bytes: &[u8]) {
    let directory = unpacked(bytes, &["run.toml", "set"]);
    let file = directory.path().join("run.toml");
    let overrides = fs::read(directory.path().join("set")).unwrap_or_default();
    let overrides = String::from_utf8_lossy(&overrides);
    let overrides: Vec<(String, String)> = overrides
        .lines()
        .filter_map(|line| line.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.to_owned())))
        .collect();
    let Some(mut config) = accepted(RunConfig::read(&file, &overrides)) else { return };
    let written = directory.path().join("written.toml");
    fs::write(&written, config.to_toml().expect("a run that was read can be written")).unwrap();
    assert_eq!(RunConfig::read(&written, &[]).expect("a run that was written can be read"), config);
    (config.task.vocabulary, config.task.loss) = (None, Loss::Full);
    let (model, spec) = &*MODEL;
    if let Some(task) = accepted(Task::from_run(&config, &file, model, spec)) {
        encode(&task);
    }
}

/// An adapter's files, opened over a good model and asked for an answer. `@base@` in `adapter.toml` stands for the
/// fingerprint of that model, `@NAME@` for the SHA-256 of the file NAME: what a hostile author computes.
pub fn adapter(bytes: &[u8]) {
    let parts = ["prompt.safetensors", "vocabulary.bin", "backbone.safetensors"];
    let directory = unpacked(bytes, &[&["adapter.toml"], &parts[..]].concat());
    let path = directory.path();
    let (file, (model, spec)) = (path.join("adapter.toml"), &*MODEL);
    if let Ok(mut text) = fs::read_to_string(&file) {
        text = text.replace("@base@", &model.fingerprint(&spec.embeddings.words).unwrap());
        for part in parts {
            text = text.replace(&format!("@{part}@"), &sha256(&fs::read(path.join(part)).unwrap_or_default()));
        }
        fs::write(&file, text).unwrap();
    }
    let Some(loaded) = accepted(Adapter::load(path)) else { return };
    loaded.save(&path.join("again")).expect("an adapter that was loaded can be saved");
    assert_eq!(Adapter::load(&path.join("again")).expect("an adapter that was saved can be loaded"), loaded);
    let Some(predictor) = accepted(Predictor::open(path, Some(model.path()), &DEVICE, &mut |_, _| {})) else { return };
    let template = Template::parse(&loaded.description.template).expect("it was parsed before");
    for answer in predictor.predict(&[example(&template)], 3) {
        if let Err(error) = answer {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// A file of JSON lines: as a stream, and as a data set.
pub fn data(bytes: &[u8]) {
    let file: Arc<Path> = Path::new("data.jsonl").into();
    for line in Lines::new(bytes, &file) {
        if let Some(example) = accepted(line) {
            for name in example.field_names() {
                accepted(example.text(name));
            }
        }
    }
    let directory = unpacked(&[], &[]);
    let file = directory.path().join("data.jsonl");
    fs::write(&file, bytes).unwrap();
    accepted(jsonl::read(&file));
    accepted(TASK.dataset(&file));
}

/// A vocabulary file, under both kinds of names, with and without a key.
pub fn vocabulary(bytes: &[u8]) {
    let directory = unpacked(&[], &[]);
    for name in ["words.json", "words.txt"] {
        let file = directory.path().join(name);
        fs::write(&file, bytes).unwrap();
        for key in [None, Some("a")] {
            accepted(Vocabulary::read(&file, key, &TASK.tokenizer, Glue::Space));
        }
    }
}

/// `metrics.jsonl` of a run, and the event file that follows it: to bring that up to date a second time changes nothing.
pub fn run_log(bytes: &[u8]) {
    let directory = unpacked(bytes, &["metrics.jsonl", events::FILE]);
    let (path, file) = (directory.path(), directory.path().join("metrics.jsonl"));
    let Some(lines) = accepted(log::read(&file)) else { return };
    log::best(&lines);
    let text = fs::read_to_string(&file).unwrap();
    events::update(path, &text, 1.0).expect("what can be read can be followed");
    let written = fs::read(path.join(events::FILE)).unwrap();
    events::update(path, &text, 2.0).unwrap();
    assert!(fs::read(path.join(events::FILE)).unwrap() == written);
}

static WEIGHTS: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| tiny::FAMILIES.map(tiny::weights));

static DEVICE: LazyLock<Device> = LazyLock::new(|| Device::processor(Some(1)));

/// A good model; its 139 words are English, its width is 32.
static MODEL: LazyLock<(ModelDirectory, ModelSpec)> = LazyLock::new(|| {
    let directory = ModelDirectory::open(&golden("lstm_verbalizer")).unwrap();
    let spec = ModelSpec::read(&directory).unwrap();
    (directory, spec)
});

static TASK: LazyLock<Task> =
    LazyLock::new(|| task("[P*2] {text|shorten} It was [MASK] . {why|no_punct|lower_first}", 40).unwrap());

/// A template over the good model, with two labels.
fn task(template: &str, max_tokens: usize) -> ptune::Result<Task> {
    let mut config = RunConfig {
        task: TaskConfig {
            template: template.into(),
            verbalizer: vec![("good".into(), vec!["yes".into()]), ("0".into(), vec!["no".into()])],
            ..TaskConfig::default()
        },
        ..RunConfig::default()
    };
    config.data.max_tokens = Some(max_tokens);
    let (model, spec) = &*MODEL;
    Task::from_run(&config, Path::new("run.toml"), model, spec)
}

fn golden(model: &str) -> PathBuf {
    Path::new(TESTS).join("golden").join(model).join("model")
}

/// Every field of the template with [`TEXT`].
fn example(template: &Template) -> Example {
    Example::from_fields(template.fields().into_iter().map(|name| (name.to_owned(), TEXT.to_owned())))
}

/// An example through a task's template.
fn encode(task: &Task) {
    if let Some(encoder) = accepted(task.encoder()) {
        accepted(encoder.initial_words());
        accepted(encoder.encode(&example(&task.template)));
    }
}

/// What was accepted. What was refused must be a wrong request, in words.
fn accepted<T>(result: ptune::Result<T>) -> Option<T> {
    let refused = |error: &Error| {
        assert!(error.is_request(), "not a wrong request: {error}");
        assert!(!error.to_string().trim().is_empty(), "a refusal without words");
    };
    result.inspect_err(refused).ok()
}

/// A directory in memory with the parts of an archive that are named in `names`.
fn unpacked(archive: &[u8], names: &[&str]) -> TempDir {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
    const MARK: &[u8] = b"=== ";
    let mut rest = archive;
    while let Some(part) = rest.strip_prefix(MARK) {
        let end = part.windows(MARK.len() + 1).position(|at| at[0] == b'\n' && &at[1..] == MARK);
        let (part, behind) = part.split_at(end.unwrap_or(part.len()));
        rest = behind.get(1..).unwrap_or_default();
        let line = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
        if let Some(name) = names.iter().find(|name| name.as_bytes() == &part[..line]) {
            fs::write(directory.path().join(name), part.get(line + 1..).unwrap_or_default()).unwrap();
        }
    }
    directory
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
