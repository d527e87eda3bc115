//! The special tokens of a checkpoint: which names stand for mask, separator, class, padding, unknown, begin and end.
//!
//! Sources, in order: `tokenizer_config.json`, `special_tokens_map.json` (a name is a string or an object with
//! `content`, as transformers writes them), then the names that vocabularies of BERT, RoBERTa, GPT-2 and SentencePiece usually use.
//! A name that the vocabulary lacks counts as absent: this release adds no token to a vocabulary.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result, files};

/// Settings are a few kilobytes; the tables of added tokens that some carry reach a megabyte.
const LARGEST_FILE: u64 = 16 << 20;

/// Ids of the special tokens; `None` where the checkpoint has none of that role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `[MASK]`, `<mask>`.
    pub mask: Option<u32>,
    /// `[CLS]`, `<s>`.
    pub cls: Option<u32>,
    /// `[SEP]`, `</s>`.
    pub sep: Option<u32>,
    /// `[PAD]`, `<pad>`.
    pub pad: Option<u32>,
    /// `[UNK]`, `<unk>`.
    pub unk: Option<u32>,
    /// The begin-of-text token of families that have one.
    pub bos: Option<u32>,
    /// The end-of-text token of families that have one.
    pub eos: Option<u32>,
}

impl SpecialTokens {
    /// The roles by their names, each with its id.
    pub fn roles(&self) -> [(&'static str, Option<u32>); 7] {
        let SpecialTokens { mask, cls, sep, pad, unk, bos, eos } = *self;
        [("mask", mask), ("cls", cls), ("sep", sep), ("pad", pad), ("unk", unk), ("bos", bos), ("eos", eos)]
    }

    /// Looks every role up; `id_of` is the vocabulary, `settings` the files of [`read_settings`], the first one first.
    pub(crate) fn find(settings: &[Map<String, Value>], id_of: impl Fn(&str) -> Option<u32>) -> Self {
        let role = |key: &str, usual: &[&str]| {
            let named = settings.iter().find_map(|file| token_name(file.get(key)?));
            match named {
                Some(name) => id_of(name),
                None => usual.iter().find_map(|name| id_of(name)),
            }
        };
        SpecialTokens {
            mask: role("mask_token", &["[MASK]", "<mask>"]),
            cls: role("cls_token", &["[CLS]", "<s>"]),
            sep: role("sep_token", &["[SEP]", "</s>"]),
            pad: role("pad_token", &["[PAD]", "<pad>"]),
            unk: role("unk_token", &["[UNK]", "<unk>"]),
            bos: role("bos_token", &["<s>", "<|endoftext|>"]),
            eos: role("eos_token", &["</s>", "<|endoftext|>"]),
        }
    }
}

/// `tokenizer_config.json` and `special_tokens_map.json` of `model_dir`, an empty map where one is missing.
pub(crate) fn read_settings(model_dir: &Path) -> Result<[Map<String, Value>; 2]> {
    Ok([
        read_object(&model_dir.join("tokenizer_config.json"))?,
        read_object(&model_dir.join("special_tokens_map.json"))?,
    ])
}

fn read_object(file: &Path) -> Result<Map<String, Value>> {
    let bytes = match files::read_bytes(file, LARGEST_FILE) {
        Ok(bytes) => bytes,
        Err(Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(error),
    };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::file(file, "this should be a JSON object of tokenizer settings")),
        Err(e) => Err(Error::file(file, format!("this is not valid JSON: {e}"))),
    }
}

/// A name is `"[MASK]"` or `{"content": "[MASK]", ...}`.
pub(crate) fn token_name(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_name_wins_over_the_usual_ones_and_both_spellings_are_read() {
        let settings: Map<String, Value> =
            serde_json::from_str(r#"{"mask_token": {"content": "<gap>"}, "sep_token": "[END]"}"#).unwrap();
        let vocabulary = ["[MASK]", "<gap>", "[SEP]", "[CLS]"];
        let found =
            SpecialTokens::find(&[settings, Map::new()], |t| vocabulary.iter().position(|v| *v == t).map(|i| i as u32));
        assert_eq!(found.mask, Some(1));
        assert_eq!(found.sep, None, "a configured name outside the vocabulary must not fall back to another token");
        assert_eq!(found.cls, Some(3));
        assert_eq!(found.eos, None);
    }
}
