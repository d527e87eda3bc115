//! How facts are said: `phrasings.toml`.
//!
//! ```toml
//! [capital]                                   # a relation: the columns capital.en and capital.ko of its table
//! table = "countries"
//! heading = { en = "Countries and their capitals", ko = "나라와 수도" }     # before an enumeration of facts
//! en = [[30, "The capital of {x} is {y}."], [6, "{x} has its capital in {y}."]]   # weight, sentence
//! ko = [[30, "{x}의 수도는 {y} 입니다."], [2, "{x}은(는) {y} 을(를) 수도로 두고 있습니다."]]
//! prompts.en = ["The capital of {x} is {y}.", "The main capital of {x} is {y}."]
//! prompts.ko = ["{x}의 수도는 {y} 입니다."]
//! ```

use std::path::Path;

use serde::Deserialize;

use super::prompt::Prompt;
use super::{Fact, Language, particle};
use crate::{Error, Result};

/// A sentence with places for a fact.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Phrasing(
    /// How often it is drawn, relative to the others of its relation and language.
    pub usize,
    /// `{x}` stands for the subject, `{y}` for the answer; particles as in `은(는)`.
    pub String,
);

/// How the facts of a relation are said in one language.
#[derive(Clone, Debug)]
pub struct Voice {
    /// What an enumeration of its facts begins with.
    pub heading: String,
    /// Its sentences, at least one.
    pub phrasings: Vec<Phrasing>,
    /// Prompts that a person would think equal.
    pub prompts: Vec<Prompt>,
}

impl Phrasing {
    /// The sentence of a fact.
    pub fn say(&self, fact: &Fact, language: Language) -> String {
        let said = self.1.replace("{x}", fact.subject(language)).replace("{y}", fact.answer(language));
        let said = particle::resolve(&said);
        // A name may begin with a small letter ("the Netherlands"), a sentence does not.
        let mut letters = said.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    }
}

/// A relation as `phrasings.toml` has it.
pub(super) struct Said {
    pub(super) name: String,
    pub(super) table: String,
    pub(super) voices: [Voice; 2],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRelation {
    table: String,
    heading: Both<String>,
    en: Vec<Phrasing>,
    ko: Vec<Phrasing>,
    prompts: Both<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Both<T> {
    en: T,
    ko: T,
}

/// Reads the text of `phrasings.toml`.
pub(super) fn parse(text: &str) -> Result<Vec<Said>> {
    let relations: toml::Table = text.parse().map_err(|e: toml::de::Error| wrong(e.to_string()))?;
    let relations = relations.into_iter().map(|(name, relation)| {
        let raw: RawRelation = relation.try_into().map_err(|e: toml::de::Error| wrong(format!("{name}: {e}")))?;
        let voices = [
            voice(&name, raw.heading.en, raw.en, raw.prompts.en)?,
            voice(&name, raw.heading.ko, raw.ko, raw.prompts.ko)?,
        ];
        Ok(Said { name, table: raw.table, voices })
    });
    relations.collect()
}

fn voice(relation: &str, heading: String, phrasings: Vec<Phrasing>, prompts: Vec<String>) -> Result<Voice> {
    if phrasings.is_empty() {
        return Err(wrong(format!("{relation}: no phrasings")));
    }
    for Phrasing(weight, sentence) in &phrasings {
        let once = |place| sentence.matches(place).count() == 1;
        if *weight == 0 || !once("{x}") || !once("{y}") {
            let message = format!("{relation}: '{sentence}' needs a weight above 0, one {{x}} and one {{y}}");
            return Err(wrong(message));
        }
    }
    let prompts = prompts.iter().map(|sentence| {
        Prompt::new(sentence, &phrasings).map_err(|message| wrong(format!("{relation}: '{sentence}' {message}")))
    });
    let prompts = prompts.collect::<Result<_>>()?;
    Ok(Voice { heading, phrasings, prompts })
}

pub(super) fn wrong(message: String) -> Error {
    Error::file(Path::new("phrasings.toml"), message)
}
