//! Run files: what is read, what is refused and how, and that the manual tells the truth.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use toml::{Table, Value};

use super::read::{LATER_KEYS, LATER_VALUES};
use super::*;
use crate::tensor::Precision;

const MINIMAL: &str = r#"
model = "model"
[data]
train = "train.jsonl"
[task]
template = "{text} [MASK]"
[train]
steps = 10
"#;

fn read_with(text: &str, overrides: &[(&str, &str)]) -> Result<RunConfig> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.toml");
    fs::write(&file, text).unwrap();
    let overrides: Vec<_> = overrides.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    RunConfig::read(&file, &overrides)
}

fn read(text: &str) -> Result<RunConfig> {
    read_with(text, &[])
}

/// The minimal file with lines added at its end, in `[train]`, or behind a table header of their own.
fn minimal_and(lines: &str) -> String {
    format!("{MINIMAL}{lines}\n")
}

/// Checks that an error is a wrong request and says all of `parts`.
fn assert_says<T: std::fmt::Debug>(result: Result<T>, parts: &[&str]) {
    let error = result.expect_err(&format!("should say {parts:?}"));
    assert!(error.is_request(), "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "'{part}' is not in: {error}");
    }
}

#[test]
fn a_minimal_file_gets_the_defaults_and_decisions() {
    let config = read(MINIMAL).unwrap();
    assert_eq!(config.train.steps, Some(10));
    assert_eq!(config.compute.name(), Precision::fastest().name(), "auto must be decided");
    assert_eq!(config.train.select, Some(Metric::PAt1), "without a verbalizer the task is probing");
    assert!(config.is_probing());
    let expected = RunConfig {
        model: config.model.clone(),
        compute: config.compute,
        data: DataConfig { train: config.data.train.clone(), ..DataConfig::default() },
        task: TaskConfig { template: "{text} [MASK]".into(), ..TaskConfig::default() },
        train: TrainConfig { steps: Some(10), select: Some(Metric::PAt1), ..TrainConfig::default() },
        ..RunConfig::default()
    };
    assert_eq!(config, expected);
}

#[test]
fn labels_keep_the_order_of_the_file_through_writing_and_reading() {
    let text = minimal_and("[task.verbalizer]\nzebra = [\"z\", \"y\"]\n\"not sure\" = [\"maybe\"]\napple = [\"a\"]");
    let config = read(&text).unwrap();
    let labels =
        |config: &RunConfig| -> Vec<String> { config.task.verbalizer.iter().map(|(label, _)| label.clone()).collect() };
    assert_eq!(labels(&config), ["zebra", "not sure", "apple"], "the order of labels is the order of the classes");
    assert_eq!(config.task.verbalizer[0].1, ["z", "y"]);
    assert_eq!(config.train.select, Some(Metric::Accuracy));
    assert_eq!(read(&config.to_toml().unwrap()).unwrap(), config);
}

#[test]
fn a_resolved_file_reads_back_as_the_same_from_anywhere() {
    let text = minimal_and("learning_rate = 3e-5\neval_every = 5\n[prompt]\nencoder = \"mlp\"\n")
        .replace("[task]", "dev = \"../dev.jsonl\"\ntest = \"/data/test.jsonl\"\n[task]\nvocabulary = \"v.txt\"");
    let config = read(&text).unwrap();
    assert_eq!(read(&config.to_toml().unwrap()).unwrap(), config, "paths must not be resolved a second time");
    assert_eq!(config.data.test.as_deref(), Some(Path::new("/data/test.jsonl")));
}

#[test]
fn relative_paths_are_taken_from_the_directory_of_the_run_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.toml");
    fs::write(&file, MINIMAL).unwrap();
    fs::create_dir(directory.path().join("model")).unwrap();
    let config = RunConfig::read(&file, &[("data.dev".into(), "dev.jsonl".into())]).unwrap();
    assert_eq!(config.model, directory.path().join("model"));
    assert_eq!(config.data.train, directory.path().join("train.jsonl"));
    assert_eq!(config.data.dev, Some(directory.path().join("dev.jsonl")));
    // Where there is no such directory, it may be a name in the cache, and stays one.
    fs::remove_dir(directory.path().join("model")).unwrap();
    assert_eq!(RunConfig::read(&file, &[]).unwrap().model, Path::new("model"));
    fs::write(&file, MINIMAL.replace("model = \"model\"", "model = \"../model\"")).unwrap();
    assert!(RunConfig::read(&file, &[]).unwrap().model.is_absolute());
}

#[test]
fn unknown_keys_are_named_with_their_line_and_the_closest_key() {
    assert_says(read(&minimal_and("batchsize = 4")), &["run.toml:9", "'train.batchsize'", "'train.batch_size'"]);
    assert_says(read(&minimal_and("[promt]\nencoder = \"mlp\"")), &["run.toml:9", "'promt'"]);
    assert_says(read("steps = 5"), &["run.toml:1", "'steps'", "'train.steps'"]);
    assert_says(read("\n\"é\" = 5"), &["run.toml:2", "'é'"]);
}

#[test]
fn syntax_errors_name_their_line() {
    assert_says(read("model = \"m\"\nseed = = 3"), &["run.toml:2", "not valid TOML"]);
    assert_says(read("seed = 1\nseed = 2"), &["run.toml:2", "not valid TOML"]);
    assert_says(read(&format!("model = {}", "[".repeat(100_000))), &["run.toml:1"]);
}

#[test]
fn wrong_types_and_names_say_the_key_the_line_and_what_is_allowed() {
    assert_says(read(&minimal_and("batch_size = \"8\"")), &["run.toml:9", "train.batch_size", "\"8\""]);
    assert_says(read(&minimal_and("batch_size = -8")), &["run.toml:9", "train.batch_size", "-8"]);
    assert_says(read(&minimal_and("batch_size = 1.5")), &["run.toml:9", "train.batch_size"]);
    assert_says(read(&minimal_and("optimizer = \"sgd\"")), &["train.optimizer", "sgd", "adamw", "adam"]);
    assert_says(read(&minimal_and("schedule = \"cosine\"")), &["cosine", "constant", "linear", "exponential"]);
    assert_says(read(&minimal_and("select = \"f1\"")), &["f1", "macro_f1", "p_at_10"]);
    assert_says(read(&minimal_and("[prompt]\nencoder = \"gru\"")), &["prompt.encoder", "gru", "embedding", "lstm"]);
    assert_says(read(&minimal_and("[task.verbalizer]\nyes = \"yes\"")), &["run.toml:10", "task.verbalizer.yes"]);
    assert_says(read("train = 3"), &["run.toml:1", "train"]);
}

#[test]
fn required_keys_are_named() {
    assert_says(read(""), &["run.toml: model: is missing"]);
    assert_says(read(&MINIMAL.replace("train = \"train.jsonl\"", "")), &["data.train: is missing"]);
    assert_says(read(&MINIMAL.replace("template = \"{text} [MASK]\"", "")), &["task.template: is missing"]);
    let without = read(&MINIMAL.replace("steps = 10", "")).unwrap();
    let error = without.require_length(Path::new("run.toml")).unwrap_err().to_string();
    assert!(error.contains("train.steps: is missing") && error.contains("train.epochs"), "{error}");
    assert_says(read(&minimal_and("epochs = 2")), &["train.steps", "train.epochs", "keep one"]);
}

#[test]
fn values_out_of_range_are_refused() {
    for (lines, key) in [
        ("batch_size = 0", "train.batch_size"),
        ("batch_size = 1000000", "train.batch_size"),
        ("learning_rate = 0.0", "train.learning_rate"),
        ("learning_rate = -1e-3", "train.learning_rate"),
        ("learning_rate = nan", "train.learning_rate"),
        ("learning_rate = inf", "train.learning_rate"),
        ("learning_rate = 1e-200", "train.learning_rate"),
        ("weight_decay = -0.1", "train.weight_decay"),
        ("weight_decay = nan", "train.weight_decay"),
        ("clip_norm = -1.0", "train.clip_norm"),
        ("decay = 0.0", "train.decay"),
        ("decay = 1.5", "train.decay"),
        ("warmup_steps = 11", "train.warmup_steps"),
        ("eval_every = 0", "train.eval_every"),
        ("patience = 3", "train.patience"),
        ("select = \"accuracy\"", "train.select"),
        ("[backbone]\ndropout = -0.1", "backbone.dropout"),
        ("[backbone]\ndropout = 1.0", "backbone.dropout"),
        ("backbone_learning_rate = 1e-5", "train.backbone_learning_rate"),
        ("head_learning_rate = 1e-5", "train.head_learning_rate"),
        ("backbone_weight_decay = 0.1", "train.backbone_weight_decay"),
        ("backbone_learning_rate = 0.0\n[backbone]\nmode = \"full\"", "train.backbone_learning_rate"),
        ("backbone_weight_decay = -1.0\n[backbone]\nmode = \"full\"", "train.backbone_weight_decay"),
        ("[prompt]\nhidden_size = 8", "prompt.hidden_size"),
        ("[prompt]\nshapes = \"superglue\"\nlayers = 1", "prompt.layers"),
        ("[prompt]\nshapes = \"peft\"\nhidden_size = 0", "prompt.hidden_size"),
        ("[prompt]\nshapes = \"peft\"\nhidden_size = 100000", "prompt.hidden_size"),
        ("[prompt]\nshapes = \"peft\"\nlayers = 0", "prompt.layers"),
        ("[prompt]\nshapes = \"peft\"\nencoder = \"mlp\"\nlayers = 2", "prompt.layers"),
        ("[prompt]\nshapes = \"peft\"\nencoder = \"embedding\"\nhidden_size = 8", "prompt.hidden_size"),
        ("[prompt]\nprefix_tokens = 0", "prompt.prefix_tokens"),
        ("[prompt]\nprefix_tokens = 1001", "prompt.prefix_tokens"),
        ("[prompt]\nprefix_hidden_size = 8", "prompt.prefix_hidden_size"),
        ("[prompt]\nprefix_init = \"zero\"", "prompt.prefix_init"),
        ("[prompt]\nprefix_tokens = 2\nprefix_text = \" \"", "prompt.prefix_text"),
        ("[prompt]\nprefix_tokens = 2\nprefix_text = \"a b\"\nprefix_init = \"random\"", "prompt.prefix_text"),
        ("[prompt]\nprefix_tokens = 2\nprefix_text = \"a b\"\nprefix_hidden_size = 8", "prompt.prefix_text"),
        ("[task.verbalizer]\nyes = [\"yes\"]", "task.verbalizer"),
        ("[task.verbalizer]\na = [\"yes\"]\nb = []", "task.verbalizer.b"),
        ("[task.verbalizer]\na = [\"yes\"]\nb = [\" \"]", "task.verbalizer.b"),
        ("[task.verbalizer]\na = [\"yes\"]\nb = [\"no\", \"yes\"]", "task.verbalizer.b"),
    ] {
        assert_says(read(&minimal_and(lines)), &["run.toml", key]);
    }
    for (from, to, key) in [
        ("steps = 10", "steps = 0", "train.steps"),
        ("steps = 10", "epochs = 0", "train.epochs"),
        ("steps = 10", "steps = 9000000000000", "train.steps"),
        ("model = \"model\"", "model = \"m\"\nthreads = 0", "threads"),
        ("[task]", "max_tokens = 0\n[task]", "data.max_tokens"),
        ("[task]", "dev = \"\"\n[task]", "data.dev"),
        ("[task]", "[task]\ntarget = \"\"", "task.target"),
        ("[task]", "[task]\nvocabulary_key = \"bert\"", "task.vocabulary_key"),
        ("[task]", "[task]\nloss = \"vocabulary\"", "task.loss"),
    ] {
        assert_says(read(&MINIMAL.replace(from, to)), &["run.toml", key]);
    }
}

/// What a classifier needs and excludes.
#[test]
fn a_head_has_its_keys_and_no_others() {
    let task = |lines: &str| MINIMAL.replace("[MASK]\"", &format!("[MASK]\"\n{lines}"));
    for (lines, key) in [
        ("head = \"verbalizer\"", "task.head"),
        ("head = \"classifier\"", "task.labels"),
        ("head = \"classifier\"\nlabels = [\"a\"]", "task.labels"),
        ("head = \"classifier\"\nlabels = [\"a\", \"b\", \"a\"]", "task.labels"),
        ("head = \"classifier\"\nlabels = [\"a\", \"\"]", "task.labels"),
        ("head = \"classifier\"\nlabels = [\"a\", \"b\"]\nverbalizer = { a = [\"x\"], b = [\"y\"] }", "task.head"),
        ("head = \"classifier\"\nlabels = [\"a\", \"b\"]\ncausal_tail = \"drop\"", "task.causal_tail"),
        ("head = \"classifier\"\nlabels = [\"a\", \"b\"]\nloss = \"vocabulary\"", "task.loss"),
        ("head = \"vocabulary\"\nanswer = \"text\"", "task.head"),
        ("labels = [\"a\", \"b\"]", "task.labels"),
    ] {
        assert_says(read(&task(lines)), &["run.toml", key]);
    }
    let classifier = task("head = \"classifier\"\nlabels = [\"a\", \"b\"]");
    let config = read(&classifier.replace("[train]", "[train]\nhead_learning_rate = 0.1")).unwrap();
    assert_eq!((config.select(), config.is_probing()), (Metric::Accuracy, false));
    assert_eq!(read(&config.to_toml().unwrap()).unwrap(), config);
}

#[test]
fn the_free_sizes_of_peft_reach_the_encoder() {
    let config = read(&minimal_and("[prompt]\nshapes = \"peft\"\nhidden_size = 48\nlayers = 3")).unwrap();
    let (hidden_size, layers) = (Some(48), Some(3));
    let shape = EncoderShape { kind: EncoderKind::Lstm, shapes: Shapes::Peft, hidden_size, layers };
    assert_eq!(config.prompt.shape(), shape);
    assert_eq!(read(&config.to_toml().unwrap()).unwrap(), config);
}

#[test]
fn a_text_has_a_length_and_metrics_of_its_own_and_excludes_words() {
    let text = |lines: &str| MINIMAL.replace("[task]", &format!("[task]\nanswer = \"text\"\n{lines}"));
    let config = read(&text("")).unwrap();
    assert!(config.is_text() && !config.is_probing());
    assert_eq!((config.task.answer_tokens, config.train.select), (Some(32), Some(Metric::Perplexity)));
    assert_eq!(read(&config.to_toml().unwrap()).unwrap(), config);
    assert_eq!(read(&text("answer_tokens = 7")).unwrap().task.answer_tokens, Some(7));
    assert_eq!(read(MINIMAL).unwrap().task.answer_tokens, None, "other run files have no new key");
    assert_says(read(&text("answer_tokens = 0")), &["task.answer_tokens", "0"]);
    assert_says(read(&MINIMAL.replace("[task]", "[task]\nanswer_tokens = 7")), &["task.answer_tokens", "answer"]);
    assert_says(read(&text("vocabulary = \"v.txt\"")), &["task.vocabulary", "remove it"]);
    assert_says(read(&text("").replace("[train]", "[train]\nselect = \"p_at_1\"")), &["p_at_1", "perplexity"]);
    assert_says(read(&MINIMAL.replace("[train]", "[train]\nselect = \"perplexity\"")), &["perplexity", "p_at_10"]);
    let labels = "[task.verbalizer]\na = [\"yes\"]\nb = [\"no\"]";
    assert_says(read(&format!("{}{labels}", text(""))), &["task.answer", "label words"]);
    assert_says(read(&text("").replace("\"text\"", "\"essay\"")), &["run.toml:6", "essay", "text"]);
}

#[test]
fn a_trained_model_has_rates_and_a_frozen_one_has_none() {
    let rates = |text: &str| {
        let config = read(text).unwrap();
        assert_eq!(read(&config.to_toml().unwrap()).unwrap(), config);
        let train = config.train;
        (train.backbone_learning_rate, train.head_learning_rate, train.backbone_weight_decay)
    };
    assert_eq!(rates(MINIMAL), (None, None, None));
    let full = minimal_and("weight_decay = 0.2\n[backbone]\nmode = \"full\"");
    assert_eq!(rates(&full), (Some(1e-5), Some(1e-5), Some(0.2)));
    let given = full.replace("[train]", "[train]\nbackbone_learning_rate = 2e-5\nbackbone_weight_decay = 0.0");
    assert_eq!(rates(&given), (Some(2e-5), Some(2e-5), Some(0.0)));
    let head = full.replace("[train]", "[train]\nhead_learning_rate = 1e-3");
    assert_eq!(rates(&head), (Some(1e-5), Some(1e-3), Some(0.2)));
}

#[test]
fn lora_is_decided_and_its_keys_are_for_it_alone() {
    let lora = |lines: &str| format!("{}\n{lines}", minimal_and("weight_decay = 0.2\n[backbone]\nmode = \"lora\""));
    let config = read(&lora("")).unwrap();
    let expected = Lora { rank: 8, alpha: 16.0, rslora: false, targets: vec![Projection::Query, Projection::Value] };
    assert_eq!(config.backbone.lora(), Some(expected));
    let train = &config.train;
    let decided = (train.backbone_learning_rate, train.head_learning_rate, train.backbone_weight_decay);
    assert_eq!(decided, (Some(5e-4), None, Some(0.2)));
    assert_eq!(config.compute, Compute::fastest(BackboneMode::Frozen), "the weights stay, so they may be rounded");
    assert_eq!(read(&config.to_toml().unwrap()).unwrap(), config);
    let given = lora("lora_rank = 2\nlora_alpha = 3\nlora_rslora = true\nlora_targets = [\"down\"]");
    let expected = Lora { rank: 2, alpha: 3.0, rslora: true, targets: vec![Projection::Down] };
    assert_eq!(read(&given).unwrap().backbone.lora(), Some(expected));

    for (line, part) in [
        ("lora_rank = 0", "backbone.lora_rank"),
        ("lora_rank = 5000", "from 1 to 1024"),
        ("lora_alpha = 0.0", "backbone.lora_alpha"),
        ("lora_alpha = nan", "backbone.lora_alpha"),
        ("lora_targets = []", "backbone.lora_targets"),
        ("lora_targets = [\"query\", \"query\"]", "twice"),
        ("lora_targets = [\"q_proj\"]", "q_proj"),
    ] {
        assert_says(read(&lora(line)), &[part]);
    }
    for key in ["lora_rank = 8", "lora_alpha = 8", "lora_rslora = false", "lora_targets = [\"key\"]"] {
        assert_says(read(&minimal_and(&format!("[backbone]\n{key}"))), &["backbone.lora_", "mode = \"lora\""]);
    }
    let head = lora("").replace("[train]", "[train]\nhead_learning_rate = 1e-3");
    assert_says(read(&head), &["train.head_learning_rate", "full"]);
}

#[test]
fn a_classification_task_has_no_vocabulary_and_no_probing_metric() {
    let labels = "[task.verbalizer]\na = [\"yes\"]\nb = [\"no\"]";
    let text = minimal_and(labels);
    assert_says(read(&text.replace("[task]", "[task]\nvocabulary = \"v.txt\"")), &["task.vocabulary", "probing"]);
    assert_says(read(&text.replace("[train]", "[train]\nselect = \"mrr\"")), &["train.select", "mrr", "macro_f1"]);
    assert!(read(&text.replace("[train]", "[train]\nselect = \"macro_f1\"")).is_ok());
}

/// The minimal file with a dotted key set, in the right table.
fn setting(key: &str, value: &str) -> String {
    match key.rsplit_once('.') {
        None => format!("{key} = {value}\n{MINIMAL}"),
        Some((table @ ("train" | "task"), name)) => {
            MINIMAL.replace(&format!("[{table}]"), &format!("[{table}]\n{name} = {value}"))
        }
        Some((table, name)) => minimal_and(&format!("[{table}]\n{name} = {value}")),
    }
}

#[test]
fn features_of_later_releases_are_refused_by_name() {
    for (key, _) in LATER_KEYS {
        assert_says(read(&setting(key, "1")), &["run.toml:", key, "later release"]);
        assert_says(read_with(MINIMAL, &[(key, "1")]), &["--set", key, "later release"]);
    }
    for (key, value, instead) in LATER_VALUES {
        assert_says(read(&setting(key, &format!("{value:?}"))), &["run.toml:", key, value, "later release", instead]);
        assert_says(read_with(MINIMAL, &[(key, value)]), &["--set", key, value, "later release", instead]);
    }
}

#[test]
fn overrides_count_as_if_they_stood_in_the_file() {
    let config = read_with(
        MINIMAL,
        &[
            ("train.learning_rate", "3e-4"),
            ("prompt.encoder", "embedding"),
            ("task.template", "[P*3] {text} = [MASK]"),
            ("task.verbalizer.yes", "[\"yes\"]"),
            ("task.verbalizer.\"not sure\"", "['maybe', 'perhaps']"),
            ("seed", "7"),
            ("train.epochs", "3"),
        ],
    )
    .unwrap();
    assert_eq!(config.train.learning_rate, 3e-4);
    assert_eq!(config.prompt.encoder, EncoderKind::Embedding);
    assert_eq!(config.task.template, "[P*3] {text} = [MASK]");
    assert_eq!(config.task.verbalizer[1], ("not sure".into(), vec!["maybe".into(), "perhaps".into()]));
    assert_eq!(config.seed, 7);
    assert_eq!((config.train.steps, config.train.epochs), (None, Some(3)), "epochs must replace the file's steps");
}

#[test]
fn wrong_overrides_are_named() {
    assert_says(read_with(MINIMAL, &[("train.step", "3")]), &["--set train.step=3", "unknown key", "'train.steps'"]);
    assert_says(read_with(MINIMAL, &[("train.steps", "many")]), &["--set train.steps=many", "many"]);
    assert_says(read_with(MINIMAL, &[("seed", "1"), ("seed.x", "3")]), &["--set seed.x=3"]);
    for key in ["", ".", "a b", "train.", "train\nseed", "seed = 1\nx", "[train]", "'", "train.steps = 1 #"] {
        assert_says(read_with(MINIMAL, &[(key, "3")]), &["--set"]);
    }
    assert_says(read_with(MINIMAL, &[("train.steps", "3\nseed = 4")]), &["--set train.steps"]);
    assert_says(read_with(MINIMAL, &[("train.batch_size", "0")]), &["run.toml", "train.batch_size", "0"]);
}

#[test]
fn a_run_file_that_is_missing_or_not_utf8_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.toml");
    assert_says(RunConfig::read(&file, &[]), &["cannot read", "run.toml"]);
    fs::write(&file, b"model = \"m\"\nseed = \xff").unwrap();
    assert_says(RunConfig::read(&file, &[]), &["run.toml:2", "UTF-8"]);
}

#[test]
fn a_seed_that_toml_cannot_hold_is_an_error_and_no_panic() {
    let config = RunConfig { seed: u64::MAX, ..read(MINIMAL).unwrap() };
    assert_says(config.to_toml(), &["TOML"]);
}

#[test]
fn a_run_made_in_a_program_is_checked_as_a_file_is() {
    let data = DataConfig { train: "train.jsonl".into(), ..DataConfig::default() };
    let task = TaskConfig { template: "{text} [MASK]".into(), ..TaskConfig::default() };
    let made = RunConfig { model: "/model".into(), data, task, ..RunConfig::default() };
    let checked = made.clone().checked().unwrap();
    assert_eq!((checked.compute, checked.train.select), (Compute::fastest(BackboneMode::Frozen), Some(Metric::PAt1)));
    assert_eq!(checked.data.train, std::path::absolute("train.jsonl").unwrap());
    let train = TrainConfig { batch_size: 0, ..TrainConfig::default() };
    assert_says(RunConfig { train, ..made }.checked(), &["train.batch_size"]);
}

/// The rows of the manual's table under a heading: the cells without their backticks, and as they stand.
fn manual_rows(manual: &str, heading: &str) -> Vec<Vec<String>> {
    let section = manual.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_string()).collect())
        .collect()
}

fn read_manual() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/train.md");
    fs::read_to_string(file).unwrap()
}

/// The default of a key as the manual should write it.
fn default_in_code(defaults: &Table, key: &str) -> String {
    let mut value = &Value::Table(defaults.clone());
    for part in key.split('.') {
        match value.get(part) {
            Some(inner) => value = inner,
            None => return "-".into(),
        }
    }
    match value {
        Value::String(text) if text.is_empty() => "required".into(),
        value => format!("`{value}`"),
    }
}

#[test]
fn the_manual_has_every_key_with_its_default() {
    let rows = manual_rows(&read_manual(), "Keys\n");
    let documented: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    let mut sorted = documented.clone();
    sorted.sort();
    let mut keys = RunConfig::keys().unwrap().known;
    keys.sort();
    assert_eq!(sorted, keys, "docs/train.md and the code have different keys");
    let mut defaults = Table::try_from(RunConfig::default()).unwrap();
    // Left out where they say nothing, so that run files without them keep their bytes.
    defaults.insert("search".into(), Value::Table(Table::try_from(SearchConfig::default()).unwrap()));
    defaults.insert("sensitivity".into(), Value::Table(Table::try_from(SensitivityConfig::default()).unwrap()));
    for row in &rows {
        let key = row[0].trim_matches('`');
        assert_eq!(row[1], default_in_code(&defaults, key), "docs/train.md has another default for {key}");
    }
}

#[test]
fn the_manual_lists_what_comes_later() {
    let rows = manual_rows(&read_manual(), "Keys and values of later releases");
    let mut documented: Vec<(&str, &str)> =
        rows.iter().map(|row| (row[0].trim_matches('`'), row[1].trim_matches('`'))).collect();
    let mut in_code: Vec<(&str, &str)> = LATER_KEYS.iter().map(|(key, _)| (*key, "any")).collect();
    in_code.extend(LATER_VALUES.iter().map(|(key, value, _)| (*key, *value)));
    documented.sort();
    in_code.sort();
    assert_eq!(documented, in_code);
}

#[test]
fn the_run_files_of_the_manual_are_right() {
    let manual = read_manual();
    let examples: Vec<&str> = manual.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 2);
    assert!(!read(examples[0]).unwrap().is_probing());
    let probing = read(examples[1]).unwrap();
    assert!(probing.is_probing());
    assert_eq!(probing.prompt.encoder, EncoderKind::Mlp);
}

#[test]
fn names_are_those_of_the_run_file() {
    let written = |value: Value| value.as_str().unwrap().to_string();
    for kind in [EncoderKind::Embedding, EncoderKind::Mlp, EncoderKind::Lstm] {
        assert_eq!(kind.name(), written(Value::try_from(kind).unwrap()));
    }
    for metric in [
        Metric::Accuracy,
        Metric::MacroF1,
        Metric::PAt1,
        Metric::PAt10,
        Metric::Mrr,
        Metric::Perplexity,
        Metric::ExactMatch,
    ] {
        assert_eq!(metric.name(), written(Value::try_from(metric).unwrap()));
    }
    for loss in [Loss::Full, Loss::Vocabulary] {
        assert_eq!(loss.name(), written(Value::try_from(loss).unwrap()));
    }
    for compute in [Compute::Auto, Compute::F32, Compute::Bf16] {
        assert_eq!(compute.name(), written(Value::try_from(compute).unwrap()));
    }
    for shapes in [Shapes::Lama, Shapes::Superglue, Shapes::Peft] {
        assert_eq!(shapes.name(), written(Value::try_from(shapes).unwrap()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,80}") {
        let _ = read(&text);
    }

    #[test]
    fn no_toml_makes_it_panic(text in "([a-z\\.\\[\\]\"' =\n0-9{}#é-]{0,8}(train|data|steps|=|\\[task\\]|\n)){0,8}") {
        let _ = read(&text);
    }

    #[test]
    fn no_damaged_file_makes_it_panic(at in 0usize..1000, new in "\\PC{0,3}") {
        let mut characters: Vec<char> = MINIMAL.chars().collect();
        let at = at % characters.len();
        characters.splice(at..=at, new.chars());
        let _ = read(&characters.into_iter().collect::<String>());
    }

    #[test]
    fn no_override_makes_it_panic(key in "\\PC{0,12}", value in "\\PC{0,12}") {
        let _ = read_with(MINIMAL, &[(&key, &value), ("train.steps", &value)]);
    }
}
