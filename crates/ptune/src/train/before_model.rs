//! What is wrong with a run and can be seen without its model: before hours of a download.
//!
//! All of it is checked again with the model at hand, where tokens are counted too (`prepare.rs`).

use std::fs::File;
use std::path::Path;

use crate::data::{Example, jsonl};
use crate::prompt::Template;
use crate::prompt::template::listed;
use crate::prompt::vocabulary::read_words;
use crate::train::config::{HeadKind, RunConfig};
use crate::{Error, Result};

/// Reads the files that a run names beside its model: rows with the fields of the template and known labels, a
/// vocabulary with words, prompts that can be read.
///
/// # Errors
/// What is wrong with one, with its line; a path that a run file cannot name.
pub fn check_files(config: &RunConfig) -> Result<()> {
    config.to_toml()?; // a path that TOML cannot name
    let task = &config.task;
    let template = match task.head {
        Some(HeadKind::Classifier) => Template::parse_whole(&task.template)?,
        _ => Template::parse(&task.template)?,
    };
    let data = &config.data;
    for file in [Some(&data.train), data.dev.as_ref(), data.test.as_ref()].into_iter().flatten() {
        let rows = jsonl::read(file)?;
        if let Some(first) = rows.first() {
            template.check_fields(&first.field_names())?;
        }
        rows.iter().try_for_each(|row| check_row(row, &template, config))?;
    }
    if let Some(file) = &task.vocabulary {
        read_words(file, task.vocabulary_key.as_deref())?;
    }
    match &config.search.prompts {
        Some(file) => File::open(file).map(drop).map_err(|source| Error::read(file, source)),
        None => Ok(()),
    }
}

/// Whether the directory `out` is free for a new run, or holds one that `resume` may go on with.
///
/// # Errors
/// A file in its place, a run where none is wanted.
pub fn check_directory(out: &Path, resume: bool) -> Result<()> {
    super::run::resume::Former::<super::Summary>::find(out, resume).map(drop)
}

/// A row has all fields of the template, and a label that is known.
fn check_row(row: &Example, template: &Template, config: &RunConfig) -> Result<()> {
    template.fields().into_iter().try_for_each(|field| row.text(field).map(drop))?;
    let label = row.text(&config.task.target)?;
    let labels: Vec<&str> = match &config.task.labels {
        Some(labels) => labels.iter().map(String::as_str).collect(),
        None => config.task.verbalizer.iter().map(|(label, _)| label.as_str()).collect(),
    };
    if labels.is_empty() || labels.contains(&label.as_ref()) {
        return Ok(());
    }
    Err(row.error(format!("the label '{label}' is missing from the task, which has {}", listed(&labels))))
}
