//! The world as files to look at, and to train on.
//!
//! ```text
//! corpus.txt                     a line of text a line
//! en/answers.txt                 the answers of all relations, a word a line: a vocabulary
//! en/capital/train.jsonl         rows of the probing task; dev.jsonl, test.jsonl
//! ko/...                         the same in Korean
//! prompts.jsonl                  the prompts written by hand: relation, language, template, kind, of
//! answers.txt                    the answers in both languages: words that a tokenizer keeps whole
//! world-mlm.toml, world-gpt.toml the run files that pre-train the two models in the binary on these files
//! ```

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::{Language, World, corpus, row, split};
use crate::{Result, files};

/// The run files of the models in the binary: `ptune pretrain` reads them beside the text.
const PRETRAINING: [(&str, &str); 2] = [
    ("world-mlm.toml", include_str!("../../assets/models/world-mlm.toml")),
    ("world-gpt.toml", include_str!("../../assets/models/world-gpt.toml")),
];

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Lines of `corpus.txt`.
    pub lines: usize,
    /// Bytes of `corpus.txt`.
    pub bytes: usize,
    /// Prompts of `prompts.jsonl`.
    pub prompts: usize,
}

/// Writes the files into `directory`, which is created; files of the same names are replaced.
///
/// # Errors
/// Those of [`corpus`], before anything is written, and [`Error::Write`](crate::Error::Write).
pub fn write(world: &World, directory: &Path, seed: u64, sentences: usize) -> Result<Written> {
    let text = corpus(world, seed, sentences)?;
    let prompts = prompts(world);
    files::create_directory(directory)?;
    for language in Language::ALL {
        let directory = directory.join(language.code());
        for (index, relation) in world.relations.iter().enumerate() {
            let directory = directory.join(&relation.name);
            files::create_directory(&directory)?;
            for (part, facts) in split(world, index, seed).parts() {
                let rows = facts.iter().map(|fact| Value::Object(row(fact, language)));
                files::write_atomically(&directory.join(format!("{part}.jsonl")), json_lines(rows).as_bytes())?;
            }
        }
        let answers = world.answers(language);
        files::write_atomically(&directory.join("answers.txt"), lines(&answers).as_bytes())?;
    }
    let mut seen = BTreeSet::new(); // symbols and numbers are the same words in both
    let words = Language::ALL.into_iter().flat_map(|language| world.answers(language));
    let words: Vec<&str> = words.filter(|word| seen.insert(*word)).collect();
    files::write_atomically(&directory.join("answers.txt"), lines(&words).as_bytes())?;
    for (name, run) in PRETRAINING {
        files::write_atomically(&directory.join(name), run.as_bytes())?;
    }
    files::write_atomically(&directory.join("corpus.txt"), text.as_bytes())?;
    let written = Written { lines: text.lines().count(), bytes: text.len(), prompts: prompts.len() };
    files::write_atomically(&directory.join("prompts.jsonl"), json_lines(prompts.into_iter()).as_bytes())?;
    Ok(written)
}

fn prompts(world: &World) -> Vec<Value> {
    let mut prompts = Vec::new();
    for relation in &world.relations {
        for language in Language::ALL {
            prompts.extend(relation.voice(language).prompts.iter().map(|prompt| {
                json!({
                    "relation": relation.name,
                    "language": language.code(),
                    "template": prompt.template,
                    "kind": prompt.kind.name(),
                    "of": prompt.of,
                })
            }));
        }
    }
    prompts
}

fn lines<'a>(words: impl IntoIterator<Item = &'a &'a str>) -> String {
    words.into_iter().map(|word| format!("{word}\n")).collect()
}

fn json_lines(rows: impl Iterator<Item = Value>) -> String {
    rows.map(|row| format!("{row}\n")).collect()
}
