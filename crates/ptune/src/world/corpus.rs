//! Text that says the facts of the world again and again, as a person would who knows nothing else.
//!
//! ```text
//! The capital of Japan is Tokyo. People in Japan pay with the yen.     facts about one subject
//! What is the past tense of go? Went.                                  a question and its answer
//! 원소와 기호: 철 Fe, 구리 Cu, 은 Ag.                                   an enumeration
//! ```
//!
//! Of each language all facts are said once before any is said again, in an order drawn anew each time; the phrasing is
//! drawn by its weight. Half of the sentences are English, half Korean; a line is in one language.

use super::{Fact, Language, Phrasing, Relation, World};
use crate::rng::{Purpose, Rng};
use crate::{Error, Result};

/// One sentence of so many is an enumeration.
const ENUMERATION_EVERY: usize = 16;
/// After a fact, the next one about its subject begins a line of its own once in so many times, and so does a fourth.
const BREAK_EVERY: usize = 2;
const LONGEST_LINE: usize = 3;

/// Lines of text with `sentences` sentences in all. A fact is said by every sentence; an enumeration says one and
/// repeats two to four others.
///
/// # Errors
/// [`Error::Request`] when they are too few for every fact in both languages.
pub fn corpus(world: &World, seed: u64, sentences: usize) -> Result<String> {
    let least = 2 * world.facts();
    if sentences < least {
        let facts = world.facts();
        let message = format!(
            "{sentences} sentences are too few to say each of {facts} facts in both languages; ask for at least {least}"
        );
        return Err(Error::request(message));
    }
    let mut lines = Vec::new();
    for (language, count) in [(Language::English, sentences.div_ceil(2)), (Language::Korean, sentences / 2)] {
        let mut speaker = Speaker { language, rng: Rng::new(seed, Purpose::World(language as u32)) };
        speaker.speak(world, count, &mut lines);
    }
    Rng::new(seed, Purpose::World(Language::ALL.len() as u32)).shuffle(&mut lines);
    Ok(lines.concat())
}

struct Speaker {
    language: Language,
    rng: Rng,
}

impl Speaker {
    /// `count` sentences, in lines that each end with a line end.
    fn speak(&mut self, world: &World, count: usize, lines: &mut Vec<String>) {
        let mut subjects = by_subject(world);
        let mut left = count;
        while left > 0 {
            self.rng.shuffle(&mut subjects);
            for facts in &mut subjects {
                self.rng.shuffle(facts);
                let about = &facts[..facts.len().min(left)];
                left -= about.len();
                self.lines_about(about, lines);
            }
        }
    }

    /// Facts of one subject, a sentence each.
    fn lines_about(&mut self, facts: &[(&Relation, &Fact)], lines: &mut Vec<String>) {
        let mut line: Vec<String> = Vec::new();
        for (relation, fact) in facts {
            if line.len() == LONGEST_LINE || !line.is_empty() && self.rng.below(BREAK_EVERY) == 0 {
                lines.push(line.join(" ") + "\n");
                line.clear();
            }
            if self.rng.below(ENUMERATION_EVERY) == 0 {
                lines.push(self.enumeration(relation, fact) + "\n");
            } else {
                line.push(self.sentence(relation, fact));
            }
        }
        if !line.is_empty() {
            lines.push(line.join(" ") + "\n");
        }
    }

    fn sentence(&mut self, relation: &Relation, fact: &Fact) -> String {
        draw(&relation.voice(self.language).phrasings, &mut self.rng).say(fact, self.language)
    }

    /// `heading: subject answer, subject answer.` with the fact and two to four others, in any order.
    fn enumeration(&mut self, relation: &Relation, fact: &Fact) -> String {
        let mut facts = vec![fact];
        let wanted = (3 + self.rng.below(3)).min(relation.facts.len());
        while facts.len() < wanted {
            let other = &relation.facts[self.rng.below(relation.facts.len())];
            if !facts.contains(&other) {
                facts.push(other);
            }
        }
        self.rng.shuffle(&mut facts);
        let language = self.language;
        let items = facts.iter().map(|fact| format!("{} {}", fact.subject(language), fact.answer(language)));
        format!("{}: {}.", relation.voice(language).heading, items.collect::<Vec<_>>().join(", "))
    }
}

/// The facts of the world, those about one subject together.
fn by_subject(world: &World) -> Vec<Vec<(&Relation, &Fact)>> {
    let mut subjects = std::collections::BTreeMap::<_, Vec<_>>::new();
    for relation in &world.relations {
        for fact in &relation.facts {
            subjects.entry((&relation.table, fact.row)).or_default().push((relation, fact));
        }
    }
    subjects.into_values().collect()
}

/// A phrasing, by weight.
fn draw<'a>(phrasings: &'a [Phrasing], rng: &mut Rng) -> &'a Phrasing {
    let mut at = rng.below(phrasings.iter().map(|phrasing| phrasing.0).sum());
    for phrasing in phrasings {
        if at < phrasing.0 {
            return phrasing;
        }
        at -= phrasing.0;
    }
    unreachable!("at is below the sum of the weights")
}
