//! Every prompt of every relation as it was written: how far apart prompts are that a person would think equal.

use super::base::Base;
use super::facts::{Range, Score, Surveyed};
use super::plan::{ModelPlan, Plan};
use super::probe::Probe;
use crate::Result;
use crate::model::Model;
use crate::world::{Kind, Language, World};

/// Asks the test facts of every relation with each of its prompts.
pub(super) fn survey(
    base: &Base,
    weights: &Model,
    world: &World,
    plan: &Plan,
    model: &ModelPlan,
    progress: &mut dyn FnMut(&'static str, usize, usize),
) -> Result<Vec<Surveyed>> {
    let places = 0..world.relations.len().min(plan.surveyed);
    let probes: Vec<Probe<'_>> =
        places.flat_map(|place| Language::ALL.map(|language| Probe::new(world, place, language, plan.seed))).collect();
    let total = probes.iter().map(|probe| probe.prompts.len().min(model.prompts)).sum();
    let (mut done, mut surveyed) = (0, Vec::new());
    for probe in &probes {
        let words = world.answers(probe.language);
        let rows = probe.rows(&probe.test);
        let (mut shares, mut majority) = (Vec::new(), 0.0);
        for prompt in probe.prompts.iter().take(model.prompts) {
            let asked = base.ask(&prompt.template, &words)?;
            let metrics = base.by_hand(weights, &asked.task, &asked.task.rows(&rows)?)?;
            shares.push(Score::of(&metrics).p_at_1);
            majority = metrics.get("majority").unwrap_or_default();
            done += 1;
            progress("asking", done, total);
        }
        let of_kind = |kind| -> Vec<f64> {
            let prompts = probe.prompts.iter().zip(&shares).filter(|(prompt, _)| prompt.kind == kind);
            prompts.map(|(_, share)| *share).collect()
        };
        surveyed.push(Surveyed {
            relation: probe.relation.name.clone(),
            language: probe.language.code(),
            test: probe.test.len(),
            majority,
            by_hand: Range::of(&shares),
            phrasings: Range::of_any(&of_kind(Kind::Phrasing)),
            edits: Range::of_any(&of_kind(Kind::Edit)),
        });
    }
    Ok(surveyed)
}
