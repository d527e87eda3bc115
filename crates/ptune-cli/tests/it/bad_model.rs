//! Damaged and unsupported model directories: each refused by file, key or tensor, before anything is written.

use std::fs;

use serde_json::{Value, json};

use crate::scene::Scene;

const CONFIG: &str = "model/config.json";
const WEIGHTS: &str = "model/model.safetensors";
const TOKENIZER: &str = "model/tokenizer.json";
const TABLE: &str = "bert.embeddings.word_embeddings.weight";

/// A test for each kind: change a good model, train, and expect the words.
macro_rules! train_refuses {
    ($($name:ident: $change:expr => $says:expr;)*) => {$(
        #[test]
        fn $name() {
            let scene = Scene::new();
            let change: fn(&Scene) = $change;
            change(&scene);
            scene.refused(&["train", "run.toml", "--out", "out", "--json"], &$says);
        }
    )*};
}

/// Changes a key of `config.json`.
fn config(scene: &Scene, key: &str, value: Value) {
    scene.json(CONFIG, |config| config[key] = value);
}

/// The first bytes of the weights.
fn cut(scene: &Scene, bytes: usize) {
    let whole = fs::read(scene.path(WEIGHTS)).unwrap();
    scene.write(WEIGHTS, &whole[..bytes]);
}

train_refuses! {
    missing_directory: |s| s.edit("run.toml", "\"model\"", "\"bert-base-cased\"")
        => ["bert-base-cased: there is no such directory; name a Hugging Face model directory"];
    file_for_a_directory: |s| s.edit("run.toml", "\"model\"", "\"run.toml\"") => ["run.toml: is not a directory"];
    missing_config: |s| s.remove(CONFIG) => ["model: holds no config.json"];
    config_nested_without_end: |s| s.write(CONFIG, "[".repeat(100_000)) => ["config.json:1: not valid JSON"];
    unsupported_model_type: |s| config(s, "model_type", json!("t5"))
        => ["config.json: model_type: model type 't5' is not implemented; implemented: bert, roberta"];
    unsupported_activation: |s| config(s, "hidden_act", json!("swish"))
        => ["config.json: hidden_act: activation 'swish' is not implemented; implemented: gelu"];
    unsupported_positions: |s| config(s, "position_embedding_type", json!("relative_key"))
        => ["config.json: position_embedding_type: 'relative_key' positions are not implemented"];
    missing_key: |s| s.json(CONFIG, |config| drop(config.as_object_mut().unwrap().remove("hidden_size")))
        => ["config.json: hidden_size: is missing"];
    absurd_size: |s| config(s, "hidden_size", json!(1e12)) => ["config.json: hidden_size: ", "whole number from 1 to 16777216"];

    pickled_weights_only: |s| { s.remove(WEIGHTS); s.write("model/pytorch_model.bin", "x"); }
        => ["has only pickled weights (pytorch_model.bin)", "AutoModelForMaskedLM.from_pretrained(", ".save_pretrained("];
    no_weights: |s| s.remove(WEIGHTS) => ["model: holds no weights; model.safetensors"];
    empty_weights: |s| s.write(WEIGHTS, "") => ["model.safetensors: is only 0 bytes long"];
    truncated_header: |s| cut(s, 1000) => ["model.safetensors: the header should be 6224 bytes long but only 992 follow"];
    truncated_data: |s| cut(s, 100_000) => ["model.safetensors: the header describes ", "the file is truncated; copy it again"];
    overlong_header: |s| {
        let mut bytes = fs::read(s.path(WEIGHTS)).unwrap();
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        s.write(WEIGHTS, bytes);
    } => ["model.safetensors: the header should be 18446744073709551615 bytes long"];
    appended_bytes: |s| {
        let bytes = fs::read(s.path(WEIGHTS)).unwrap();
        s.write(WEIGHTS, [&bytes[..], b"more"].concat());
    } => ["model.safetensors: the header describes ", "something was appended"];
    header_that_is_no_json: |s| {
        let mut bytes = fs::read(s.path(WEIGHTS)).unwrap();
        bytes[8] = b'!';
        s.write(WEIGHTS, bytes);
    } => ["model.safetensors: the safetensors header cannot be believed"];
    header_that_lies_about_a_place: |s| s.header(|header| header[TABLE]["data_offsets"] = json!([0, 17792]))
        => ["model.safetensors: the safetensors header cannot be believed"];
    header_that_lies_about_a_shape: |s| s.header(|header| header[TABLE]["shape"] = json!([1u64 << 40, 1u64 << 40]))
        => ["model.safetensors: the safetensors header cannot be believed"];
    git_lfs_pointer: |s| s.write(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        => ["model.safetensors: is a Git LFS pointer", "git lfs pull"];
    missing_tensor: |s| s.header(|header| {
        let tensors = header.as_object_mut().unwrap();
        let tensor = tensors.remove("bert.encoder.layer.1.output.dense.bias").unwrap();
        tensors.insert("bert.encoder.layer.1.output.dance.bias".into(), tensor);
    }) => ["model.safetensors: tensor 'bert.encoder.layer.1.output.dense.bias': is missing; names like it: ", "bert.encoder.layer.1.output.dance.bias"];
    wrong_shape: |s| config(s, "intermediate_size", json!(65))
        => ["tensor 'bert.encoder.layer.0.intermediate.dense.weight': has shape [64, 32]; the configuration makes it [65, 32]"];
    wrong_dtype: |s| s.header(|header| header["cls.predictions.bias"]["dtype"] = json!("I32"))
        => ["tensor 'cls.predictions.bias': has dtype I32; F32, F16 and BF16 can be read"];
    weight_that_is_no_number: |s| s.first_value("bert.encoder.layer.2.attention.self.value.weight", f32::NAN)
        => ["tensor 'bert.encoder.layer.2.attention.self.value.weight': the value at [0, 0] is NaN; weights must be finite"];
    endless_weight: |s| s.first_value(TABLE, f32::INFINITY) => ["the value at [0, 0] is inf"];
    headless_checkpoint: |s| s.header(|header| {
        let names: Vec<String> = header.as_object().unwrap().keys().filter(|name| name.starts_with("cls.")).cloned().collect();
        for name in names {
            let tensors = header.as_object_mut().unwrap();
            let tensor = tensors.remove(&name).unwrap();
            tensors.insert(name.replace("cls.", "other."), tensor);
        }
    }) => ["model: this checkpoint has no masked-language-model head", "BertForMaskedLM"];
    shard_that_is_not_there: |s| {
        s.remove(WEIGHTS);
        s.write("model/model.safetensors.index.json", json!({"weight_map": {TABLE: "model-1.safetensors"}}).to_string());
    } => ["cannot read ", "model-1.safetensors: No such file"];
    shard_outside_the_directory: |s| {
        s.remove(WEIGHTS);
        s.write("model/model.safetensors.index.json", json!({"weight_map": {TABLE: "../x.safetensors"}}).to_string());
    } => ["is not the plain name of a .safetensors file"];

    missing_tokenizer: |s| s.remove(TOKENIZER) => ["model: the tokenizer is missing (tokenizer.json, or vocab.txt, or vocab.json with merges.txt)"];
    empty_tokenizer: |s| s.write(TOKENIZER, "") => ["tokenizer.json: this is not a tokenizer"];
    tokenizer_that_makes_its_library_panic: |s| s.json(TOKENIZER, |file| {
        file["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0});
    }) => ["tokenizer.json: ", "makes no sense"];
    tokenizer_larger_than_the_table: |s| s.json(TOKENIZER, |file| file["model"]["vocab"]["zzz"] = json!(139))
        => ["tokenizer.json: the tokenizer has 140 tokens, but config.json says vocab_size 139"];
    tokenizer_without_a_mask: |s| s.json("model/tokenizer_config.json", |file| file["mask_token"] = json!("<gap>"))
        => ["this model's tokenizer has no mask token", "^"];
    tokenizer_settings_that_are_no_json: |s| s.write("model/tokenizer_config.json", "{")
        => ["tokenizer_config.json: this is not valid JSON"];
}

/// To open a pipe that nobody writes to would wait for ever.
#[test]
#[cfg(unix)]
fn a_pipe_for_weights_is_refused() {
    let scene = Scene::new();
    scene.remove(WEIGHTS);
    let made = std::process::Command::new("mkfifo").arg(scene.path(WEIGHTS)).status().unwrap();
    assert!(made.success());
    scene.refused(&["train", "run.toml", "--out", "out"], &["model.safetensors: is not a file"]);
}

/// Finite weights can still overflow; metrics of such answers would be made up.
#[test]
fn answers_that_are_not_finite_are_no_answers() {
    let scene = Scene::new();
    scene.first_value("bert.embeddings.LayerNorm.weight", f32::MAX);
    scene.first_value("bert.embeddings.LayerNorm.bias", f32::MAX);
    let said = scene.run(&["train", "run.toml", "--out", "out"]);
    assert_eq!((said.status, said.out.as_str()), (Some(1), ""));
    assert!(said.err.contains("answers are not finite numbers"), "{}", said.err);
}
