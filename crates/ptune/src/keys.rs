//! Strict TOML files: every key must be known, a mistake has its line and the closest key, and `--set key=value` counts as
//! if it stood in the file.
//!
//! Which keys there are is asked of the type itself (one with every key set, written as TOML), so no second list can
//! fall behind. What values mean is not known here; the functions at the end check ranges, and what they find carries
//! its key.

use std::fmt::Display;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::{files, spelling};

/// A verbalizer with thousands of labels is below this.
const LARGEST_FILE: u64 = 16 << 20;
/// The only table, in any of the files, whose keys are the user's own: it is one value.
const OWN_TABLE: &str = "task.verbalizer";

/// The keys of a kind of file.
pub(crate) struct Keys {
    /// All of them, dotted.
    pub(crate) known: Vec<String>,
    /// What is wrong with a key, or with a text as its value: something that is designed but not built.
    pub(crate) later: fn(&str, Option<&str>) -> Option<String>,
}

impl Keys {
    /// The keys of a type, from a value of it with every key set.
    ///
    /// # Errors
    /// None that a user could cause.
    pub(crate) fn of(every_key: &impl Serialize) -> Result<Keys> {
        let table = Table::try_from(every_key)
            .map_err(|wrong| Error::Failed(format!("the keys of a run file cannot be listed: {wrong}")))?;
        let known = leaves(&table).into_iter().map(|(key, _)| key).collect();
        Ok(Keys { known, later: |_, _| None })
    }

    /// Reads a file and applies overrides to it. Only syntax, keys and types are checked. `train.steps` and `train.epochs`
    /// replace each other.
    ///
    /// # Errors
    /// Syntax and unknown keys with the file, the line and the closest key; a wrong type with its key; a wrong override
    /// by its key.
    pub(crate) fn read<T: DeserializeOwned>(&self, path: &Path, overrides: &[(String, String)]) -> Result<T> {
        let text = files::read_text(path, LARGEST_FILE)?;
        let parsed = self.parse(path, &text)?;
        if overrides.is_empty() {
            return Ok(parsed);
        }
        let table = toml::from_str(&text).map_err(|wrong| at_line(path, &text, &wrong))?;
        self.overridden(table, overrides)
    }

    /// Parses the text alone, without overrides, so that errors have a line.
    fn parse<T: DeserializeOwned>(&self, path: &Path, text: &str) -> Result<T> {
        let document = DeTable::parse(text).map_err(|wrong| at_line(path, text, &wrong))?;
        let mut spans = Vec::new();
        list_spans(document.get_ref(), "", &mut spans);
        for (key, value, span) in &spans {
            if let Some(message) = self.objection(key, value.as_deref()) {
                return Err(Error::line(path, line_of(text, span.start), message));
            }
        }
        toml::from_str(text).map_err(|wrong| {
            let at = wrong.span().map_or(0, |span| span.start);
            // The error knows where it is but not the name of the key there: the innermost key around it.
            let key = spans.iter().rfind(|(_, _, span)| span.contains(&at)).map(|(key, _, _)| format!("{key}: "));
            Error::line(path, line_of(text, at), format!("{}{}", key.unwrap_or_default(), plain(wrong.message())))
        })
    }

    /// Applies overrides to a parsed file, one after the other, so that an error is about the one that caused it.
    fn overridden<T: DeserializeOwned>(&self, mut table: Table, overrides: &[(String, String)]) -> Result<T> {
        let mut config = None;
        for (key, value) in overrides {
            let wrong = |message: String| Error::request(format!("--set {key}={value}: {message}"));
            let path =
                split_key(key).ok_or_else(|| wrong(format!("'{key}' is not a dotted key, such as train.steps")))?;
            let value = parse_value(value);
            if let Some(message) = self.objection(&path.join("."), value.as_str()) {
                return Err(wrong(message));
            }
            insert(&mut table, &path, value).map_err(wrong)?;
            config =
                Some(table.clone().try_into().map_err(|refused: toml::de::Error| wrong(plain(refused.message())))?);
        }
        config.ok_or_else(|| Error::request("there are no overrides"))
    }

    /// What is wrong with a key, or with a named value, that this release does not have.
    fn objection(&self, key: &str, value: Option<&str>) -> Option<String> {
        if let Some(message) = (self.later)(key, value) {
            return Some(message);
        }
        let prefix = |table: &str| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
        let is_table = |known: &String| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
        let mut known = self.known.iter();
        let own = self.known.iter().any(|known| known == OWN_TABLE) && prefix(OWN_TABLE);
        if own || known.any(|known| known == key || is_table(known)) {
            return None;
        }
        Some(format!("unknown key '{key}'{}", self.suggestion(key)))
    }

    /// The key that was meant: one spelt alike, or one of the same name in another table.
    fn suggestion(&self, key: &str) -> String {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_string();
        match self.known.iter().find(|known| last(known) == last(key)) {
            Some(elsewhere) => format!("; did you mean '{elsewhere}'?"),
            None => spelling::did_you_mean(key, self.known.iter().map(String::as_str)),
        }
    }
}

/// The values of a table by their dotted keys. A table of the user's own keys is one value.
pub(crate) fn leaves(table: &Table) -> Vec<(String, Value)> {
    fn below(table: &Table, prefix: &str, found: &mut Vec<(String, Value)>) {
        for (key, value) in table {
            let dotted = format!("{prefix}{key}");
            match value {
                Value::Table(inner) if dotted != OWN_TABLE => below(inner, &format!("{dotted}."), found),
                _ => found.push((dotted, value.clone())),
            }
        }
    }
    let mut found = Vec::new();
    below(table, "", &mut found);
    found
}

/// A dotted key, its value if that is a text, and the bytes it takes in the file.
type Span = (String, Option<String>, Range<usize>);

/// The keys of a document, a table before its entries.
fn list_spans(table: &DeTable<'_>, prefix: &str, spans: &mut Vec<Span>) {
    for (key, value) in table.iter() {
        let dotted = format!("{prefix}{}", key.get_ref());
        let range = key.span().start..value.span().end.max(key.span().end);
        spans.push((dotted.clone(), value.get_ref().as_str().map(String::from), range));
        if let DeValue::Table(inner) = value.get_ref() {
            list_spans(inner, &format!("{dotted}."), spans);
        }
    }
}

/// The parts of a dotted key, where parts may be quoted as in TOML: `task.verbalizer."not sure"`.
fn split_key(key: &str) -> Option<Vec<String>> {
    // The key is parsed as part of a line; it must not end that line.
    if key.contains(['=', '\n', '\r']) {
        return None;
    }
    let mut table: Table = toml::from_str(&format!("{key} = 0")).ok()?;
    let mut path = Vec::new();
    loop {
        let (part, value) = table.into_iter().next()?;
        path.push(part);
        match value {
            Value::Table(inner) if inner.len() == 1 => table = inner,
            Value::Integer(_) => return Some(path),
            _ => return None,
        }
    }
}

/// A value as TOML, or the text itself where it is none: `--set data.train=a.jsonl` needs no quotes.
fn parse_value(text: &str) -> Value {
    let parsed: Option<Table> = toml::from_str(&format!("value = {text}")).ok();
    let only = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    only.unwrap_or_else(|| Value::String(text.into()))
}

/// A message of the TOML library in the words of a run file: the names of our types say nothing to its author.
fn plain(message: &str) -> String {
    let (what, wanted) = message.rsplit_once("expected ").unwrap_or((message, ""));
    let wanted = match wanted {
        "usize" | "u64" => "a whole number",
        "f64" => "a number",
        "a boolean" => "true or false",
        "path string" | "a string" => "a text",
        "string only" => "a text",
        "a sequence" => "a list",
        _ if wanted.starts_with("struct ") => "a table of keys",
        _ => return message.into(),
    };
    format!("{what}expected {wanted}")
}

/// Puts a value at a path, making the tables on the way.
fn insert(table: &mut Table, path: &[String], value: Value) -> std::result::Result<(), String> {
    let Some((last, tables)) = path.split_last() else { return Err("the key is empty".into()) };
    let mut inner = table;
    for part in tables {
        let entry = inner.entry(part.clone()).or_insert_with(|| Value::Table(Table::new()));
        inner = entry.as_table_mut().ok_or_else(|| format!("'{part}' is not a table in the file"))?;
    }
    if tables == ["train"] {
        match last.as_str() {
            "steps" => drop(inner.remove("epochs")),
            "epochs" => drop(inner.remove("steps")),
            _ => {}
        }
    }
    inner.insert(last.clone(), value);
    Ok(())
}

/// A syntax error with its line.
fn at_line(path: &Path, text: &str, wrong: &toml::de::Error) -> Error {
    let at = wrong.span().map_or(0, |span| span.start);
    Error::line(path, line_of(text, at), format!("not valid TOML: {}", wrong.message()))
}

/// The line of a byte offset, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// Nothing, or the key and what is wrong with it.
pub(crate) type Checked = std::result::Result<(), (String, String)>;

/// Finds a key wrong unless something holds.
pub(crate) fn check(holds: bool, key: &str, message: impl Into<String>) -> Checked {
    if holds { Ok(()) } else { Err((key.into(), message.into())) }
}

/// A key that must be there.
pub(crate) fn required(key: &str, given: bool, wanted: &str) -> Checked {
    check(given, key, format!("is missing; it is {wanted}"))
}

/// A value with its limits.
pub(crate) fn within<T: PartialOrd + Display>(key: &str, value: T, least: T, most: T) -> Checked {
    let message = format!("{value}: must be from {least} to {most}");
    check(value >= least && value <= most, key, message)
}

/// A count from 1 on that may be absent.
pub(crate) fn optionally_within(key: &str, value: Option<usize>, most: usize) -> Checked {
    value.map_or(Ok(()), |value| within(key, value, 1, most))
}
