//! Adapters that PEFT 0.21.2 saved answer here as there, and what is written for PEFT has its form; each of PEFT's silent
//! traps is an error.
//!
//! The fixtures are `tests/golden/peft/` (written by `reference/peft_exchange.py`, with PEFT's logits) and
//! `tests/golden/peft/refused/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::adapter::peft::PeftMethod;
use crate::adapter::{Adapter, Description, Matrix, Tuned};
use crate::checkpoint::{ModelDirectory, Weights};
use crate::data::Example;
use crate::predict::{Prediction, Predictor};
use crate::tensor::Device;
use crate::train::config::{DataConfig, HeadKind, TaskConfig};
use crate::train::{describe, describe_base};

/// The logits here and there differ by about 1e-6.
const LIMIT: f64 = 1e-5;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn read_json(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// The task of the fixtures over a model of the golden tests.
fn task(model: &str, template: &str) -> RunConfig {
    let words = ["yes", "no", "maybe", "fine", "city"];
    let task = TaskConfig {
        template: template.into(),
        verbalizer: words.map(|word| (word.to_owned(), vec![word.to_owned()])).into(),
        ..TaskConfig::default()
    };
    RunConfig { task, ..over(model) }.checked().unwrap()
}

/// A run file without a task.
fn over(model: &str) -> RunConfig {
    let data = DataConfig { train: "none".into(), max_tokens: Some(40), ..DataConfig::default() };
    RunConfig { model: golden(model).join("model"), data, ..RunConfig::default() }
}

/// The same question for a classifier of three labels.
fn labels(model: &str, template: &str) -> RunConfig {
    let names = ["sun", "rain", "snow"].map(str::to_owned).to_vec();
    let (head, template) = (Some(HeadKind::Classifier), template.into());
    let task = TaskConfig { template, head, labels: Some(names), ..TaskConfig::default() };
    RunConfig { task, ..over(model) }.checked().unwrap()
}

const PROMPT: &str = "[P*4] {text} is [MASK]";
const BEHIND: &str = " {text} is [MASK]";

fn import(peft: &Path, template: &str, number: Option<usize>, out: &Path) -> Result<PeftImport> {
    import_peft(peft, None, TaskFrom::Run(&task("gpt2_mlp", template), Path::new("run.toml")), number, out)
}

/// Label scores about their mean, from the probabilities.
fn scores(adapter: &Path, texts: &Value) -> Vec<Vec<f64>> {
    let device = Device::processor(Some(1));
    let predictor = Predictor::open(adapter, None, &device, &mut |_, _| {}).unwrap();
    let texts = texts.as_array().unwrap().iter().map(|text| Example::from_fields([("text", text.as_str().unwrap())]));
    let answers = predictor.predict(&texts.collect::<Vec<_>>(), 5);
    let logarithms = answers.into_iter().map(|answer| match answer.unwrap() {
        Prediction::Label { probabilities, .. } => probabilities.iter().map(|(_, p)| p.ln()).collect(),
        other => panic!("{other:?}"),
    });
    logarithms.map(centred).collect()
}

fn centred(row: Vec<f64>) -> Vec<f64> {
    let mean = row.iter().sum::<f64>() / row.len() as f64;
    row.into_iter().map(|x| x - mean).collect()
}

#[track_caller]
fn assert_close(found: &[Vec<f64>], expected: &[Vec<f64>], what: &str) {
    let pairs = found.iter().flatten().zip(expected.iter().flatten());
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(found.len() == expected.len() && worst < LIMIT, "{what}: {worst}");
}

mod heads;
mod lora;
mod traps;

#[test]
fn what_peft_saved_answers_here_as_there() {
    let methods = ["prompt_tuning", "p_tuning_mlp", "p_tuning_lstm", "cpt", "multitask"];
    let prefixes = ["prefix", "prefix_projected", "cartridge"];
    let cases = methods.map(|name| (name, PROMPT)).into_iter().chain(prefixes.map(|name| (name, BEHIND)));
    for (name, template) in cases {
        let peft = golden("peft").join(name);
        let answers = read_json(&peft.join("answers.json"));
        assert_eq!(answers["peft"], "0.21.2");
        let tasks: Vec<Vec<Vec<f64>>> = serde_json::from_value(answers["logits"].clone()).unwrap();
        for (number, expected) in tasks.iter().enumerate() {
            let out = TempDir::new().unwrap();
            let done = import(&peft, template, (tasks.len() > 1).then_some(number), out.path()).unwrap();
            assert_eq!((done.size, done.template.as_str()), (PeftSize::Tokens(4), template), "{name}");
            let expected: Vec<_> = expected.iter().cloned().map(centred).collect();
            assert_close(&scores(out.path(), &answers["texts"]), &expected, &format!("{name}, task {number}"));
        }
    }
}

/// An adapter of ptune: the P-tuning fixture, imported.
fn imported() -> TempDir {
    let out = TempDir::new().unwrap();
    import(&golden("peft/p_tuning_lstm"), PROMPT, None, out.path()).unwrap();
    out
}

fn export(adapter: &Path, method: Option<PeftMethod>, out: &Path) -> Result<PeftExport> {
    export_peft(adapter, None, method, out, &Device::processor(Some(1)), &mut |_, _| {})
}

/// The keys that every PEFT from 0.5.0 to 0.21.2 takes: another is a TypeError in 0.7 to 0.13.
const PORTABLE: [&str; 11] = [
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "num_attention_heads",
    "num_layers",
    "num_transformer_submodules",
    "num_virtual_tokens",
    "peft_type",
    "revision",
    "task_type",
    "token_dim",
];

#[test]
fn exports_have_the_portable_keys_and_no_other() {
    let adapter = imported();
    let encoder = ["encoder_dropout", "encoder_hidden_size", "encoder_num_layers", "encoder_reparameterization_type"];
    let table = ["prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path"];
    let prefix = ["encoder_hidden_size", "prefix_projection"];
    let cases = [
        (PeftMethod::PTuning, "P_TUNING", &encoder[..], [4, 24]),
        (PeftMethod::PromptTuning, "PROMPT_TUNING", &table, [4, 24]),
        (PeftMethod::PrefixTuning, "PREFIX_TUNING", &prefix, [4, 3 * 2 * 24]),
    ];
    for (method, name, own, shape) in cases {
        let out = TempDir::new().unwrap();
        assert_eq!(export(adapter.path(), Some(method), out.path()).unwrap().method, name);
        let config = read_json(&out.path().join("adapter_config.json"));
        let mut expected: Vec<&str> = PORTABLE.iter().chain(own).copied().collect();
        expected.sort_unstable();
        let keys: Vec<&str> = config.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, expected, "{name}: sorted, as PEFT's own writer has them");
        // Without a task type PEFT drops the prompt silently.
        assert_eq!((&config["peft_type"], &config["task_type"]), (&json!(name), &json!("CAUSAL_LM")));
        assert_eq!((&config["num_layers"], &config["num_attention_heads"]), (&json!(3), &json!(3)));
        let tensors = crate::checkpoint::Weights::open_file(&out.path().join("adapter_model.safetensors")).unwrap();
        assert_eq!(tensors.names().collect::<Vec<_>>(), ["prompt_embeddings"]);
        assert_eq!(tensors.shape("prompt_embeddings").unwrap(), shape);
        assert_eq!(tensors.dtype("prompt_embeddings").unwrap(), "F32");
    }
}

#[test]
fn an_adapter_comes_back_as_it_was() {
    let adapter = imported();
    let (out, again) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    export(adapter.path(), None, out.path()).unwrap();
    import_peft(out.path(), None, TaskFrom::Beside, None, again.path()).unwrap();
    assert_eq!(Adapter::load(again.path()).unwrap(), Adapter::load(adapter.path()).unwrap());
}

#[test]
fn a_prompt_and_the_prefix_that_it_becomes_give_the_same_answers() {
    let adapter = imported();
    let (out, again) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    export(adapter.path(), Some(PeftMethod::PrefixTuning), out.path()).unwrap();
    import_peft(out.path(), None, TaskFrom::Beside, None, again.path()).unwrap();
    let prefixed = Adapter::load(again.path()).unwrap();
    assert_eq!((prefixed.prefix.rows, prefixed.rows), (4, 0));
    assert_eq!((prefixed.description.template.as_str(), prefixed.description.max_tokens), (BEHIND, 36));
    let texts = json!(["Rain", "The cat sleeps in the red room", "no"]);
    assert_close(&scores(again.path(), &texts), &scores(adapter.path(), &texts), "behind the prefix");
}

#[test]
fn rows_that_are_shared_by_name_come_once_for_each_place() {
    let adapter = imported();
    let mut loaded = Adapter::load(adapter.path()).unwrap();
    loaded.description.template = "[P*2 @a] [P*2] [P*2 @a] {text} is [MASK]".into();
    let shared = TempDir::new().unwrap();
    loaded.save(shared.path()).unwrap();
    let (out, again) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    assert_eq!(export(shared.path(), None, out.path()).unwrap().size, PeftSize::Tokens(6));
    import_peft(out.path(), None, TaskFrom::Beside, None, again.path()).unwrap();
    assert_eq!(Adapter::load(again.path()).unwrap().prompt, loaded.prompt);
    // Somebody else's prompt has no rows in common.
    let template = "[P*2 @a] [P*2 @a] {text} is [MASK]";
    let refused = import(&golden("peft/prompt_tuning"), template, None, &again.path().join("new")).unwrap_err();
    assert!(refused.to_string().contains("shares rows"), "{refused}");
}

/// A copy of a fixture with its config changed.
fn changed(name: &str, change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> TempDir {
    let (from, to) = (golden("peft").join(name), TempDir::new().unwrap());
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(from.join(file), to.path().join(file)).unwrap();
    }
    let file = to.path().join("adapter_config.json");
    let mut config = read_json(&file);
    change(config.as_object_mut().unwrap());
    fs::write(file, config.to_string()).unwrap();
    to
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn tensors_of(peft: &Path) -> PathBuf {
    peft.join("adapter_model.safetensors")
}

fn read_tensors(file: &Path) -> Tensors {
    let weights = Weights::open_file(file).unwrap();
    let read = |name: &str| {
        let (shape, mut numbers) = (weights.shape(name).unwrap().to_vec(), Vec::new());
        weights.read_into(name, &shape, &mut numbers).unwrap();
        (name.to_owned(), (shape, numbers))
    };
    weights.names().map(read).collect()
}

/// Changes the tensors of a file.
fn change_tensors(file: &Path, change: impl FnOnce(&mut Tensors)) {
    let mut tensors = read_tensors(file);
    change(&mut tensors);
    let bytes = |(name, (shape, numbers)): (&String, &(Vec<usize>, Vec<f32>))| {
        (name.clone(), shape.clone(), numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    };
    let bytes: Vec<_> = tensors.iter().map(bytes).collect();
    let views = bytes.iter().map(|(n, shape, bytes)| (n, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[track_caller]
fn assert_import_refused(peft: &Path, template: &str, says: &str) {
    let scene = TempDir::new().unwrap();
    let refused = import(peft, template, None, &scene.path().join("out")).unwrap_err();
    assert!(refused.is_request() && refused.to_string().contains(says), "'{says}' is not in: {refused}");
    assert!(!scene.path().join("out").exists(), "something was written");
}

#[test]
fn a_config_of_any_version_is_read() {
    // Three keys are enough, unknown ones are of a later version, null is as good as missing.
    let small = changed("prompt_tuning", |config| {
        config.retain(|key, _| ["peft_type", "task_type", "num_virtual_tokens"].contains(&key.as_str()));
        config.insert("a_later_key".into(), json!({"any": ["thing"]}));
        config.insert("token_dim".into(), Value::Null);
    });
    import(small.path(), PROMPT, None, &small.path().join("out")).unwrap();
    let twice = changed("p_tuning_mlp", |config| {
        config.insert("modules_to_save".into(), json!(["classifier", "score", "classifier", "score"]));
        config.insert("inference_mode".into(), json!(false));
    });
    import(twice.path(), PROMPT, None, &twice.path().join("out")).unwrap();
}

#[test]
fn what_ptune_does_not_have_is_refused_by_name() {
    let cases = [
        ("prompt_seq2seq_t5", "no encoder-decoder models"),
        ("adaption_causal_llama", "'ADAPTION_PROMPT' is not implemented"),
    ];
    for (name, says) in cases {
        assert_import_refused(&golden("peft/refused").join(name), PROMPT, says);
    }
    assert_import_refused(&golden("peft/prompt_tuning"), "[P*5] {text} is [MASK]", "write [P*4] there");
    assert_import_refused(&golden("peft/prompt_tuning"), "{text} is [P*4] [MASK]", "stand inside it");
    assert_import_refused(&golden("peft/multitask"), PROMPT, "--task 0 to --task 2");
    assert_import_refused(&golden("peft/prefix"), PROMPT, "without [P*n]");
    assert_import_refused(&golden("peft/nobody"), PROMPT, "no such directory");
    let pickled = changed("prompt_tuning", |_| {});
    fs::rename(pickled.path().join("adapter_model.safetensors"), pickled.path().join("adapter_model.bin")).unwrap();
    assert_import_refused(pickled.path(), PROMPT, "can run code");
    fs::write(pickled.path().join("adapter_model.safetensors"), b"no").unwrap();
    assert_import_refused(pickled.path(), PROMPT, "truncated");
    fs::write(pickled.path().join("adapter_config.json"), "[1, 2").unwrap();
    assert_import_refused(pickled.path(), PROMPT, "not a JSON object");
    let alone = TempDir::new().unwrap();
    let from = (golden("peft/prompt_tuning"), alone.path().join("out"));
    let refused = import_peft(&from.0, None, TaskFrom::Beside, None, &from.1).unwrap_err();
    assert!(refused.to_string().contains("--run RUN.toml"), "{refused}");
}

#[test]
fn what_peft_cannot_express_is_refused_with_the_reason() {
    let adapter = imported();
    let of = |change: &dyn Fn(&mut Adapter)| {
        let (mut loaded, directory) = (Adapter::load(adapter.path()).unwrap(), TempDir::new().unwrap());
        change(&mut loaded);
        loaded.save(directory.path()).unwrap();
        directory
    };
    let inside = of(&|adapter| adapter.description.template = "[P*2] {text} is [P*2] [MASK]".into());
    let manual = of(&|adapter| {
        adapter.description.template = "{text} is [MASK]".into();
        (adapter.rows, adapter.prompt) = (0, Vec::new());
        (adapter.description.encoder, adapter.description.shapes) = (None, None);
    });
    for (adapter, says) in [(&inside, "stand inside it"), (&manual, "no pseudo tokens")] {
        for method in [None, Some(PeftMethod::PrefixTuning)] {
            let out = adapter.path().join("out");
            let refused = export(adapter.path(), method, &out).unwrap_err();
            assert!(refused.is_request() && refused.to_string().contains(says), "{refused}");
            assert!(!out.exists());
        }
    }
    // A masked model.
    let (directory, scene) = (ModelDirectory::open(&golden("mlp_words/model")).unwrap(), TempDir::new().unwrap());
    let spec = ModelSpec::read(&directory).unwrap();
    let config = task("mlp_words", PROMPT);
    let base = describe_base(&directory, &spec).unwrap();
    let asked = Task::from_run(&config, Path::new("run.toml"), &directory, &spec).unwrap();
    let description = Description { compute: "f32".into(), ..describe(&config, &asked, &base, true) };
    let prompt = vec![0.5; 4 * base.width];
    let (width, prefix, tuned) = (base.width, Matrix::default(), Tuned::default());
    Adapter { description, prompt, rows: 4, width, prefix, tuned }.save(scene.path()).unwrap();
    let refused = export(scene.path(), None, &scene.path().join("out")).unwrap_err();
    assert!(refused.to_string().contains("no task type for a masked model (bert)"), "{refused}");
    // Nothing is overwritten.
    let refused = export(adapter.path(), None, adapter.path()).unwrap_err();
    assert!(refused.to_string().contains("not empty"), "{refused}");
}
