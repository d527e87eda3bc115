//! Probing: the candidate vocabulary, and the gold answer of an example.
//!
//! A vocabulary file is a JSON list of words, a text file with a word a line, or a JSON object of lists (LAMA's
//! `{"bert-base-cased": [...], ...}`), from which a key picks one. Words that are not one token of this tokenizer are
//! dropped and counted; words that become the same token (an uncased tokenizer) are merged and counted.

use std::path::Path;

use serde_json::Value;

use super::template::listed;
use crate::checkpoint::{Glue, Tokenizer};
use crate::{Error, Result, files};

/// A million words, in several lists.
const LARGEST_FILE: u64 = 64 << 20;

/// The tokens among which an answer is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    tokens: Vec<u32>,
    /// Words of the file that are not one token of the tokenizer.
    pub dropped: usize,
    /// Words of the file whose token another word has already given.
    pub merged: usize,
}

impl Vocabulary {
    /// Reads a vocabulary file; `key` picks a list of an object; `glue` is [`super::Template::answer_glue`].
    ///
    /// Errors: a file that cannot be read, malformed JSON, an entry that is no text, a missing or needless key, no word
    /// left.
    pub fn read(file: &Path, key: Option<&str>, tokenizer: &Tokenizer, glue: Glue) -> Result<Vocabulary> {
        let words = read_words(file, key)?;
        let vocabulary = Vocabulary::from_words(words.iter().map(String::as_str), tokenizer, glue)?;
        if vocabulary.tokens.is_empty() {
            let message = format!("none of its {} words is one token of this model's tokenizer", words.len());
            return Err(Error::file(file, message));
        }
        Ok(vocabulary)
    }

    /// The vocabulary of `words`.
    ///
    /// Errors: the tokenizer fails.
    pub fn from_words<'a>(
        words: impl IntoIterator<Item = &'a str>,
        tokenizer: &Tokenizer,
        glue: Glue,
    ) -> Result<Vocabulary> {
        let (mut tokens, mut dropped) = (Vec::new(), 0);
        for word in words {
            match tokenizer.single_token(word, glue)? {
                Some(token) => tokens.push(token),
                None => dropped += 1,
            }
        }
        let all = tokens.len();
        tokens.sort_unstable();
        tokens.dedup();
        Ok(Vocabulary { merged: all - tokens.len(), tokens, dropped })
    }

    /// The vocabulary of token ids, which are ascending and distinct.
    pub fn from_tokens(tokens: Vec<u32>) -> Vocabulary {
        debug_assert!(tokens.is_sorted_by(|a, b| a < b));
        Vocabulary { tokens, dropped: 0, merged: 0 }
    }

    /// The distinct token ids, ascending.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The column of `token` among [`Vocabulary::tokens`].
    pub fn column(&self, token: u32) -> Option<usize> {
        self.tokens.binary_search(&token).ok()
    }
}

/// The token of a gold answer, or `None` when the example is to be dropped: its answer is not in the vocabulary.
///
/// Errors: a sentence about an answer that is not one token, where no vocabulary says which answers count.
pub fn gold_token(
    vocabulary: Option<&Vocabulary>,
    tokenizer: &Tokenizer,
    glue: Glue,
    answer: &str,
) -> std::result::Result<Option<u32>, String> {
    let token = tokenizer.single_token(answer, glue).map_err(|e| e.to_string())?;
    match (vocabulary, token) {
        (Some(vocabulary), token) => Ok(token.filter(|token| vocabulary.column(*token).is_some())),
        (None, Some(token)) => Ok(Some(token)),
        (None, None) => {
            let tokens = tokenizer.encode(answer, glue).map_err(|e| e.to_string())?;
            Err(format!(
                "the answer '{answer}' is not one token of this model ({}); leave the row out, or give a \
                 vocabulary: then such rows are dropped and counted",
                tokenizer.shown_tokens(&tokens)
            ))
        }
    }
}

/// The words of a file, in the forms that a vocabulary file has; `key` picks a list of an object.
///
/// # Errors
/// As [`Vocabulary::read`].
pub(crate) fn read_words(file: &Path, key: Option<&str>) -> Result<Vec<String>> {
    let bytes = files::read_bytes(file, LARGEST_FILE)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::file(file, "this is not UTF-8 text"))?;
    let text = text.trim_start_matches('\u{feff}');
    let looks_like_json = text.trim_start().starts_with(['[', '{']);
    let named_json = file.extension().is_some_and(|extension| extension == "json");
    let list = match serde_json::from_str::<Value>(text) {
        Ok(list @ (Value::Array(_) | Value::Object(_))) if looks_like_json => list,
        Err(e) if named_json => return Err(Error::file(file, format!("this is not valid JSON: {e}"))),
        Ok(_) if named_json => return Err(Error::file(file, "this should be a JSON list of words")),
        _ if key.is_some() => return Err(Error::file(file, NO_KEYS)),
        _ => {
            return Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect());
        }
    };
    let list = match (list, key) {
        (Value::Object(lists), Some(key)) => match lists.get(key) {
            Some(list) => list.clone(),
            None => {
                let message = format!("there is no list '{key}'; its lists are {}", key_list(&lists));
                return Err(Error::file(file, message));
            }
        },
        (Value::Object(lists), None) => {
            let message = format!("this holds several lists: vocabulary_key should be one of {}", key_list(&lists));
            return Err(Error::file(file, message));
        }
        (_, Some(_)) => return Err(Error::file(file, NO_KEYS)),
        (list, None) => list,
    };
    let Value::Array(entries) = list else {
        return Err(Error::file(file, "this should be a list of words"));
    };
    let word = |(i, entry)| match entry {
        Value::String(word) => Ok(word),
        other => Err(Error::file(file, format!("entry {} of the list should be a word, not {other}", i + 1))),
    };
    entries.into_iter().enumerate().map(word).collect()
}

const NO_KEYS: &str = "this is one list of words, so vocabulary_key has nothing to choose: leave it out";

fn key_list(lists: &serde_json::Map<String, Value>) -> String {
    listed(&lists.keys().map(String::as_str).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
