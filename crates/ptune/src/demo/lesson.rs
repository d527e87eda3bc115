//! Relations whose prompts are tuned: before, after, over random weights, and what is kept of it.

use std::path::Path;

use super::base::{Asked, Base};
use super::facts::{Answer, Lesson, PromptFacts, Range, Score, Trained};
use super::plan::{ModelPlan, Plan};
use super::probe::Probe;
use super::tune::{Learned, Pupil, tune};
use crate::adapter::{Adapter, Matrix, Tuned};
use crate::checkpoint::ModelDirectory;
use crate::inspect::pseudo_facts;
use crate::method::Injection;
use crate::model::Model;
use crate::train::metrics::Metrics;
use crate::train::{RunConfig, describe};
use crate::world::World;
use crate::{Error, Result, files, pretrain};

/// A relation in a language after its lesson.
pub(super) struct Taught<'w> {
    pub(super) probe: Probe<'w>,
    pub(super) prompts: Vec<TaughtPrompt>,
    /// Which of them is best on the dev facts.
    pub(super) best: usize,
    pub(super) adapter: Trained,
    candidates: usize,
    majority: f64,
    random_weights: f64,
    random_weights_tuned: f64,
    answers: Vec<Answer>,
}

/// A prompt before and after.
pub(super) struct TaughtPrompt {
    pub(super) pupil: Pupil,
    pub(super) learned: Learned,
    by_hand: Score,
    example: String,
}

/// The prompts of a relation that are about to be taught.
struct Class<'w> {
    probe: Probe<'w>,
    words: Vec<&'w str>,
    pupils: Vec<Pupil>,
    by_hand: Vec<Metrics>,
}

/// Tunes every prompt of the plan's relations, and saves the best adapter of each. The weights come back untouched.
pub(super) fn teach<'w>(
    base: &Base,
    weights: Model,
    world: &'w World,
    plan: &Plan,
    model: &ModelPlan,
    out: &Path,
    progress: &mut dyn FnMut(&'static str, usize, usize),
) -> Result<(Model, Vec<Taught<'w>>)> {
    let mut classes = Vec::new();
    for probe in Probe::named(world, &model.relations, plan.seed)? {
        classes.push(Class::new(base, &weights, probe, world, plan, model.prompts)?);
    }
    let random = over_random_weights(base, &classes, plan, progress)?;
    let pupils: Vec<&Pupil> = classes.iter().flat_map(|class| &class.pupils).collect();
    let total = plan.steps * pupils.len();
    let (weights, learned) = tune(base, weights, &pupils, plan, &mut |done| progress("training", done, total))?;
    let (mut learned, mut taught) = (learned.into_iter(), Vec::new());
    for (class, random) in classes.into_iter().zip(random) {
        let learned: Vec<Learned> = learned.by_ref().take(class.pupils.len()).collect();
        taught.push(class.end(base, &weights, learned, random, plan, out)?);
    }
    Ok((weights, taught))
}

/// The same prompts over a model of the same shape with random weights: their mean P@1 as written, and that of the first
/// after the same training.
fn over_random_weights(
    base: &Base,
    classes: &[Class<'_>],
    plan: &Plan,
    progress: &mut dyn FnMut(&'static str, usize, usize),
) -> Result<Vec<(f64, f64)>> {
    let failed = |wrong: std::io::Error| Error::Failed(format!("no directory for the random weights: {wrong}"));
    let place = tempfile::tempdir().map_err(failed)?;
    pretrain::write_untrained(place.path(), &base.directory, &base.spec, plan.seed)?;
    let (random, weights) = Base::over(&base.name, ModelDirectory::open(place.path())?, &base.device)?;
    let mut as_written = Vec::new();
    for class in classes {
        let mut shares = Vec::new();
        for prompt in class.probe.prompts.iter().take(class.pupils.len()) {
            let Asked { task, .. } = random.ask(&prompt.template, &class.words)?;
            let rows = task.rows(&class.probe.rows(&class.probe.test))?;
            shares.push(Score::of(&random.by_hand(&weights, &task, &rows)?).p_at_1);
        }
        as_written.push(Range::of(&shares).mean);
    }
    let pupils: Vec<&Pupil> = classes.iter().filter_map(|class| class.pupils.first()).collect();
    let total = plan.steps * pupils.len();
    let (_, learned) = tune(&random, weights, &pupils, plan, &mut |done| progress("control", done, total))?;
    Ok(as_written.into_iter().zip(learned.iter().map(|learned| learned.test.p_at_1)).collect())
}

impl<'w> Class<'w> {
    fn new(
        base: &Base,
        weights: &Model,
        probe: Probe<'w>,
        world: &'w World,
        plan: &Plan,
        most: usize,
    ) -> Result<Class<'w>> {
        let words = world.answers(probe.language);
        let [train, dev, test] = [&probe.train, &probe.dev, &probe.test].map(|facts| probe.rows(facts));
        let (mut pupils, mut by_hand) = (Vec::new(), Vec::new());
        for prompt in probe.prompts.iter().take(most) {
            let manual = base.ask(&prompt.template, &words)?.task;
            by_hand.push(base.by_hand(weights, &manual, &manual.rows(&test)?)?);
            let Asked { config, task } = base.ask(&around(&prompt.template), &words)?;
            let config = RunConfig { model: config.model, compute: config.compute, task: config.task, ..plan.config() };
            let [train, dev, test] = [task.rows(&train)?, task.rows(&dev)?, task.rows(&test)?];
            pupils.push(Pupil { asked: Asked { config, task }, train, dev, test });
        }
        Ok(Class { probe, words, pupils, by_hand })
    }

    fn end(
        self,
        base: &Base,
        weights: &Model,
        learned: Vec<Learned>,
        (random_weights, random_weights_tuned): (f64, f64),
        plan: &Plan,
        out: &Path,
    ) -> Result<Taught<'w>> {
        let Class { probe, words, pupils, by_hand } = self;
        let majority = by_hand.first().and_then(|metrics| metrics.get("majority")).unwrap_or_default();
        let mut prompts: Vec<TaughtPrompt> = Vec::new();
        for (((pupil, learned), metrics), written) in pupils.into_iter().zip(learned).zip(&by_hand).zip(probe.prompts) {
            let example = question(base, &written.template, &probe.rows(&probe.test[..1])[0])?;
            prompts.push(TaughtPrompt { pupil, learned, by_hand: Score::of(metrics), example });
        }
        let places = 0..prompts.len();
        // Of equal ones the first; chosen on dev, so that the test facts stay unseen.
        let best = places.clone().rev().max_by(|&a, &b| prompts[a].learned.dev.total_cmp(&prompts[b].learned.dev));
        let worst = places.rev().min_by(|&a, &b| prompts[a].by_hand.p_at_1.total_cmp(&prompts[b].by_hand.p_at_1));
        let (Some(best), Some(worst)) = (best, worst) else {
            return Err(Error::request(format!("'{}' has no prompt", probe.relation.name)));
        };
        let adapter = save(base, &probe, &prompts[best], best, out)?;
        let answers = answers(base, weights, &probe, &prompts[worst], &probe.prompts[worst].template, &words, plan)?;
        let candidates = words.len();
        Ok(Taught {
            probe,
            prompts,
            best,
            adapter,
            candidates,
            majority,
            random_weights,
            random_weights_tuned,
            answers,
        })
    }
}

/// A prompt with pseudo tokens around its words: three in front of it, three before the answer.
fn around(template: &str) -> String {
    format!("[P*3] {}", template.replacen("[MASK]", "[P*3] [MASK]", 1))
}

/// Saves a prompt as an adapter, as a run of its own would.
fn save(base: &Base, probe: &Probe<'_>, prompt: &TaughtPrompt, number: usize, out: &Path) -> Result<Trained> {
    let TaughtPrompt { pupil, learned, .. } = prompt;
    let path = out.join(&base.name).join(format!("{}-{}", probe.relation.name, probe.language.code()));
    let width = base.described.width;
    let mut description = describe(&pupil.asked.config, &pupil.asked.task, &base.described, true);
    description.metrics.dev.insert("p_at_1".into(), learned.dev);
    description.metrics.test.insert("p_at_1".into(), learned.test.p_at_1);
    let rows = learned.rows.len() / width;
    let (prompt, prefix, tuned) = (learned.rows.clone(), Matrix::default(), Tuned::default());
    Adapter { description, prompt, rows, width, prefix, tuned }.save(&path)?;
    Ok(Trained {
        bytes: files::directory_bytes(&path)?,
        path: path.to_string_lossy().into_owned(),
        prompt: number + 1,
        rows,
        width,
        trained_parameters: learned.trained_parameters,
    })
}

/// Answers of a prompt to the first test facts, before and after.
fn answers(
    base: &Base,
    weights: &Model,
    probe: &Probe<'_>,
    prompt: &TaughtPrompt,
    template: &str,
    words: &[&str],
    plan: &Plan,
) -> Result<Vec<Answer>> {
    let facts = &probe.test[..probe.test.len().min(plan.answers)];
    let rows = probe.rows(facts);
    let manual = base.ask(template, words)?.task;
    let by_hand = base.words(weights, &manual, &Injection::default(), &manual.rows(&rows)?)?;
    let tuned = prompt.answers(base, weights, probe, facts)?;
    let answer = |(((fact, row), by_hand), tuned)| -> Result<Answer> {
        let gold = crate::world::Fact::answer(fact, probe.language).into();
        Ok(Answer { question: question(base, template, row)?, gold, by_hand, tuned })
    };
    facts.iter().copied().zip(&rows).zip(by_hand).zip(tuned).map(answer).collect()
}

/// A prompt with a subject in place, up to the gap where the model reads no further.
fn question(base: &Base, template: &str, row: &crate::data::Example) -> Result<String> {
    let mut text = template.to_owned();
    for field in row.field_names() {
        text = text.replace(&format!("{{{field}}}"), &row.text(field)?);
    }
    let end = text.find("[MASK]").filter(|_| base.spec.causal).map_or(text.len(), |at| at + "[MASK]".len());
    Ok(text[..end].replace("[MASK]", "___"))
}

impl TaughtPrompt {
    /// What the tuned prompt answers about some facts.
    pub(super) fn answers(
        &self,
        base: &Base,
        weights: &Model,
        probe: &Probe<'_>,
        facts: &[&crate::world::Fact],
    ) -> Result<Vec<String>> {
        let (task, rows, width) = (&self.pupil.asked.task, &self.learned.rows, base.described.width);
        let rows = base.device.upload(rows.len() / width, width, rows);
        let prompt = Injection::new(weights, Some(rows), None);
        base.words(weights, task, &prompt, &task.rows(&probe.rows(facts))?)
    }
}

impl Taught<'_> {
    /// What is told of it.
    pub(super) fn facts(self, base: &Base, weights: &Model) -> Lesson {
        let shares =
            |share: &dyn Fn(&TaughtPrompt) -> f64| Range::of(&self.prompts.iter().map(share).collect::<Vec<_>>());
        let (by_hand, tuned) = (shares(&|prompt| prompt.by_hand.p_at_1), shares(&|prompt| prompt.learned.test.p_at_1));
        let prompt = |(written, taught): (&crate::world::Prompt, TaughtPrompt)| {
            let TaughtPrompt { pupil: Pupil { asked, .. }, learned, by_hand, example } = taught;
            PromptFacts {
                template: written.template.clone(),
                kind: written.kind.name(),
                of: written.of.clone(),
                example,
                by_hand,
                tuned_template: asked.config.task.template,
                tuned: learned.test,
                dev: learned.dev,
                best_step: learned.best_step,
                tokens: pseudo_facts(
                    weights.word_table().read(),
                    &learned.rows,
                    base.described.width,
                    &asked.task.tokenizer,
                ),
                curve: learned.curve,
            }
        };
        let Taught {
            probe, prompts, adapter, candidates, majority, random_weights, random_weights_tuned, answers, ..
        } = self;
        Lesson {
            relation: probe.relation.name.clone(),
            language: probe.language.code(),
            train: probe.train.len(),
            dev: probe.dev.len(),
            test: probe.test.len(),
            candidates,
            majority,
            random_weights,
            random_weights_tuned,
            by_hand,
            tuned,
            prompts: probe.prompts.iter().zip(prompts).map(prompt).collect(),
            adapter,
            answers,
        }
    }
}
