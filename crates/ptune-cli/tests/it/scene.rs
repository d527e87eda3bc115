//! A directory with a tiny model, data and a run file, and the one place where the binary is run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::{Map, Value};
use tempfile::TempDir;

/// Rows for the verbalizer task, as many as a batch and a half.
const ROWS: &str = r#"{"premise": "The cat sleeps in the red room.", "hypothesis": "The cat is in the room.", "label": "entailment"}
{"premise": "He loved the slow story", "hypothesis": "She hated the short story!", "label": "not_entailment"}
{"premise": "Soup", "hypothesis": "Tea, tea and rain", "label": "entailment"}
"#;

const RUN: &str = r#"model = "model"
seed = 3

[data]
train = "train.jsonl"
dev = "dev.jsonl"
test = "test.jsonl"
max_tokens = 40

[task]
template = "[P*2] {premise|shorten} [P*1] [MASK] . {hypothesis|no_punct} ?"

[task.verbalizer]
entailment = ["yes", "true"]
not_entailment = ["no"]

[train]
steps = 4
batch_size = 2
eval_every = 2
"#;

const FACTS: &str = r#"{"subject": "France", "object": "paris"}
{"subject": "Italy", "object": "rome"}
{"subject": "Norway", "object": "oslo"}
{"subject": "Spain", "object": "great"}
"#;

const PROBING_RUN: &str = r#"model = "model"

[data]
train = "train.jsonl"
dev = "dev.jsonl"
test = "test.jsonl"
max_tokens = 24

[task]
template = "[P*2] {subject} is located in [P*1] [MASK] ."
target = "object"
vocabulary = "words.json"

[prompt]
encoder = "mlp"

[train]
epochs = 2
batch_size = 2
"#;

/// What a command said.
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Status 0; what stood on standard output.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.status, Some(0), "{}", self.err);
        self.out
    }

    /// Status 0 and one JSON object on standard output, nothing else.
    #[track_caller]
    pub(crate) fn object(self) -> Map<String, Value> {
        let out = self.done();
        assert_eq!(out.lines().count(), 1, "more than one line on standard output:\n{out}");
        match serde_json::from_str(&out) {
            Ok(Value::Object(object)) => object,
            _ => panic!("not a JSON object: {out}"),
        }
    }
}

/// A directory of its own.
pub(crate) struct Scene {
    directory: TempDir,
}

impl Scene {
    /// A classification task: `run.toml`, `train.jsonl`, `dev.jsonl`, `test.jsonl` and `model/` with a `tokenizer.json`.
    pub(crate) fn new() -> Scene {
        Scene::with("lstm_verbalizer", RUN, ROWS)
    }

    /// A probing task; `model/` has a `vocab.txt`, and one of the four answers is not in the vocabulary.
    pub(crate) fn probing() -> Scene {
        let scene = Scene::with("mlp_probing", PROBING_RUN, FACTS);
        scene.write("words.json", r#"["paris", "rome", "oslo", "madrid", "Madrid", "two words"]"#);
        scene
    }

    /// The classification task on a RoBERTa with `vocab.json` and `merges.txt`, no head tied.
    pub(crate) fn roberta() -> Scene {
        let run =
            RUN.replace("[\"yes\", \"true\"]", "[\"yes\"]").replace("{hypothesis|no_punct}", "{hypothesis|shorten}");
        Scene::with("roberta_mlp", &run, ROWS)
    }

    /// The classification task on a GPT-2 with `vocab.json` and `merges.txt`.
    pub(crate) fn gpt2() -> Scene {
        let scene = Scene::roberta();
        let template = "[P*2] {premise|shorten} [P*1] {hypothesis|shorten} ? [P*2] [MASK]";
        let run = scene.read("run.toml");
        let old = run.lines().find(|line| line.starts_with("template = ")).unwrap();
        Scene::with("gpt2_lstm", &run.replace(old, &format!("template = \"{template}\"")), ROWS)
    }

    /// A task whose answers are texts, on a GPT-2.
    pub(crate) fn text() -> Scene {
        let (from, to) = (RUN.find("[task]").unwrap(), RUN.find("[train]").unwrap());
        let task = "[task]\ntemplate = \"[P*2] {premise|shorten} ? [P*1] [MASK]\"\ntarget = \"hypothesis\"\n\
                    answer = \"text\"\nanswer_tokens = 24\n\n";
        Scene::with("gpt2_embedding", &format!("{}{task}{}", &RUN[..from], &RUN[to..]), ROWS)
    }

    /// The same on the model of a golden case.
    pub(crate) fn of(case: &str) -> Scene {
        Scene::with(case, RUN, ROWS)
    }

    fn with(model: &str, run: &str, rows: &str) -> Scene {
        let scene = Scene { directory: tempfile::tempdir().unwrap() };
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ptune/tests/golden").join(model).join("model");
        fs::create_dir(scene.path("model")).unwrap();
        for entry in fs::read_dir(golden).unwrap() {
            let file = entry.unwrap().path();
            fs::write(scene.path("model").join(file.file_name().unwrap()), fs::read(&file).unwrap()).unwrap();
        }
        scene.write("run.toml", run);
        for name in ["train.jsonl", "dev.jsonl", "test.jsonl"] {
            scene.write(name, rows);
        }
        scene
    }

    /// The scene after its run, in `out/`.
    pub(crate) fn trained(self) -> Scene {
        self.run(&["train", "run.toml", "--out", "out"]).done();
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Replaces a text that must stand in the file.
    #[track_caller]
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no '{from}' to replace");
        self.write(name, text.replacen(from, to, 1));
    }

    /// Another template.
    #[track_caller]
    pub(crate) fn template(&self, template: &str) {
        let text = self.read("run.toml");
        let old = text.lines().find(|line| line.starts_with("template")).unwrap();
        self.edit("run.toml", old, &format!("template = '{template}'"));
    }

    /// Changes a JSON file.
    pub(crate) fn json(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_str(&self.read(name)).unwrap();
        change(&mut value);
        self.write(name, value.to_string());
    }

    /// Changes the header of the weights, and leaves the length in front of it right.
    pub(crate) fn header(&self, change: impl FnOnce(&mut Value)) {
        let bytes = fs::read(self.path("model/model.safetensors")).unwrap();
        let (header, data) = split_weights(&bytes);
        let mut header = serde_json::from_slice(header).unwrap();
        change(&mut header);
        let header = header.to_string();
        let length = (header.len() as u64).to_le_bytes();
        self.write("model/model.safetensors", [&length, header.as_bytes(), data].concat());
    }

    /// Overwrites the first value of a tensor.
    pub(crate) fn first_value(&self, tensor: &str, value: f32) {
        let mut bytes = fs::read(self.path("model/model.safetensors")).unwrap();
        let (header, data) = split_weights(&bytes);
        let start = bytes.len() - data.len();
        let header: Value = serde_json::from_slice(header).unwrap();
        let at = start + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self.write("model/model.safetensors", bytes);
    }

    /// The command, in this directory and with nothing on standard input.
    pub(crate) fn ptune(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ptune"));
        command
            .current_dir(self.directory.path())
            .env("RUST_BACKTRACE", "0")
            .env("HF_HUB_OFFLINE", "1")
            .timeout(std::time::Duration::from_secs(120));
        command
    }

    /// Runs the command to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        self.said(self.ptune().args(arguments))
    }

    /// Runs a command to its end. It never panics, and without a terminal it never writes escape codes.
    #[track_caller]
    pub(crate) fn said(&self, command: &mut Command) -> Said {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let said = Said { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        for text in [&said.out, &said.err] {
            assert!(!text.contains("panicked at"), "{text}");
            assert!(!text.contains('\x1b'), "escape codes without a terminal: {text:?}");
        }
        said
    }

    /// Runs a command that must be refused: status 2, every one of `says` on standard error, nothing on standard
    /// output, and no file of the directory added or changed.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str], says: &[&str]) {
        let before = self.files();
        let said = self.run(arguments);
        assert_eq!(said.status, Some(2), "{}", said.err);
        assert_eq!(said.out, "");
        for words in says {
            assert!(said.err.contains(words), "'{words}' is not in:\n{}", said.err);
        }
        assert!(self.files() == before, "something was written");
    }

    /// All files below the directory, with their bytes, and the directories.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        list(self.directory.path(), &mut found);
        found
    }
}

impl Scene {
    /// Every file that a run writes, by its path inside the run directory; without those that hold times.
    pub(crate) fn written(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        list(&self.path(out), &mut found);
        let inside = |path: &Path| path.strip_prefix(self.path(out)).unwrap().to_string_lossy().into_owned();
        let timed =
            |name: &str| ["events.out.tfevents.ptune", "report.html"].contains(&name) || name.starts_with("state");
        let files = found.into_iter().map(|(path, bytes)| (inside(&path), bytes));
        files.filter(|(name, _)| !timed(name)).collect()
    }
}

/// All files of a directory by name, with their bytes.
pub(crate) fn list(directory: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, found);
            found.insert(path, Vec::new());
        } else if path.is_file() {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
}

/// Header and data of a safetensors file.
fn split_weights(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8..].split_at(length)
}
