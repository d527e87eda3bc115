//! JSON lines: one JSON object a line of at most 4 MB, UTF-8, `\n` or `\r\n`; blank lines and a byte-order mark are
//! skipped.
//!
//! The text of a field is the text of its JSON value: a string's characters, `true`, `0`, `1.5`. A field that holds
//! `null`, a list or an object has no text; it is an error only where the field is asked for, because data sets carry
//! such fields beside the ones a template uses.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::prompt::template::listed;
use crate::{Error, Result};

/// The longest line: a row of the largest `max_tokens` is far below this, and cutting it into tokens, which takes more
/// than a hundred bytes a byte, still fits into memory.
const LONGEST_LINE: u64 = 4 << 20;

/// One row of a data file, or one set of `--field` flags.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    fields: Map<String, Value>,
    /// The file and line, `None` for flags.
    place: Option<(Arc<Path>, usize)>,
}

impl Example {
    /// An example from names and texts, which come from a program or the command line.
    pub fn from_fields(fields: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Example {
        let fields = fields.into_iter().map(|(name, text)| (name.into(), Value::String(text.into()))).collect();
        Example { fields, place: None }
    }

    /// One line of a file; `line` counts from 1.
    ///
    /// Errors: not UTF-8, malformed JSON, not an object.
    pub fn parse(bytes: &[u8], file: &Arc<Path>, line: usize) -> Result<Example> {
        let fail = |message: String| Err(Error::line(file, line, message));
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => {
                return fail(format!("this is not UTF-8 text: byte {} of the line is wrong", e.valid_up_to() + 1));
            }
        };
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Ok(Example { fields, place: Some((file.clone(), line)) }),
            Ok(other) => fail(format!("a line should be a JSON object, {{\"field\": \"text\"}}, not {}", kind(&other))),
            Err(e) => {
                let reason = e.to_string();
                let reason = reason.split(" at line ").next().unwrap_or_default();
                fail(format!("malformed JSON at character {}: {reason}", e.column()))
            }
        }
    }

    /// The names of its fields, in the file's order.
    pub fn field_names(&self) -> Vec<&str> {
        self.fields.keys().map(String::as_str).collect()
    }

    /// Its line in the file, counted from 1; `None` for flags.
    pub fn line(&self) -> Option<usize> {
        self.place.as_ref().map(|(_, line)| *line)
    }

    /// The text of a field.
    ///
    /// Errors: the field is missing, or is neither text nor a number nor a truth value; both name the line.
    pub fn text(&self, field: &str) -> Result<Cow<'_, str>> {
        match self.fields.get(field) {
            Some(Value::String(text)) => Ok(Cow::Borrowed(text)),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Cow::Owned(value.to_string())),
            Some(other) => {
                Err(self
                    .error(format!("the field '{field}' should be text, a number or true/false, not {}", kind(other))))
            }
            None => Err(self
                .error(format!("the field '{field}' is missing; the fields here are {}", listed(&self.field_names())))),
        }
    }

    /// An error at this example's place.
    pub fn error(&self, message: impl Into<String>) -> Error {
        match &self.place {
            Some((file, line)) => Error::line(file, *line, message),
            None => Error::request(message),
        }
    }
}

/// The examples of a stream, one line at a time; an [`Error::Line`] stands in the place of a bad line, and the lines
/// behind it follow. After a failed read ([`Error::Read`]) nothing follows.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    file: Arc<Path>,
    line: usize,
    /// The rest of the line before is still to be skipped.
    inside: bool,
    failed: bool,
}

impl<R: BufRead> Lines<R> {
    /// Lines of `reader`; `file` is its name in messages.
    pub fn new(reader: R, file: &Path) -> Lines<R> {
        Lines { reader, file: file.into(), line: 0, inside: false, failed: false }
    }

    /// The next line with its end, cut behind [`LONGEST_LINE`] bytes; `false` at the end of the file.
    fn read_line(&mut self, bytes: &mut Vec<u8>) -> std::io::Result<bool> {
        if std::mem::take(&mut self.inside) {
            self.reader.skip_until(b'\n')?;
        }
        bytes.clear();
        self.reader.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', bytes)?;
        self.inside = bytes.len() as u64 > LONGEST_LINE && bytes.last() != Some(&b'\n');
        Ok(!bytes.is_empty())
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Example>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = Vec::new();
        while !self.failed {
            match self.read_line(&mut bytes) {
                Ok(false) => return None,
                Ok(true) => self.line += 1,
                Err(e) => {
                    self.failed = true;
                    return Some(Err(Error::read(&self.file, e)));
                }
            }
            if self.inside {
                let message =
                    format!("this line is longer than {LONGEST_LINE} bytes: JSON lines hold one object a line");
                return Some(Err(Error::line(&self.file, self.line, message)));
            }
            let mark = self.line == 1 && bytes.starts_with("\u{feff}".as_bytes());
            let content = if mark { &bytes[3..] } else { &bytes[..] }.trim_ascii();
            if !content.is_empty() {
                return Some(Example::parse(content, &self.file, self.line));
            }
        }
        None
    }
}

/// Reads a whole file; the first bad line is the error.
///
/// Errors: the file cannot be read, a line is bad, there is no row.
pub fn read(file: &Path) -> Result<Vec<Example>> {
    let reader = File::open(file).map_err(|e| Error::read(file, e))?;
    let examples = Lines::new(BufReader::new(reader), file).collect::<Result<Vec<_>>>()?;
    match examples.is_empty() {
        true => Err(Error::file(file, "the file has no rows: it should hold a JSON object a line")),
        false => Ok(examples),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
