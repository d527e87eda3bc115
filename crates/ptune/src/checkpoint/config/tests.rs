//! Wrong configurations get a sentence with the file and the key; they never panic and are never guessed at.

use std::fs;

use super::Config;

fn config(text: &str) -> crate::Result<Config> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    fs::write(&file, text).unwrap();
    Config::open(&file)
}

/// Checks that an error names the file, the key, and says `wanted`.
fn assert_says<T: std::fmt::Debug>(result: crate::Result<T>, key: &str, wanted: &str) {
    let message = result.unwrap_err().to_string();
    for part in ["config.json", key, wanted] {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

#[test]
fn values_come_back_with_their_types() {
    let config = config(
        r#"{"model_type": "bert", "hidden_size": 384, "layer_norm_eps": 1e-12, "tie": true, "none": null,
            "architectures": ["BertForMaskedLM"], "pad_token_id": 0}"#,
    )
    .unwrap();
    assert_eq!(config.model_type().unwrap(), "bert");
    assert_eq!(config.usize("hidden_size").unwrap(), 384);
    assert_eq!(config.usize_in("pad_token_id", 0..=10).unwrap(), 0);
    assert_eq!(config.f32("layer_norm_eps").unwrap(), 1e-12);
    assert!(config.bool_or("tie", false).unwrap());
    assert!(config.bool_or("absent", true).unwrap());
    assert_eq!(config.optional_strings("architectures").unwrap(), Some(vec!["BertForMaskedLM"]));
    assert_eq!(config.optional_str("none").unwrap(), None, "null counts as absent");
    assert_eq!(config.optional_usize("absent").unwrap(), None);
    assert_eq!(config.optional_f32("hidden_size").unwrap(), Some(384.0), "a whole number is a number");
    assert!(config.contains("tie") && !config.contains("none"));
}

#[test]
fn a_missing_key_is_named() {
    let config = config(r#"{"hidden_size": null}"#).unwrap();
    assert_says(config.usize("hidden_size"), "hidden_size", "is missing; a whole number");
    assert_says(config.f32("layer_norm_eps"), "layer_norm_eps", "is missing");
    assert_says(config.model_type(), "model_type", "is missing");
}

#[test]
fn a_wrong_type_is_named() {
    let config = config(r#"{"a": "384", "b": 1, "c": [1], "d": "yes", "e": 1.5}"#).unwrap();
    assert_says(config.usize("a"), "a", "\"384\" is not a whole number");
    assert_says(config.usize("e"), "e", "1.5 is not a whole number");
    assert_says(config.str("b"), "b", "1 is not a text");
    assert_says(config.optional_strings("c"), "c", "[1] is not a list of texts");
    assert_says(config.bool_or("d", true), "d", "true or false");
    assert_says(config.f32("a"), "a", "is not a number");
}

#[test]
fn a_negative_zero_or_absurd_size_is_refused() {
    let config = config(r#"{"a": -1, "b": 0, "c": 16777217, "d": 18446744073709551616}"#).unwrap();
    for key in ["a", "b", "c", "d"] {
        assert_says(config.usize(key), key, "is not a whole number from 1 to 16777216");
    }
    assert_says(config.usize_in("c", 1..=64), "c", "from 1 to 64");
}

#[test]
fn a_number_beyond_f32_or_nan_is_refused() {
    assert_says(config(r#"{"eps": 1e300}"#).unwrap().f32("eps"), "eps", "range of f32");
    for text in [r#"{"eps": NaN}"#, r#"{"eps": Infinity}"#, r#"{"eps": 1e999}"#] {
        assert_says(config(text), "config.json:1", "not valid JSON");
    }
}

#[test]
fn a_file_that_is_no_json_object_is_refused() {
    assert_says(config(""), "config.json", "is empty");
    assert_says(config(" \n"), "config.json", "is empty");
    assert_says(config("{\n\"a\": }"), "config.json:2", "not valid JSON");
    assert_says(config("[1, 2]"), "config.json", "not a JSON object");
    assert_says(config(&"[".repeat(100_000)), "config.json", "not valid JSON");
}

#[test]
fn a_file_that_is_not_utf8_or_not_there_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    assert_says(Config::open(&file), "config.json", "cannot read");
    fs::create_dir(&file).unwrap();
    assert_says(Config::open(&file), "config.json", "cannot read");
    fs::remove_dir(&file).unwrap();
    fs::write(&file, b"{\"a\":\n \"\xff\"}").unwrap();
    assert_says(Config::open(&file), "config.json:2", "UTF-8");
}

#[test]
fn a_long_wrong_value_is_cut_in_the_message() {
    let long = "가".repeat(10_000);
    let config = config(&format!(r#"{{"a": "{long}"}}"#)).unwrap();
    assert!(config.usize("a").unwrap_err().to_string().len() < 500);
}
