//! From the text of a run file to a [`RunConfig`]: syntax, unknown keys with their line, overrides, paths.
//!
//! Which keys there are is asked of [`RunConfig`] itself (one with every key set, written as TOML), so no second list
//! can fall behind.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::{BACKBONE_LEARNING_RATE, Compute, DataConfig, Metric, PromptConfig, RunConfig, TaskConfig, TrainConfig};
use crate::checkpoint::hub;
use crate::error::{Error, Result};
use crate::{files, spelling};

/// A verbalizer with thousands of labels is below this.
const LARGEST_FILE: u64 = 16 << 20;
/// The only table whose keys are the user's own.
const VERBALIZER: &str = "task.verbalizer";
/// Its own name.
const LABELS: &str = "verbalizer";

/// Keys that are designed but whose feature is not built, and what to do.
pub(super) const LATER_KEYS: &[(&str, &str)] = &[
    ("backbone.lora_rank", "training the model with LoRA comes with a later release; remove the key"),
    ("backbone.lora_alpha", "training the model with LoRA comes with a later release; remove the key"),
    ("prompt.dropout", "dropout in the prompt encoder comes with a later release; remove the key"),
];

/// Values that are designed but whose feature is not built, and what to write instead.
pub(super) const LATER_VALUES: &[(&str, &str, &str)] = &[("backbone.mode", "lora", "frozen or full")];

impl RunConfig {
    /// Reads a run file, applies `overrides` (`--set key=value`: a dotted key, and a value as TOML or else a text) as
    /// if they stood in the file, and checks everything. `train.steps` and `train.epochs` replace each other.
    /// Relative paths are taken from the run file's directory; `model` (unless there is no such
    /// path and it can be a name in the Hugging Face cache), `data.*` and `task.vocabulary` come back absolute, `compute` and `train.select` decided.
    ///
    /// # Errors
    /// Syntax and unknown keys with the file, the line and the closest key; a wrong type or value with its key; a
    /// feature of a later release by name; a wrong override by its key.
    pub fn read(path: &Path, overrides: &[(String, String)]) -> Result<RunConfig> {
        let text = files::read_text(path, LARGEST_FILE)?;
        let mut config = parse(path, &text)?;
        if !overrides.is_empty() {
            let table = toml::from_str(&text).map_err(|wrong| at_line(path, &text, &wrong))?;
            config = overridden(table, overrides)?;
        }
        config.resolve(path)?;
        config.check(path)?;
        Ok(config)
    }

    /// A run made in a program instead of a file, decided and checked as [`RunConfig::read`] does it; relative paths are
    /// taken from the current directory.
    ///
    /// # Errors
    /// A wrong value, with its key.
    pub fn checked(mut self) -> Result<RunConfig> {
        let file = Path::new("RunConfig");
        self.resolve(file)?;
        self.check(file)?;
        Ok(self)
    }

    /// A run file with every key given, whatever the values: the list of keys.
    pub(super) fn with_every_key() -> RunConfig {
        RunConfig {
            threads: Some(1),
            data: DataConfig {
                dev: Some(PathBuf::new()),
                test: Some(PathBuf::new()),
                max_tokens: Some(1),
                ..DataConfig::default()
            },
            task: TaskConfig {
                vocabulary: Some(PathBuf::new()),
                vocabulary_key: Some(String::new()),
                verbalizer: vec![(String::new(), Vec::new())],
                ..TaskConfig::default()
            },
            prompt: PromptConfig { hidden_size: Some(1), layers: Some(1), ..PromptConfig::default() },
            train: TrainConfig {
                steps: Some(1),
                epochs: Some(1),
                backbone_learning_rate: Some(1.0),
                head_learning_rate: Some(1.0),
                backbone_weight_decay: Some(1.0),
                eval_every: Some(1),
                select: Some(Metric::Accuracy),
                ..TrainConfig::default()
            },
            ..RunConfig::default()
        }
    }

    /// Every key a run file may have, dotted.
    pub(super) fn known_keys() -> Result<Vec<String>> {
        let table: Table = Table::try_from(Self::with_every_key())
            .map_err(|wrong| Error::Failed(format!("the keys of a run file cannot be listed: {wrong}")))?;
        Ok(leaves(&table).into_iter().map(|(key, _)| key).collect())
    }

    /// Decides what depends on other keys and makes paths absolute.
    fn resolve(&mut self, file: &Path) -> Result<()> {
        let directory = file.parent().unwrap_or(Path::new(""));
        let absolute = |path: &mut PathBuf| -> Result<()> {
            // An empty path stays empty: the check says that the key is missing.
            if !path.as_os_str().is_empty() {
                *path = std::path::absolute(directory.join(&*path)).map_err(|source| Error::read(file, source))?;
            }
            Ok(())
        };
        if !hub::is_name(&self.model, directory) {
            absolute(&mut self.model)?;
        }
        absolute(&mut self.data.train)?;
        for path in [&mut self.data.dev, &mut self.data.test, &mut self.task.vocabulary].into_iter().flatten() {
            absolute(path)?;
        }
        if self.compute == Compute::Auto {
            self.compute = Compute::fastest(self.backbone.mode);
        }
        self.train.select = Some(self.select());
        if self.backbone.mode.is_full() {
            let train = &mut self.train;
            let rate = *train.backbone_learning_rate.get_or_insert(BACKBONE_LEARNING_RATE);
            train.head_learning_rate.get_or_insert(rate);
            train.backbone_weight_decay.get_or_insert(train.weight_decay);
        }
        Ok(())
    }
}

/// Parses the text alone, without overrides, so that errors have a line.
fn parse(path: &Path, text: &str) -> Result<RunConfig> {
    let document = DeTable::parse(text).map_err(|wrong| at_line(path, text, &wrong))?;
    let keys = RunConfig::known_keys()?;
    let mut spans = Vec::new();
    list_spans(document.get_ref(), "", &mut spans);
    for (key, value, span) in &spans {
        if let Some(message) = objection(key, value.as_deref(), &keys) {
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
fn overridden(mut table: Table, overrides: &[(String, String)]) -> Result<RunConfig> {
    let keys = RunConfig::known_keys()?;
    let mut config = None;
    for (key, value) in overrides {
        let wrong = |message: String| Error::request(format!("--set {key}={value}: {message}"));
        let path = split_key(key).ok_or_else(|| wrong(format!("'{key}' is not a dotted key, such as train.steps")))?;
        let value = parse_value(value);
        if let Some(message) = objection(&path.join("."), value.as_str(), &keys) {
            return Err(wrong(message));
        }
        insert(&mut table, &path, value).map_err(wrong)?;
        config = Some(table.clone().try_into().map_err(|refused: toml::de::Error| wrong(plain(refused.message())))?);
    }
    config.ok_or_else(|| Error::request("there are no overrides"))
}

/// What is wrong with a key, or with a named value, that this release does not have.
fn objection(key: &str, value: Option<&str>, known: &[String]) -> Option<String> {
    if let Some((_, reason)) = LATER_KEYS.iter().find(|(later, _)| *later == key) {
        return Some(format!("{key}: {reason}"));
    }
    if let Some((_, later, instead)) = LATER_VALUES.iter().find(|(at, later, _)| *at == key && Some(*later) == value) {
        return Some(format!("{key}: '{later}' comes with a later release; use {instead}"));
    }
    let prefix = |table: &str| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
    let is_table = |known: &String| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
    if prefix(VERBALIZER) || known.iter().any(|known| known == key || is_table(known)) {
        return None;
    }
    Some(format!("unknown key '{key}'{}", suggestion(key, known)))
}

/// The key that was meant: one spelt alike, or one of the same name in another table.
fn suggestion(key: &str, known: &[String]) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_string();
    match known.iter().find(|known| last(known) == last(key)) {
        Some(elsewhere) => format!("; did you mean '{elsewhere}'?"),
        None => spelling::did_you_mean(key, known.iter().map(String::as_str)),
    }
}

/// The values of a table by their dotted keys. The verbalizer is one value: its labels are no keys of the run file.
pub(super) fn leaves(table: &Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if key != LABELS => {
                found.extend(leaves(inner).into_iter().map(|(below, value)| (format!("{key}.{below}"), value)));
            }
            _ => found.push((key.clone(), value.clone())),
        }
    }
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
