//! `config.json` as checked JSON: typed getters whose errors name the file and the key.
//!
//! Numbers are bounded when they are read, so that nothing computed from them can overflow or ask for absurd memory.
//! `null` counts as absent, as transformers writes it. Which keys a family needs, and which values it can run, is
//! checked by that family, not here.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files;

/// A configuration is a few kilobytes; label maps of large classifiers reach some hundred.
const LARGEST_FILE: u64 = 16 << 20;
/// Sizes beyond this (16,777,216) are no width, depth or vocabulary of any model.
const LARGEST_SIZE: usize = 1 << 24;
/// How much of a wrong value an error message repeats.
const SHOWN_CHARACTERS: usize = 60;

/// The object in a `config.json`.
#[derive(Debug, Clone)]
pub struct Config {
    file: PathBuf,
    values: Map<String, Value>,
    /// What messages put before a key: the object that it stands in.
    prefix: String,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// A file that cannot be read, is empty, is no JSON (Python's `NaN` and `Infinity` are none), or is no object.
    pub fn open(file: &Path) -> Result<Self> {
        let text = files::read_text(file, LARGEST_FILE)?;
        if text.trim().is_empty() {
            return Err(Error::file(file, "is empty; a JSON object was expected"));
        }
        match serde_json::from_str(&text) {
            Ok(Value::Object(values)) => Ok(Config { file: file.into(), values, prefix: String::new() }),
            Ok(_) => Err(Error::file(file, "is not a JSON object ({\"key\": value, ...})")),
            Err(wrong) => Err(Error::line(file, wrong.line().max(1), format!("not valid JSON: {wrong}"))),
        }
    }

    /// The file it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// An object within this one; empty where it is absent.
    ///
    /// # Errors
    /// When it is there and no object.
    pub fn object(&self, key: &str) -> Result<Config> {
        let values = self.typed(key, "an object", Value::as_object)?.cloned().unwrap_or_default();
        Ok(Config { file: self.file.clone(), values, prefix: format!("{}{key}.", self.prefix) })
    }

    /// Whether a key is there, be it with `null`: not the same where a family's default is another value.
    pub fn mentions(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Whether a key has a value other than `null`.
    pub fn contains(&self, key: &str) -> bool {
        self.present(key).is_some()
    }

    /// The family, `model_type`.
    ///
    /// # Errors
    /// When it is missing or no text.
    pub fn model_type(&self) -> Result<&str> {
        self.str("model_type")
    }

    /// A text.
    ///
    /// # Errors
    /// When it is missing or no text.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.optional_str(key)?.ok_or_else(|| self.missing(key, "a text"))
    }

    /// A text that may be absent.
    ///
    /// # Errors
    /// When it is there and no text.
    pub fn optional_str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", Value::as_str)
    }

    /// A list of texts that may be absent, such as `architectures`.
    ///
    /// # Errors
    /// When it is there and no list of texts.
    pub fn optional_strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.typed(key, "a list of texts", |value| value.as_array()?.iter().map(Value::as_str).collect())
    }

    /// A size: a whole number from 1 to 16,777,216.
    ///
    /// # Errors
    /// When it is missing, no whole number, or out of range.
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.usize_in(key, 1..=LARGEST_SIZE)
    }

    /// A whole number within a range.
    ///
    /// # Errors
    /// When it is missing, no whole number, or out of range.
    pub fn usize_in(&self, key: &str, range: RangeInclusive<usize>) -> Result<usize> {
        self.optional_usize_in(key, range.clone())?.ok_or_else(|| self.missing(key, &whole_number(&range)))
    }

    /// A size that may be absent.
    ///
    /// # Errors
    /// When it is there and no whole number from 1 to 16,777,216.
    pub fn optional_usize(&self, key: &str) -> Result<Option<usize>> {
        self.optional_usize_in(key, 1..=LARGEST_SIZE)
    }

    /// A whole number within a range, that may be absent.
    ///
    /// # Errors
    /// When it is there and no whole number of that range.
    pub fn optional_usize_in(&self, key: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        self.typed(key, &whole_number(&range), |value| {
            usize::try_from(value.as_u64()?).ok().filter(|number| range.contains(number))
        })
    }

    /// A number, finite as f32.
    ///
    /// # Errors
    /// When it is missing, no number, or too large for f32.
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.optional_f32(key)?.ok_or_else(|| self.missing(key, "a number"))
    }

    /// A number, finite as f32, that may be absent.
    ///
    /// # Errors
    /// When it is there and no number, or too large for f32.
    pub fn optional_f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a number within the range of f32", |value| {
            Some(value.as_f64()? as f32).filter(|number| number.is_finite())
        })
    }

    /// `true` or `false`, with a default for an absent key.
    ///
    /// # Errors
    /// When it is there and neither.
    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.optional_bool(key)?.unwrap_or(default))
    }

    /// `true` or `false`, that may be absent.
    ///
    /// # Errors
    /// When it is there and neither.
    pub fn optional_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// An error about a key of this file, for the checks of a model family.
    pub fn error(&self, key: &str, message: impl Into<String>) -> Error {
        Error::key(&self.file, format!("{}{key}", self.prefix), message)
    }

    /// A value that is there and not `null`.
    fn present(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Converts a value that is there, or says what it should have been.
    fn typed<'a, T>(&'a self, key: &str, wanted: &str, convert: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.present(key) else { return Ok(None) };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(self.error(key, format!("{} is not {wanted}", shown(value)))),
        }
    }

    fn missing(&self, key: &str, wanted: &str) -> Error {
        self.error(key, format!("is missing; {wanted} was expected"))
    }
}

/// What is wanted, in words.
fn whole_number(range: &RangeInclusive<usize>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}

/// A wrong value as it stands in the file, cut where it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests;
