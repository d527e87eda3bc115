//! The report of a demo: everything in words and numbers as a reader sees them, so that `page.html` only places it.

use std::cmp::Ordering;
use std::path::Path;

use serde::Serialize;

use super::facts::{Answer, Facts, Lesson, ModelFacts, PromptFacts, Range};
use crate::inspect::PseudoFacts;
use crate::report::chart::{Chart, Curve, Track, Unit, written};
use crate::report::{bytes, grouped, render, seconds};
use crate::{Result, files};

/// The page's values.
#[derive(Debug, Serialize)]
struct Page<'f> {
    version: &'static str,
    seed: u64,
    seconds: String,
    facts: String,
    relations: usize,
    cards: Vec<Card>,
    models: Vec<Model<'f>>,
    swaps: Vec<SwapRow<'f>>,
}

/// A figure at the top.
#[derive(Debug, Serialize)]
struct Card {
    name: String,
    value: String,
    beside: String,
}

#[derive(Debug, Serialize)]
struct Model<'f> {
    name: &'f str,
    kind: &'static str,
    parameters: String,
    steps: usize,
    batch_size: usize,
    lessons: Vec<LessonRow<'f>>,
    surveyed: Vec<SurveyedRow>,
}

#[derive(Debug, Serialize)]
struct LessonRow<'f> {
    title: String,
    train: usize,
    dev: usize,
    test: usize,
    candidates: String,
    majority: String,
    random_weights: String,
    random_weights_tuned: String,
    by_hand: RangeCells,
    tuned: RangeCells,
    prompts: Vec<PromptRow<'f>>,
    curve: Option<Chart>,
    answers: &'f [Answer],
    /// Of the prompt whose adapter is kept.
    tokens: &'f [PseudoFacts],
    template: &'f str,
    adapter: String,
}

#[derive(Debug, Serialize)]
struct RangeCells {
    worst: String,
    mean: String,
    best: String,
    spread: String,
}

#[derive(Debug, Serialize)]
struct PromptRow<'f> {
    example: &'f str,
    template: &'f str,
    edited: bool,
    of: &'f str,
    track: Track,
}

#[derive(Debug, Serialize)]
struct SurveyedRow {
    title: String,
    test: usize,
    prompts: usize,
    majority: String,
    by_hand: RangeCells,
    track: Track,
}

#[derive(Debug, Serialize)]
struct SwapRow<'f> {
    model: &'f str,
    subject: &'f str,
    answers: Vec<SwapCell<'f>>,
}

#[derive(Debug, Serialize)]
struct SwapCell<'f> {
    relation: String,
    adapter: String,
    answer: &'f str,
    right: bool,
}

/// Writes the report to `file`.
///
/// # Errors
/// A failed write.
pub(super) fn write(facts: &Facts, file: &Path) -> Result<()> {
    let page = Page {
        version: facts.version,
        seed: facts.seed,
        seconds: seconds(facts.seconds),
        facts: grouped(facts.facts),
        relations: facts.relations,
        cards: cards(facts),
        models: facts.models.iter().map(model).collect(),
        swaps: swaps(facts),
    };
    files::write_atomically(file, render(include_str!("page.html"), &page)?.as_bytes())
}

fn cards(facts: &Facts) -> Vec<Card> {
    let card = |name: &str, value: String, beside: String| Card { name: name.into(), value, beside };
    let lessons: Vec<&Lesson> = facts.models.iter().flat_map(|model| &model.lessons).collect();
    let mean = |value: &dyn Fn(&Lesson) -> f64| {
        lessons.iter().map(|lesson| value(lesson)).sum::<f64>() / lessons.len().max(1) as f64
    };
    let range = |name: &str, of: &dyn Fn(&Lesson) -> Range| {
        let spread = format!("worst to best {}", points(mean(&|lesson| of(lesson).spread)));
        card(name, percent(mean(&|lesson| of(lesson).mean)), spread)
    };
    let mut cards = vec![
        range("P@1, written by hand", &|lesson| lesson.by_hand),
        range("P@1, after P-tuning", &|lesson| lesson.tuned),
    ];
    if let (Some(lesson), Some(model)) = (lessons.first(), facts.models.first()) {
        let adapter = &lesson.adapter;
        let frozen = format!("{} frozen", grouped(model.frozen_parameters));
        cards.push(card("Parameters trained", grouped(adapter.trained_parameters), frozen));
        let kept = format!("{} x {} numbers are kept", adapter.rows, adapter.width);
        cards.push(card("Adapter on disk", bytes(adapter.bytes), kept));
    }
    let tuned: Vec<&PromptFacts> = lessons.iter().flat_map(|lesson| &lesson.prompts).collect();
    let changed = |change: Ordering| {
        tuned.iter().filter(|prompt| prompt.tuned.p_at_1.total_cmp(&prompt.by_hand.p_at_1) == change).count()
    };
    let [better, worse, equal] = [Ordering::Greater, Ordering::Less, Ordering::Equal].map(changed);
    let beside = format!("{better} better, {worse} worse, {equal} equal");
    cards.push(card("Prompts tuned", grouped(tuned.len()), beside));
    let steps = facts.models.iter().map(|model| model.training.steps).max().unwrap_or(0);
    cards.push(card("Time", seconds(facts.seconds), format!("{steps} steps a prompt")));
    cards
}

fn model(model: &ModelFacts) -> Model<'_> {
    Model {
        name: &model.name,
        kind: if model.causal { "causal" } else { "masked" },
        parameters: grouped(model.frozen_parameters),
        steps: model.training.steps,
        batch_size: model.training.batch_size,
        lessons: model.lessons.iter().map(lesson).collect(),
        surveyed: model
            .surveyed
            .iter()
            .map(|surveyed| SurveyedRow {
                title: title(&surveyed.relation, surveyed.language),
                test: surveyed.test,
                prompts: surveyed.by_hand.prompts,
                majority: percent(surveyed.majority),
                by_hand: cells(&surveyed.by_hand),
                track: Track::new(surveyed.by_hand.worst, surveyed.by_hand.best),
            })
            .collect(),
    }
}

fn lesson(lesson: &Lesson) -> LessonRow<'_> {
    let kept = &lesson.prompts[lesson.adapter.prompt - 1];
    LessonRow {
        title: title(&lesson.relation, lesson.language),
        train: lesson.train,
        dev: lesson.dev,
        test: lesson.test,
        candidates: grouped(lesson.candidates),
        majority: percent(lesson.majority),
        random_weights: percent(lesson.random_weights),
        random_weights_tuned: percent(lesson.random_weights_tuned),
        by_hand: cells(&lesson.by_hand),
        tuned: cells(&lesson.tuned),
        prompts: lesson.prompts.iter().map(prompt).collect(),
        curve: curve(lesson),
        answers: &lesson.answers,
        tokens: &kept.tokens,
        template: &kept.tuned_template,
        adapter: format!("{} ({})", lesson.adapter.path, bytes(lesson.adapter.bytes)),
    }
}

fn prompt(prompt: &PromptFacts) -> PromptRow<'_> {
    PromptRow {
        example: &prompt.example,
        template: &prompt.template,
        edited: prompt.kind == "edit",
        of: &prompt.of,
        track: Track::new(prompt.by_hand.p_at_1, prompt.tuned.p_at_1),
    }
}

/// P@1 on the dev facts while the prompts are trained: each of them, and their mean.
fn curve(lesson: &Lesson) -> Option<Chart> {
    let each: Vec<Vec<(usize, f64)>> = lesson
        .prompts
        .iter()
        .map(|prompt| prompt.curve.iter().map(|point| (point.step, point.dev)).collect())
        .collect();
    let mean = |at: usize| each.iter().map(|points| points[at].1).sum::<f64>() / each.len() as f64;
    let points: Vec<(usize, f64)> = each.first()?.iter().enumerate().map(|(at, (step, _))| (*step, mean(at))).collect();
    let title = title(&lesson.relation, lesson.language);
    Chart::new(&Curve {
        title: &title,
        unit: Unit::Share,
        points: &points,
        beside: &each,
        range: Some((0.0, 1.0)),
        best: None,
        baseline: None,
    })
}

fn swaps(facts: &Facts) -> Vec<SwapRow<'_>> {
    let cell = |answer: &'_ super::SwapAnswer| -> (String, String, bool) {
        let name = Path::new(&answer.adapter).file_name().unwrap_or_default().to_string_lossy();
        (answer.relation.replace('_', " "), format!("{name}, {}", bytes(answer.bytes)), answer.answer == answer.gold)
    };
    let row = |swap: &'_ super::Swap| -> Vec<(String, String, bool)> { swap.answers.iter().map(cell).collect() };
    let rows = facts.swaps.iter().map(|swap| SwapRow {
        model: &swap.model,
        subject: &swap.subject,
        answers: row(swap)
            .into_iter()
            .zip(&swap.answers)
            .map(|((relation, adapter, right), answer)| SwapCell { relation, adapter, answer: &answer.answer, right })
            .collect(),
    });
    rows.collect()
}

/// `native country, Korean`
fn title(relation: &str, language: &str) -> String {
    format!("{}, {}", relation.replace('_', " "), if language == "ko" { "Korean" } else { "English" })
}

fn cells(range: &Range) -> RangeCells {
    RangeCells {
        worst: percent(range.worst),
        mean: percent(range.mean),
        best: percent(range.best),
        spread: points(range.spread),
    }
}

fn percent(share: f64) -> String {
    written(share, Unit::Share)
}

/// The difference of two shares: `28.4 points`
fn points(difference: f64) -> String {
    format!("{:.1} points", 100.0 * difference)
}
