//! A whole comparison over a tiny model: each score is that of the prompt alone, and training starts from each.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::predict::Predictor;

const RUN: &str = r#"
compute = "f32"
[data]
train = "train.jsonl"
dev = "train.jsonl"
max_tokens = 24
[task]
template = "[P*2] {subject} is in [P*1] [MASK] ."
target = "object"
[sensitivity]
tokens = 1
[train]
steps = 2
batch_size = 2
"#;

const FACTS: &str = r#"{"subject": "France", "object": "paris"}
{"subject": "Italy", "object": "rome"}
{"subject": "Norway", "object": "oslo"}
"#;

fn scene() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mlp_probing/model");
    let file = directory.path().join("run.toml");
    fs::write(&file, format!("model = {model:?}\n{RUN}")).unwrap();
    fs::write(directory.path().join("train.jsonl"), FACTS).unwrap();
    (directory, file)
}

fn config(file: &Path, set: &[(&str, &str)]) -> RunConfig {
    let set: Vec<_> = set.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    RunConfig::read(file, &set).unwrap()
}

#[test]
fn prompts_are_scored_as_they_are_and_trained_from() {
    let (directory, file) = scene();
    let device = Device::processor(Some(2));
    let config = config(&file, &[("sensitivity.prompts", "['{subject} is in [MASK] .', 'of {subject} [MASK]']")]);
    let out = directory.path().join("out");
    let wanted = Wanted { tune: true, ..Wanted::default() };
    let found = sensitivity(&config, &file, &out, &device, wanted, &mut |_| {}).unwrap();
    assert_eq!((found.metric, found.rows, found.examples, found.prompts.len()), ("p_at_1", "dev", 3, 2));
    for (i, prompt) in found.prompts.iter().enumerate() {
        let adapter = out.join(format!("prompt-{}", i + 1)).join("adapter");
        let predictor = Predictor::open(&adapter, None, &device, &mut |_, _| {}).unwrap();
        let evaluated = predictor.evaluate(&directory.path().join("train.jsonl"), &mut |_, _| {}).unwrap();
        assert_eq!(evaluated.metrics.get("p_at_1"), prompt.tuned);
        // Untrained: a run of the prompt alone comes to the same.
        let mut alone = config.clone();
        alone.task.template.clone_from(&prompt.template);
        let run = directory.path().join(format!("alone-{i}"));
        let summary = train::run(&alone, &file, &run, &device, &mut |_| {}).unwrap();
        assert_eq!(summary.dev.unwrap().get("p_at_1"), Some(prompt.untrained));
    }
    assert_eq!(found.prompts[0].tuned_template.as_deref(), Some("[P*1] {subject} is in [P*1] [MASK] ."));
    let page = fs::read_to_string(out.join("sensitivity.html")).unwrap();
    assert!(page.contains("of {subject} [MASK]") && page.contains("after P-tuning") && !page.contains("http"));
    // Again: what is finished is not repeated, and says the same.
    let again = sensitivity(&config, &file, &out, &device, wanted, &mut |_| {}).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&found).unwrap());
}

/// With low-rank additions: as written the prompts are asked of the model alone, and each training adds its own.
#[test]
fn low_rank_additions_are_trained_from_each_prompt() {
    let (directory, file) = scene();
    let device = Device::processor(Some(1));
    let prompts = ("sensitivity.prompts", "['{subject} is in [MASK] .', 'of {subject} [MASK]']");
    let lora =
        [prompts, ("backbone.mode", "lora"), ("backbone.lora_rank", "2"), ("train.backbone_learning_rate", "0.05")];
    let (frozen, lora) = (config(&file, &[prompts]), config(&file, &lora));
    let wanted = Wanted { tune: true, ..Wanted::default() };
    let out = directory.path().join("lora");
    let found = sensitivity(&lora, &file, &out, &device, wanted, &mut |_| {}).unwrap();
    let alone = sensitivity(&frozen, &file, &directory.path().join("frozen"), &device, wanted, &mut |_| {}).unwrap();
    let untrained = |found: &Sensitivity| found.prompts.iter().map(|prompt| prompt.untrained).collect::<Vec<_>>();
    assert_eq!(untrained(&found), untrained(&alone));
    let mut matrices = Vec::new();
    for (i, prompt) in found.prompts.iter().enumerate() {
        let adapter = out.join(format!("prompt-{}", i + 1)).join("adapter");
        matrices.push(fs::read(adapter.join("backbone.safetensors")).expect("low-rank additions"));
        let predictor = Predictor::open(&adapter, None, &device, &mut |_, _| {}).unwrap();
        let evaluated = predictor.evaluate(&directory.path().join("train.jsonl"), &mut |_, _| {}).unwrap();
        assert_eq!(evaluated.metrics.get("p_at_1"), prompt.tuned);
    }
    assert_ne!(matrices[0], matrices[1]);
}

#[test]
fn without_prompts_it_is_the_template_and_its_edits() {
    let (directory, file) = scene();
    let device = Device::processor(Some(1));
    let config = config(&file, &[("sensitivity.edits", "true")]);
    let out = directory.path().join("out");
    let found = sensitivity(&config, &file, &out, &device, Wanted::default(), &mut |_| {}).unwrap();
    assert_eq!(found.prompts[0].template, "{subject} is in [MASK] .");
    let kinds: Vec<_> = found.prompts.iter().filter_map(|prompt| prompt.edit).collect();
    for kind in ["drop", "swap", "insert", "punctuation", "case"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    let scores: Vec<f64> = found.prompts.iter().map(|prompt| prompt.untrained).collect();
    assert_eq!(found.untrained.best, scores.iter().copied().fold(0.0, f64::max));
    assert_eq!(found.untrained.worst, scores.iter().copied().fold(1.0, f64::min));
    assert!(found.tuned.is_none());
}

#[test]
fn pseudo_tokens_stand_around_the_words_and_leave_the_answer_its_space() {
    for (template, expected) in [
        ("{x} is in [MASK] .", "[P*3] {x} is in [P*3] [MASK] ."),
        ("수도는 [MASK]입니다.", "[P*3] 수도는 [P*3] [MASK]입니다."),
        ("'[MASK]' is {x}", "[P*3] ' [P*3][MASK]' is {x}"),
        ("[MASK] is {x}", "[P*6] [MASK] is {x}"),
    ] {
        assert_eq!(around(&Template::parse(template).unwrap(), 3), expected);
    }
    let bare = |template| without_pseudo(&Template::parse(template).unwrap());
    assert_eq!(bare("[P*3] {x} is [P*2] in [MASK] . [P*1]"), "{x} is in [MASK] .");
}
