//! The probing task of a relation: which facts train a prompt, which choose it, which test it.
//!
//! A fact is in the same part in both languages, so that a prompt trained in one meets nothing it knows in the other.

use serde_json::{Map, Value};

use super::prompt::FIELDS;
use super::{Fact, Language, World, particle};
use crate::rng::{Purpose, Rng};

/// The facts of a relation in three parts without a fact in common.
#[derive(Clone, Debug)]
pub struct Split<'a> {
    /// Half of them.
    pub train: Vec<&'a Fact>,
    /// A fifth.
    pub dev: Vec<&'a Fact>,
    /// The rest.
    pub test: Vec<&'a Fact>,
}

impl<'a> Split<'a> {
    /// The parts with the names of their files.
    pub fn parts(&self) -> [(&'static str, &[&'a Fact]); 3] {
        [("train", &self.train), ("dev", &self.dev), ("test", &self.test)]
    }
}

/// The parts of `world.relations[relation]`, drawn from the seed; another relation's do not depend on them.
pub fn split(world: &World, relation: usize, seed: u64) -> Split<'_> {
    let mut facts: Vec<&Fact> = world.relations[relation].facts.iter().collect();
    Rng::new(seed, Purpose::WorldSplit(relation as u32)).shuffle(&mut facts);
    let (train, dev) = (facts.len() / 2, facts.len() / 5);
    let test = facts.split_off(train + dev);
    let dev = facts.split_off(train);
    Split { train: facts, dev, test }
}

/// A fact as a row: `sub_label`, `obj_label`, `language`; in Korean also the particles that the subject takes, for
/// templates such as `{sub_label}{topic} [MASK] 입니다.`
pub fn row(fact: &Fact, language: Language) -> Map<String, Value> {
    let subject = fact.subject(language);
    let mut row = Map::new();
    let mut put = |name: &str, text: &str| row.insert(name.to_string(), text.into());
    put("sub_label", subject);
    put("obj_label", fact.answer(language));
    put("language", language.code());
    if language == Language::Korean {
        for (field, pair) in FIELDS {
            put(field, particle::choose(subject, pair));
        }
    }
    row
}
