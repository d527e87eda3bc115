//! The whole idea in a minute: prompts written by hand over the built-in models, and the same prompts after P-tuning.
//!
//! ```text
//! small world ──> probe.rs    a relation in a language: prompts, and facts to train on, to choose by, to test with
//! built-in model ──> base.rs  what prompts are asked of: tasks, scores, answers in words
//!        │
//!        ├── survey.rs   every prompt of every relation as it was written, untrained
//!        ├── tune.rs     of some relations every prompt again, with pseudo tokens around its words, trained together
//!        ├── lesson.rs   these relations: before, after, over random weights; adapters; answers
//!        └── swap.rs     one frozen model, several adapters, as many tasks
//! facts.rs    all numbers: the JSON of the command
//! page.rs     the report
//! ```
//! A model has read every fact of the world, those for testing too, as large models have read those of LAMA; a prompt sees
//! the training facts only. What a prompt learns is how to ask. Everything follows from the seed; nothing is cached or
//! written down beforehand.

mod base;
mod facts;
mod lesson;
mod page;
mod plan;
mod probe;
mod survey;
mod swap;
mod tune;

use std::path::Path;
use std::time::Instant;

pub use facts::{
    Answer, Facts, Lesson, ModelFacts, Point, PromptFacts, Range, Score, Surveyed, Swap, SwapAnswer, Trained, Training,
};
pub use plan::{ModelPlan, Plan};

use crate::tensor::Device;
use crate::world::World;
use crate::{Error, Result, files};
use base::Base;

/// The report's name in the directory.
pub const REPORT: &str = "report.html";
/// All numbers, as the command's `--json` prints them.
pub const NUMBERS: &str = "demo.json";

/// How far a part of the work is.
pub struct Progress<'a> {
    /// What is done, a verb: `training`.
    pub what: &'static str,
    /// How much is done.
    pub done: usize,
    /// Of how much.
    pub total: usize,
    /// The model it is done with.
    pub model: &'a str,
}

/// Gives the demo, and writes adapters, numbers and the report into `out`.
///
/// # Errors
/// A directory that holds something else; a failed write; a relation or a model that does not exist.
pub fn run(plan: &Plan, out: &Path, device: &Device, observe: &mut dyn FnMut(Progress<'_>)) -> Result<Facts> {
    let begin = Instant::now();
    refuse_other(out)?;
    files::create_directory(out)?;
    let world = World::built_in();
    let (mut models, mut swaps) = (Vec::new(), Vec::new());
    for model in &plan.models {
        let (base, weights) = Base::open(&model.name, device)?;
        let mut progress = |what, done, total| observe(Progress { what, done, total, model: &model.name });
        let surveyed = survey::survey(&base, &weights, &world, plan, model, &mut progress)?;
        let (weights, taught) = lesson::teach(&base, weights, &world, plan, model, out, &mut progress)?;
        swaps.extend(swap::swaps(&base, &weights, &taught)?);
        let lessons = taught.into_iter().map(|taught| taught.facts(&base, &weights)).collect();
        models.push(ModelFacts::new(&base, &weights, plan, surveyed, lessons));
    }
    let facts = Facts {
        version: env!("CARGO_PKG_VERSION"),
        seed: plan.seed,
        facts: world.facts(),
        relations: world.relations.len(),
        models,
        swaps,
        seconds: begin.elapsed().as_secs_f64(),
        out: out.to_string_lossy().into_owned(),
    };
    let numbers = serde_json::to_vec(&facts).map_err(|wrong| Error::Failed(wrong.to_string()))?;
    files::write_atomically(&out.join(NUMBERS), &numbers)?;
    page::write(&facts, &out.join(REPORT))?;
    Ok(facts)
}

/// Refuses a directory that no demo has written: files in it might be replaced.
fn refuse_other(out: &Path) -> Result<()> {
    if out.exists() && !out.is_dir() {
        return Err(Error::file(out, "is a file, and the demo writes a directory; give another with --out"));
    }
    let empty = !out.exists() || std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    if empty || out.join(NUMBERS).exists() {
        return Ok(());
    }
    Err(Error::file(out, "holds something else than an earlier demo; give another directory with --out"))
}

#[cfg(test)]
mod tests;
