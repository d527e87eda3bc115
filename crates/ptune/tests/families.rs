//! What a family's `config.json` may say: older and newer spellings of the same rotary positions, and every option that is
//! refused, by its key. And a run over each: five steps, stopped and resumed, its model unchanged.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ptune::checkpoint::ModelDirectory;
use ptune::model::spec::{ModelSpec, RotarySpec};
use ptune::train::{Event, Options, RunConfig, run_with};
use ptune::{Device, Error, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Golden cases of the families with rotary positions.
const CASES: [&str; 6] =
    ["llama_mlp", "mistral_embedding", "qwen2_embedding", "qwen3_embedding", "neox_embedding", "modernbert_embedding"];

fn model_directory(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case).join("model")
}

/// A copy of a case's model whose configuration was edited.
fn edited(case: &str, edit: impl FnOnce(&mut Value)) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(model_directory(case)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let file = copy.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    edit(&mut config);
    fs::write(&file, config.to_string()).unwrap();
    copy
}

fn read(directory: &Path) -> Result<ModelSpec> {
    ModelSpec::read(&ModelDirectory::open(directory)?)
}

#[test]
fn what_is_not_implemented_is_refused_by_its_key() {
    let rope = |kind: &str| json!({"rope_type": kind, "rope_theta": 10000.0, "factor": 2.0});
    let cases: [(&str, &str, Value, &str); 16] = [
        ("llama_mlp", "rope_parameters", rope("dynamic"), "rope_parameters.rope_type: the rotary scaling 'dynamic'"),
        ("llama_mlp", "rope_parameters", rope("longrope"), "rope_parameters.rope_type: the rotary scaling 'longrope'"),
        ("llama_mlp", "rope_parameters", json!({"rope_type": "linear"}), "rope_parameters.factor: is missing"),
        ("llama_mlp", "rope_parameters", json!({"rope_theta": 0.5}), "rope_theta: 0.5 should be above 1"),
        ("llama_mlp", "rope_parameters", json!([1]), "rope_parameters: [1] is not an object"),
        ("llama_mlp", "hidden_act", json!("swiglu"), "hidden_act: activation 'swiglu' is not implemented"),
        ("llama_mlp", "num_key_value_heads", json!(3), "num_key_value_heads: 3 key heads do not divide"),
        ("llama_mlp", "head_dim", json!(5), "head_dim: rotary positions would turn 5 numbers"),
        ("llama_mlp", "quantization_config", json!({"bits": 4}), "quantization_config: quantised weights"),
        ("mistral_embedding", "sliding_window", json!(0), "sliding_window: 0 is not a whole number"),
        ("qwen2_embedding", "layer_types", json!(["full_attention"]), "layer_types: names 1 layers"),
        ("qwen3_embedding", "layer_types", json!(["full_attention", "chunked"]), "layer_types: 'chunked' is not"),
        ("neox_embedding", "num_attention_heads", json!(5), "num_attention_heads: 5 heads do not divide"),
        ("modernbert_embedding", "classifier_pooling", json!("max"), "classifier_pooling: 'max' is not implemented"),
        ("modernbert_embedding", "norm_eps", json!(3), "norm_eps: 3 should be a small number"),
        ("modernbert_embedding", "layer_types", json!(vec!["linear_attention"; 4]), "layer_types: 'linear_attention'"),
    ];
    for (case, key, value, says) in cases {
        let copy = edited(case, |config| config[key] = value.clone());
        let error = read(copy.path()).expect_err(says);
        assert!(error.is_request() && error.to_string().contains(says), "{key} = {value}: {error}");
    }
}

fn rotary(directory: &Path) -> RotarySpec {
    read(directory).unwrap().blocks[0].attention.rotary.clone().unwrap()
}

#[test]
fn older_files_say_the_same_of_rotary_positions() {
    for case in ["llama_mlp", "llama_embedding", "mistral_embedding", "neox_embedding"] {
        let old = edited(case, |config| {
            let mut scaling = config.as_object_mut().unwrap().remove("rope_parameters").unwrap();
            let scaling = scaling.as_object_mut().unwrap();
            let theta = scaling.remove("rope_theta").unwrap();
            config["rope_theta"] = theta.clone();
            config["rotary_emb_base"] = theta;
            if let Some(share) = scaling.remove("partial_rotary_factor") {
                config["rotary_pct"] = share;
            }
            let kind = scaling.remove("rope_type").unwrap();
            scaling.insert("type".into(), kind);
            config["rope_scaling"] = json!(scaling);
        });
        assert_eq!(rotary(old.path()), rotary(&model_directory(case)), "{case}");
    }
}

/// Every kind with each of its options; `reference/rotary.py` wrote the numbers. transformers forms them in f32.
#[test]
fn scaled_rotary_positions_are_those_of_transformers() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rotary.json");
    let cases: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let changed = edited("llama_mlp", |config| {
            config["head_dim"] = json!(32);
            config["max_position_embeddings"] = json!(4096);
            config["rope_parameters"] = case["rope_parameters"].clone();
        });
        let RotarySpec { frequencies, factor } = rotary(changed.path());
        let want = case["frequencies"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32);
        assert_eq!(frequencies.len(), want.len());
        for (found, want) in
            frequencies.iter().chain([&factor]).zip(want.chain([case["factor"].as_f64().unwrap() as f32]))
        {
            assert!((found / want - 1.0).abs() < 2e-6, "{}: {found}, transformers {want}", case["rope_parameters"]);
        }
    }
}

/// The bytes that must be the same.
fn results(out: &Path) -> Vec<Vec<u8>> {
    ["metrics.jsonl", "adapter/prompt.safetensors", "adapter/adapter.toml"]
        .map(|file| fs::read(out.join(file)).unwrap())
        .into()
}

#[test]
fn a_run_of_five_steps_goes_on_where_it_was_stopped_and_leaves_the_model_alone() {
    let rows = [("Rain", "yes", "0"), ("the good film of the city", "no", "1"), ("국물이 너무 좋다", "is it", "0")];
    let rows = rows.map(|(a, b, label)| json!({"premise": a, "hypothesis": b, "label": label}).to_string());
    for case in CASES {
        for more in ["frozen", "full"] {
            let directory = tempfile::tempdir().unwrap();
            let (model, file) = (model_directory(case), directory.path().join("run.toml"));
            let run_file = format!(
                "model = {model:?}\ncompute = \"f32\"\n[data]\ntrain = \"rows.jsonl\"\ndev = \"rows.jsonl\"\n\
                 max_tokens = 48\n[task]\ntemplate = \"[P*2] {{premise|shorten}} [P*1] {{hypothesis}} ? [MASK]\"\n\
                 [task.verbalizer]\n0 = [\"yes\"]\n1 = [\"no\"]\n[backbone]\nmode = {more:?}\n\
                 [train]\nsteps = 5\nbatch_size = 2\neval_every = 2\n"
            );
            fs::write(&file, run_file).unwrap();
            fs::write(directory.path().join("rows.jsonl"), rows.join("\n")).unwrap();
            let config = RunConfig::read(&file, &[]).unwrap();
            let weights = fs::read(model.join("model.safetensors")).unwrap();
            let device = Device::processor(Some(1));
            let run = |name: &str, stop: Option<usize>| {
                let (out, stopped) = (directory.path().join(name), AtomicBool::new(false));
                let options = Options { resume: true, stop: Some(&stopped) };
                let ended = run_with(&config, &file, &out, &device, options, &mut |event| {
                    if matches!(event, Event::Step { step, .. } if stop == Some(step)) {
                        stopped.store(true, Ordering::Relaxed);
                    }
                });
                (out, ended)
            };
            let (whole, ended) = run("whole", None);
            ended.unwrap_or_else(|error| panic!("{case}, {more}: {error}"));
            let (_, ended) = run("parts", Some(3));
            assert!(matches!(ended, Err(Error::Stopped { .. })), "{case}, {more}");
            let (parts, ended) = run("parts", None);
            ended.unwrap();
            assert!(results(&whole) == results(&parts), "{case}, {more}: resumed");
            assert_eq!(whole.join("adapter/backbone.safetensors").exists(), more == "full", "{case}");
            assert!(fs::read(model.join("model.safetensors")).unwrap() == weights, "{case}");
        }
    }
}
