//! One subject and one frozen model: another adapter makes another task of it.

use super::base::Base;
use super::facts::{Swap, SwapAnswer};
use super::lesson::Taught;
use crate::Result;
use crate::model::Model;
use crate::world::{Fact, Language};

/// For each language the first subject that is a test fact of the most relations, asked with the adapter of each.
pub(super) fn swaps(base: &Base, weights: &Model, taught: &[Taught<'_>]) -> Result<Vec<Swap>> {
    let of = |language: Language| taught.iter().filter(|taught| taught.probe.language == language).collect::<Vec<_>>();
    let swaps =
        Language::ALL.into_iter().filter_map(|language| swap(base, weights, language, &of(language)).transpose());
    swaps.collect()
}

fn swap(base: &Base, weights: &Model, language: Language, taught: &[&Taught<'_>]) -> Result<Option<Swap>> {
    let same = |a: &Taught<'_>, b: &Taught<'_>| a.probe.relation.table == b.probe.relation.table;
    let fact_of = |taught: &Taught<'_>, row: usize| -> Option<usize> {
        taught.probe.test.iter().position(|fact| fact.row == row)
    };
    // Every subject that is a test fact of some relation, with all relations of its table that test it.
    let mut best: Vec<(&Taught<'_>, &Fact)> = Vec::new();
    for first in taught {
        let mut subjects = first.probe.test.clone();
        subjects.sort_by_key(|fact| fact.row);
        for subject in subjects {
            let tested = taught.iter().filter(|other| same(first, other));
            let tested = tested.filter_map(|other| Some((*other, other.probe.test[fact_of(other, subject.row)?])));
            let tested: Vec<(&Taught<'_>, &Fact)> = tested.collect();
            if tested.len() > best.len() {
                best = tested;
            }
        }
    }
    if best.len() < 2 {
        return Ok(None);
    }
    let mut answers = Vec::new();
    for (taught, fact) in &best {
        let words = taught.prompts[taught.best].answers(base, weights, &taught.probe, &[*fact])?;
        answers.push(SwapAnswer {
            relation: taught.probe.relation.name.clone(),
            adapter: taught.adapter.path.clone(),
            bytes: taught.adapter.bytes,
            answer: words.into_iter().next().unwrap_or_default(),
            gold: fact.answer(language).into(),
        });
    }
    let subject = best[0].1.subject(language).into();
    Ok(Some(Swap { model: base.name.clone(), language: language.code(), subject, answers }))
}
