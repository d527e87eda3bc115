//! Facts, and the tables they stand in.
//!
//! ```text
//! en      ko      capital.en  capital.ko  currency.en  currency.ko      tabs between the columns
//! Japan   일본    Tokyo       도쿄        yen          엔
//! Bolivia 볼리비아 -          -           boliviano    볼리비아노        `-`: no fact
//! ```

use std::path::Path;

use crate::{Error, Result};

/// A language of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// `en`
    English,
    /// `ko`
    Korean,
}

impl Language {
    /// Both.
    pub const ALL: [Language; 2] = [Language::English, Language::Korean];

    /// `en` or `ko`, as in column names, paths and rows.
    pub fn code(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Korean => "ko",
        }
    }
}

/// A subject and its answer, by their names in both languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The line of the subject among its table's, from 0: the same for all relations of the table.
    pub row: usize,
    subject: [String; 2],
    answer: [String; 2],
}

impl Fact {
    /// The name of what the fact is about; may be several words.
    pub fn subject(&self, language: Language) -> &str {
        &self.subject[language as usize]
    }

    /// The answer: one word.
    pub fn answer(&self, language: Language) -> &str {
        &self.answer[language as usize]
    }
}

/// The facts of `relation` in the text of a table.
pub(super) fn parse(text: &str, file: &Path, relation: &str) -> Result<Vec<Fact>> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let column = |name: &str| {
        let missing = || Error::line(file, 1, format!("there is no column '{name}'"));
        header.iter().position(|column| *column == name).ok_or_else(missing)
    };
    let subject = [column("en")?, column("ko")?];
    let answer = [column(&format!("{relation}.en"))?, column(&format!("{relation}.ko"))?];
    let mut facts = Vec::new();
    for (row, line) in lines.enumerate() {
        let fail = |message: String| Err(Error::line(file, row + 2, message));
        let cells: Vec<&str> = line.split('\t').collect();
        if cells.len() != header.len() {
            return fail(format!("{} columns; the header has {}", cells.len(), header.len()));
        }
        if let Some(at) = cells.iter().position(|cell| cell.is_empty() || cell.trim() != *cell) {
            return fail(format!("column '{}' is empty or begins or ends with a space", header[at]));
        }
        let names = |columns: [usize; 2]| columns.map(|column| cells[column].to_string());
        match answer.map(|column| cells[column] == "-") {
            [true, true] => {}
            [false, false] => facts.push(Fact { row, subject: names(subject), answer: names(answer) }),
            _ => return fail(format!("'{relation}' is given in one language only")),
        }
    }
    if facts.is_empty() { Err(Error::file(file, format!("no fact of '{relation}'"))) } else { Ok(facts) }
}
