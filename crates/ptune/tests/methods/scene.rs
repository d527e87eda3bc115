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

const ROWS: [(&str, &str); 4] = [
    ("the cat sleeps in the red room", "yes"),
    ("he hated the short story", "no"),
    ("she loved it and he hated it", "yes"),
    ("the film was slow", "no"),
];

/// A directory with rows in it.
pub(crate) fn rows() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let line = |(text, label): (&str, &str)| format!("{{\"text\": \"{text}\", \"label\": \"{label}\"}}\n");
    fs::write(directory.path().join("rows.jsonl"), ROWS.map(line).concat()).expect("the rows");
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
            let plain = matches!(self.prompt, "manual" | "prefix");
            return if plain { "{text}" } else { "[P*2] {text} [P*1] it" };
        }
        match (self.prompt, causal) {
            ("manual" | "prefix", false) => "{text} it was [MASK] .",
            ("manual" | "prefix", true) => "{text} it was [MASK]",
            (_, false) => "[P*2] {text} [P*1] [MASK] [P*1] .",
            (_, true) => "[P*2] {text} [P*2] [MASK]",
        }
    }

    fn tables(self) -> String {
        let prompt = match self.prompt {
            "manual" => "",
            "prefix" => "prefix_tokens = 3",
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
        format!("{head}\n[prompt]\n{prompt}\n[backbone]\nmode = \"{}\"\n[train]\n{rate}", self.backbone)
    }

    /// The run file in `rows`, which may be refused.
    pub(crate) fn run_file(self, family: &Family, rows: &Path) -> (ptune::Result<RunConfig>, PathBuf) {
        let file = rows.join("run.toml");
        let (model, template) = (family.model.display(), self.template(family.causal));
        let text = format!(
            "model = \"{model}\"\n[data]\ntrain = \"rows.jsonl\"\ndev = \"rows.jsonl\"\ntest = \"rows.jsonl\"\n\
             [task]\ntemplate = \"{template}\"\n{}\nsteps = 5\nbatch_size = 3\neval_every = 3\n\
             learning_rate = 1e-2\n",
            self.tables()
        );
        fs::write(&file, text).expect("the run file");
        (RunConfig::read(&file, &[]), file)
    }
}
