//! A relation in a language: prompts to ask with, and its facts in three parts without one in common.

use crate::data::Example;
use crate::world::{Fact, Language, Prompt, Relation, World, row, split};
use crate::{Error, Result};

/// What is asked about.
pub(super) struct Probe<'w> {
    pub(super) relation: &'w Relation,
    pub(super) language: Language,
    pub(super) prompts: &'w [Prompt],
    /// Facts that a prompt is trained on.
    pub(super) train: Vec<&'w Fact>,
    /// Facts that its best state is chosen by.
    pub(super) dev: Vec<&'w Fact>,
    /// Facts that it is tested with.
    pub(super) test: Vec<&'w Fact>,
}

impl<'w> Probe<'w> {
    /// A relation by its place in the world.
    pub(super) fn new(world: &'w World, place: usize, language: Language, seed: u64) -> Probe<'w> {
        let relation = &world.relations[place];
        let split = split(world, place, seed);
        let prompts = &relation.voice(language).prompts;
        Probe { relation, language, prompts, train: split.train, dev: split.dev, test: split.test }
    }

    /// Relations by their names, each in both languages.
    pub(super) fn named(world: &'w World, names: &[String], seed: u64) -> Result<Vec<Probe<'w>>> {
        let mut probes = Vec::new();
        for name in names {
            let Some(place) = world.relations.iter().position(|relation| relation.name == *name) else {
                return Err(Error::request(format!("the small world has no relation '{name}'")));
            };
            probes.extend(Language::ALL.map(|language| Probe::new(world, place, language, seed)));
        }
        Ok(probes)
    }

    /// Facts as rows for a template.
    pub(super) fn rows(&self, facts: &[&Fact]) -> Vec<Example> {
        let example = |fact: &&Fact| {
            let row = row(fact, self.language);
            Example::from_fields(row.iter().map(|(name, text)| (name, text.as_str().unwrap_or_default())))
        };
        facts.iter().map(example).collect()
    }
}
