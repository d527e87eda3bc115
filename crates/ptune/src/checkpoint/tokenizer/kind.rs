//! How a tokenizer marks the start of a word, read off its normaliser and pre-tokeniser, and the variants of that
//! pipeline which encode a text that does not start a word.

use serde_json::{Value, json};
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;

/// SentencePiece's visible space.
pub(super) const METASPACE: char = '▁';

/// How a tokenizer marks the start of a word, and what it takes to encode a text that does not start one.
#[derive(Debug)]
pub(super) enum Kind {
    WordPiece {
        prefix: String,
        max_chars: usize,
    },
    /// `joined`: the pre-tokeniser without `add_prefix_space`.
    ByteLevel {
        joined: Option<Box<PreTokenizerWrapper>>,
    },
    /// `joined_*`: the pipeline that prepends nothing; `prepends`: whether the original one does; `splits`: whether
    /// white space is gone before the pieces are marked, so that only the first word may run through `joined_*`.
    Metaspace {
        joined_normalizer: Option<Box<NormalizerWrapper>>,
        joined: Option<Box<PreTokenizerWrapper>>,
        prepends: bool,
        splits: bool,
    },
    /// Words carry no mark at their start (BPE with `</w>`, word-level).
    Unmarked,
}

impl Kind {
    /// Reads the kind off the pipeline, and prepares the variants that encode a glued text.
    pub(super) fn of(inner: &tokenizers::Tokenizer) -> std::result::Result<Kind, String> {
        let as_json = |e: serde_json::Error| e.to_string();
        let normalizer = serde_json::to_value(inner.get_normalizer()).map_err(as_json)?;
        let pre_tokenizer = serde_json::to_value(inner.get_pre_tokenizer()).map_err(as_json)?;
        let (normalizers, pre_tokenizers) = (steps(&normalizer), steps(&pre_tokenizer));
        if let ModelWrapper::WordPiece(model) = inner.get_model() {
            let prefix = model.continuing_subword_prefix.clone();
            return Ok(Kind::WordPiece { prefix, max_chars: model.max_input_chars_per_word });
        }
        let has = |steps: &[&Value], name: &str| steps.iter().any(|step| step["type"] == name);
        if has(&pre_tokenizers, "ByteLevel") || has(&normalizers, "ByteLevel") {
            let joined = edited(&pre_tokenizer, &|step| {
                if step["type"] == "ByteLevel" {
                    step["add_prefix_space"] = json!(false);
                }
                true
            });
            return Ok(Kind::ByteLevel { joined: serde_json::from_value(joined).map_err(as_json)? });
        }
        let marks = normalizers.iter().any(|step| step["content"] == METASPACE.to_string());
        let scheme = pre_tokenizers.iter().find(|step| step["type"] == "Metaspace").map(|step| &step["prepend_scheme"]);
        if !marks && scheme.is_none() {
            return Ok(Kind::Unmarked);
        }
        let joined_normalizer = edited(&normalizer, &|step| step["type"] != "Prepend");
        let joined = edited(&pre_tokenizer, &|step| {
            if step["type"] == "Metaspace" {
                step["prepend_scheme"] = json!("never");
            }
            true
        });
        Ok(Kind::Metaspace {
            joined_normalizer: serde_json::from_value(joined_normalizer).map_err(as_json)?,
            joined: serde_json::from_value(joined).map_err(as_json)?,
            prepends: has(&normalizers, "Prepend") || scheme.is_some_and(|scheme| scheme != "never"),
            splits: has(&pre_tokenizers, "WhitespaceSplit") || has(&pre_tokenizers, "Whitespace"),
        })
    }
}

/// The steps of a normaliser or pre-tokeniser, nested sequences flattened.
fn steps(pipeline: &Value) -> Vec<&Value> {
    let children = pipeline.get("normalizers").or_else(|| pipeline.get("pretokenizers")).and_then(Value::as_array);
    match children {
        Some(children) => children.iter().flat_map(steps).collect(),
        None => vec![pipeline],
    }
}

/// A copy of a pipeline after `edit` of each step; a step for which it says false is left out.
fn edited(pipeline: &Value, edit: &dyn Fn(&mut Value) -> bool) -> Value {
    let mut copy = pipeline.clone();
    for key in ["normalizers", "pretokenizers"] {
        if let Some(children) = copy.get_mut(key).and_then(Value::as_array_mut) {
            *children = children.iter().map(|child| edited(child, edit)).filter(|child| !child.is_null()).collect();
            return copy;
        }
    }
    if !copy.is_object() || edit(&mut copy) { copy } else { Value::Null }
}
