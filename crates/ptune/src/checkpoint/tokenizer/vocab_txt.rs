//! `vocab.txt`, as BERT wrote it: one token a line, the id is the line's index (of equal lines the last counts).
//!
//! Normaliser and pre-tokeniser are BERT's, with `do_lower_case` (default true), `tokenize_chinese_chars` (true) and
//! `strip_accents` (as lower case) of `tokenizer_config.json`: the defaults of transformers 5.23,
//! `models/bert/tokenization_bert.py`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::LARGEST_FILE;
use crate::checkpoint::special_tokens::token_name;
use crate::{Error, Result, files};

/// BERT's pipeline over a `vocab.txt`.
pub(super) fn bert_tokenizer(file: &Path, settings: &Map<String, Value>) -> Result<tokenizers::Tokenizer> {
    let bytes = files::read_bytes(file, LARGEST_FILE)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::file(file, "this is not UTF-8 text, one token a line"))?;
    let mut vocab = Map::new();
    for (id, line) in text.lines().enumerate() {
        vocab.insert(line.to_string(), json!(id));
    }
    let unk = settings.get("unk_token").and_then(token_name).unwrap_or("[UNK]");
    if !vocab.contains_key(unk) {
        return Err(Error::file(file, format!("the vocabulary lacks the unknown token '{unk}'")));
    }
    let flag = |key: &str, default: Value| match settings.get(key) {
        Some(value @ (Value::Bool(_) | Value::Null)) => Ok(if value.is_null() { default } else { value.clone() }),
        Some(_) => Err(Error::key(&file.with_file_name("tokenizer_config.json"), key, "this should be true or false")),
        None => Ok(default),
    };
    let description = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "post_processor": null, "decoder": null,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": flag("tokenize_chinese_chars", json!(true))?,
            "strip_accents": flag("strip_accents", Value::Null)?,
            "lowercase": flag("do_lower_case", json!(true))?,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "model": {
            "type": "WordPiece", "unk_token": unk, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    });
    serde_json::from_value(description).map_err(|e| Error::file(file, format!("this vocabulary cannot be used: {e}")))
}
