//! A whole model directory: what is missing is said, and the fingerprint notices every change that matters.

use std::fs;
use std::path::Path;

use super::ModelDirectory;
use super::weights::tests::safetensors;

const TABLE: &str = "embeddings.weight";

/// A complete, tiny directory.
fn write_model(directory: &Path) {
    fs::write(directory.join("config.json"), r#"{"model_type": "bert", "hidden_size": 2}"#).unwrap();
    fs::write(directory.join("vocab.txt"), "[PAD]\n[UNK]\n").unwrap();
    fs::write(directory.join("model.safetensors"), weights([1.0, 2.0, 3.0, 4.0], 0.5)).unwrap();
}

fn weights(table: [f32; 4], other: f32) -> Vec<u8> {
    let header = r#"{"embeddings.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},
                     "other":{"dtype":"F32","shape":[1],"data_offsets":[16,20]}}"#;
    let values: Vec<u8> = table.iter().chain([&other]).flat_map(|value| value.to_le_bytes()).collect();
    safetensors(header, &values)
}

fn refusal(directory: &Path) -> String {
    let error = ModelDirectory::open(directory).unwrap_err();
    assert!(error.is_request(), "a wrong model directory is a wrong request: {error}");
    error.to_string()
}

#[test]
fn a_complete_directory_opens_and_gives_its_parts() {
    let directory = tempfile::tempdir().unwrap();
    write_model(directory.path());
    let model = ModelDirectory::open(directory.path()).unwrap();
    assert_eq!(model.path(), directory.path());
    assert_eq!(model.config().model_type().unwrap(), "bert");
    assert_eq!(model.weights().names().collect::<Vec<_>>(), [TABLE, "other"]);
}

#[test]
fn what_is_missing_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert!(refusal(&path.join("nowhere")).contains("no such directory"));
    assert!(refusal(path).contains("no config.json"));
    fs::write(path.join("config.json"), "{}").unwrap();
    assert!(refusal(&path.join("config.json")).contains("not a directory"));
    assert!(refusal(path).contains("model.safetensors"));
    fs::write(path.join("pytorch_model.bin"), "pickle").unwrap();
    let message = refusal(path);
    assert!(message.contains("from_pretrained") && message.contains("save_pretrained"), "no way to convert: {message}");
}

#[test]
fn the_fingerprint_changes_with_config_tokenizer_header_and_embedding_table_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write_model(path);
    let fingerprint = || ModelDirectory::open(path).unwrap().fingerprint(TABLE).unwrap();
    let original = fingerprint();
    assert_eq!(original.len(), 64);
    assert_eq!(original, fingerprint(), "the same files must give the same fingerprint");

    fs::write(path.join("model.safetensors"), weights([1.0, 2.0, 3.0, 4.0], 0.25)).unwrap();
    assert_eq!(original, fingerprint(), "only the embedding table's bytes count");
    fs::write(path.join("model.safetensors"), weights([1.0, 2.0, 3.0, 4.5], 0.5)).unwrap();
    assert_ne!(original, fingerprint(), "another embedding table is another base");
    write_model(path);
    fs::write(path.join("vocab.txt"), "[PAD]\n[UNK]\nthe\n").unwrap();
    assert_ne!(original, fingerprint(), "another tokenizer is another base");
    write_model(path);
    fs::write(path.join("tokenizer_config.json"), r#"{"do_lower_case": false}"#).unwrap();
    assert_ne!(original, fingerprint(), "a vocab.txt is read with tokenizer_config.json");
    fs::write(path.join("tokenizer.json"), "{}").unwrap();
    let with_json = fingerprint();
    fs::remove_file(path.join("tokenizer_config.json")).unwrap();
    assert_eq!(with_json, fingerprint(), "a tokenizer.json is read alone");
    assert_ne!(original, fingerprint(), "tokenizer.json is used before vocab.txt");
    fs::remove_file(path.join("tokenizer.json")).unwrap();
    fs::write(path.join("config.json"), r#"{"model_type": "bert", "hidden_size": 3}"#).unwrap();
    assert_ne!(original, fingerprint(), "another configuration is another base");
    write_model(path);
    assert_eq!(original, fingerprint());
}

#[test]
fn a_fingerprint_without_tokenizer_or_table_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    write_model(directory.path());
    let model = ModelDirectory::open(directory.path()).unwrap();
    assert!(model.fingerprint("embedding.weight").unwrap_err().to_string().contains(TABLE));
    fs::remove_file(directory.path().join("vocab.txt")).unwrap();
    assert!(model.fingerprint(TABLE).unwrap_err().to_string().contains("vocab.txt"));
}
