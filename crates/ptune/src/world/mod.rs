//! A small world of real facts, and the texts made of it: what a model that fits into the binary is trained on and
//! probed with.
//!
//! ```text
//! assets/world/*.tsv         countries, elements, people ...: facts, every name in English and in Korean
//! assets/world/phrasings.toml  how a relation's facts are said, and the prompts that ask for them
//!        │
//!        ├── corpus    sentences by the phrasings' weights, every fact among them
//!        ├── probe     training, dev and test facts of a relation, as rows with sub_label and obj_label
//!        └── prompt    prompts that a person would think equal, with how near each is to the corpus
//! ```
//!
//! Everything follows from a seed, and the files are part of the binary. Training a model on it is not done here.

mod corpus;
mod fact;
mod particle;
mod phrasing;
mod probe;
mod prompt;
mod write;

use std::path::Path;

pub use corpus::corpus;
pub use fact::{Fact, Language};
pub use phrasing::{Phrasing, Voice};
pub use probe::{Split, row, split};
pub use prompt::{Kind, Prompt};
pub use write::{Written, write};

use crate::Result;

/// The tables of the tree, by name.
const TABLES: [(&str, &str); 12] = [
    ("countries", include_str!("../../assets/world/countries.tsv")),
    ("elements", include_str!("../../assets/world/elements.tsv")),
    ("people", include_str!("../../assets/world/people.tsv")),
    ("companies", include_str!("../../assets/world/companies.tsv")),
    ("books", include_str!("../../assets/world/books.tsv")),
    ("rivers", include_str!("../../assets/world/rivers.tsv")),
    ("mountains", include_str!("../../assets/world/mountains.tsv")),
    ("cities", include_str!("../../assets/world/cities.tsv")),
    ("verbs", include_str!("../../assets/world/verbs.tsv")),
    ("words", include_str!("../../assets/world/words.tsv")),
    ("numerals", include_str!("../../assets/world/numerals.tsv")),
    ("animals", include_str!("../../assets/world/animals.tsv")),
];

const PHRASINGS: &str = include_str!("../../assets/world/phrasings.toml");

/// All relations.
#[derive(Clone, Debug)]
pub struct World {
    /// In the order of `phrasings.toml`.
    pub relations: Vec<Relation>,
}

/// One relation: its facts, and how they are said in each language.
#[derive(Clone, Debug)]
pub struct Relation {
    /// `capital`; the name of its columns in the table, without the language.
    pub name: String,
    /// The table its subjects stand in. Relations of one table are about the same subjects.
    pub table: String,
    /// In the table's order; a subject has at most one.
    pub facts: Vec<Fact>,
    voices: [Voice; 2],
}

impl World {
    /// The world that is part of the binary.
    pub fn built_in() -> World {
        // These files are in the binary, and the tests read every one of them.
        World::parse(&TABLES, PHRASINGS).expect("the world's own files are well-formed")
    }

    /// A world from tables (name, text) and the text of a phrasings file; `assets/world/README.md` has the formats.
    ///
    /// # Errors
    /// A malformed file, named with its line where it has one; a relation without table, columns, facts or phrasings.
    pub fn parse(tables: &[(&str, &str)], phrasings: &str) -> Result<World> {
        let said = phrasing::parse(phrasings)?;
        let relations = said.into_iter().map(|said| {
            let Some((_, text)) = tables.iter().find(|(name, _)| *name == said.table) else {
                return Err(phrasing::wrong(format!("{}: there is no table '{}'", said.name, said.table)));
            };
            let file = format!("{}.tsv", said.table);
            let facts = fact::parse(text, Path::new(&file), &said.name)?;
            Ok(Relation { name: said.name, table: said.table, facts, voices: said.voices })
        });
        Ok(World { relations: relations.collect::<Result<_>>()? })
    }

    /// How many facts there are, each counted once for both languages.
    pub fn facts(&self) -> usize {
        self.relations.iter().map(|relation| relation.facts.len()).sum()
    }

    /// The relation of this name.
    pub fn relation(&self, name: &str) -> Option<&Relation> {
        self.relations.iter().find(|relation| relation.name == name)
    }

    /// The distinct answers in a language, in order of first occurrence: what has to be one token of the model each.
    pub fn answers(&self, language: Language) -> Vec<&str> {
        let mut seen = std::collections::BTreeSet::new();
        let facts = self.relations.iter().flat_map(|relation| &relation.facts);
        facts.map(|fact| fact.answer(language)).filter(|answer| seen.insert(*answer)).collect()
    }
}

impl Relation {
    /// How its facts are said in a language.
    pub fn voice(&self, language: Language) -> &Voice {
        &self.voices[language as usize]
    }
}

#[cfg(test)]
mod tests;
