//! Small runs: one model of each family, four rows, a run file for a combination of prompt, backbone and head.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ptune::checkpoint::ModelDirectory;
use ptune::model::spec::ModelSpec;
use ptune::train::RunConfig;
use tempfile::TempDir;

/// A small model of a family.
#[derive(Clone)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) model: PathBuf,
    pub(crate) causal: bool,
}

/// One model of every family among the golden cases: the smallest with more than one block.
pub(crate) fn families() -> Vec<Family> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut smallest: BTreeMap<String, (u64, Family)> = BTreeMap::new();
    for entry in fs::read_dir(golden).expect("the golden cases") {
        let model = entry.expect("a case").path().join("model");
        if !model.exists() {
            continue;
        }
        let directory = ModelDirectory::open(&model).expect("a model directory");
        let spec = ModelSpec::read(&directory).expect("a model that is implemented");
        let bytes = fs::metadata(model.join("model.safetensors")).expect("weights").len();
        let name = spec.family.to_owned();
        if spec.layers.len() > 1 && smallest.get(&name).is_none_or(|(least, _)| bytes < *least) {
            smallest.insert(name.clone(), (bytes, Family { name, model, causal: spec.causal }));
        }
    }
    assert!(smallest.len() >= 3, "the families of the golden cases");
    smallest.into_values().map(|(_, family)| family).collect()
}

/// The texts of the rows.
pub(crate) const TEXTS: [&str; 4] =
    ["the cat sleeps in the red room", "he hated the short story", "she loved it and he hated it", "the film was slow"];
const LABELS: [&str; 4] = ["yes", "no", "yes", "no"];

/// A directory with rows in it: in memory where the system has such a place, for many small files are written and each
/// is synced.
pub(crate) fn rows() -> TempDir {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let directory = directory.expect("a temporary directory");
    let line = |(text, label)| format!("{{\"text\": \"{text}\", \"label\": \"{label}\"}}\n");
    let lines: String = TEXTS.into_iter().zip(LABELS).map(line).collect();
    fs::write(directory.path().join("rows.jsonl"), lines).expect("the rows");
    directory
}

/// A combination, by the names of docs/methods.md.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) prompt: &'static str,
    pub(crate) backbone: &'static str,
    pub(crate) head: &'static str,
}

impl Choice {
    /// The template: pseudo tokens at its beginning and inside; only a masked model sees what stands behind the answer.
    fn template(self, causal: bool) -> &'static str {
        if self.head == "classifier" {
            return if self.has_pseudo_tokens() { "[P*2] {text} [P*1] it" } else { "{text}" };
        }
        match (self.has_pseudo_tokens(), causal) {
            (false, false) => "{text} it was [MASK] .",
            (false, true) => "{text} it was [MASK]",
            (true, false) => "[P*2] {text} [P*1] [MASK] [P*1] .",
            (true, true) => "[P*2] {text} [P*2] [MASK]",
        }
    }

    /// Whether `ptune search` is what comes to it.
    pub(crate) fn is_found(self) -> bool {
        matches!(self.prompt, "discrete" | "ensemble")
    }

    fn has_pseudo_tokens(self) -> bool {
        !matches!(self.prompt, "manual" | "prefix" | "projected prefix" | "ensemble")
    }

    fn tables(self) -> String {
        let prompt = match self.prompt {
            "manual" | "discrete" | "ensemble" => "",
            "prefix" => "prefix_tokens = 3",
            "projected prefix" => "prefix_tokens = 3\nprefix_hidden_size = 5",
            "prefix + mlp" => "prefix_tokens = 3\nencoder = \"mlp\"",
            "embedding" => "encoder = \"embedding\"",
            "mlp" => "encoder = \"mlp\"",
            "lstm" => "encoder = \"lstm\"\nshapes = \"superglue\"",
            other => panic!("prompt {other}"),
        };
        let head = match self.head {
            "verbalizer" => "[task.verbalizer]\nyes = [\"yes\"]\nno = [\"no\"]",
            "classifier" => "head = \"classifier\"\nlabels = [\"yes\", \"no\"]",
            "vocabulary" => "",
            "text" => "answer = \"text\"\nanswer_tokens = 3",
            other => panic!("head {other}"),
        };
        let rate = if self.backbone == "frozen" { "" } else { "backbone_learning_rate = 1e-2" };
        let search = match self.prompt {
            "discrete" => "[search]\nsteps = 5\nbatch_size = 3\ncandidates = 4",
            "ensemble" => "[search]\nprompts = \"prompts.txt\"\ncombine = \"weighted\"",
            _ => "",
        };
        let mode = self.backbone;
        format!("{head}\n[prompt]\n{prompt}\n[backbone]\nmode = \"{mode}\"\n{search}\n[train]\n{rate}")
    }

    /// The run file in `rows`, which may be refused.
    pub(crate) fn run_file(self, family: &Family, rows: &Path) -> (ptune::Result<RunConfig>, PathBuf) {
        let file = rows.join("run.toml");
        let (model, template) = (family.model.display(), self.template(family.causal));
        let text = format!(
            "model = \"{model}\"\n[data]\ntrain = \"rows.jsonl\"\ntest = \"rows.jsonl\"\n\
             [task]\ntemplate = \"{template}\"\n{}\nsteps = 5\nbatch_size = 3\neval_every = 3\n\
             learning_rate = 1e-2\n",
            self.tables()
        );
        fs::write(&file, text).expect("the run file");
        (RunConfig::read(&file, &[]), file)
    }
}
