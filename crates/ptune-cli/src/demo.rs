//! `ptune demo`: the whole idea on two small models that are part of the program, offline, within a minute.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use ptune::Device;
use ptune::demo::{self, Facts, Lesson, ModelFacts, Plan, Range};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use crate::progress::Progress;
use crate::report::{peak_rss_mb, print, visible};

/// See what P-tuning does, on two small models that are part of this program
///
/// Asks for facts with prompts that a person would think equal, in English and in Korean: as they were written, and after
/// P-tuning, which trains a few vectors around their words and leaves the model as it is. Needs no model, no data and no
/// network, and takes less than a minute on two cores. Every number that it prints is computed on the spot.
///
/// Writes a directory: report.html, a page about it all; demo.json, the numbers; and an adapter for each relation, which
/// "ptune predict" and "ptune inspect" take. An earlier demo in it is replaced.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What is drawn: which facts are for testing, the first values of what is trained, the order of the facts
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The directory to write into; it is created
    #[arg(long, value_name = "DIR", default_value = "ptune-demo")]
    out: PathBuf,
    /// Print one JSON object with every number on standard output and nothing else there
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  ptune demo
  ptune demo --seed 1 --out other
  ptune predict ptune-demo/world-mlm/capital-en --field sub_label=Iceland
  ptune inspect ptune-demo/world-mlm/capital-ko";

/// Cells of a drawn range, from 0 to 100 %.
const CELLS: usize = 20;
/// Questions in words for each model and language.
const QUESTIONS: usize = 2;

pub(crate) fn run(arguments: &Arguments, device: &Device) -> Result<ExitCode> {
    let mut progress = Progress::new();
    let facts = demo::run(&Plan::usual(arguments.seed), &arguments.out, device, &mut |at| {
        progress.update(at.what, at.done, at.total, at.model);
    });
    progress.clear();
    let facts = facts?;
    print(&if arguments.json { to_json(&facts)?.to_string() } else { visible(&to_text(&facts, &arguments.out)) })?;
    Ok(ExitCode::SUCCESS)
}

fn to_json(facts: &Facts) -> Result<Value> {
    let mut object = serde_json::to_value(facts)?;
    object["peak_rss_mb"] = json!(peak_rss_mb());
    Ok(object)
}

fn to_text(facts: &Facts, out: &Path) -> String {
    let mut lines = vec![
        format!(
            "Two small language models are part of this program. They have read {} facts, in English and in Korean.",
            grouped(facts.facts)
        ),
        "Prompts ask for those facts. A prompt is tested with facts that it was not trained on; the model has read all.".into(),
        format!("Every number was computed in this run, from seed {}. P@1: the share of facts whose answer came first.", facts.seed),
    ];
    for model in &facts.models {
        lines.push(String::new());
        lines.extend(of_model(model));
    }
    for (title, part) in [
        ("Prompt by prompt", prompts(facts)),
        ("In words", questions(facts)),
        ("The same frozen model, another adapter, another task", swaps(facts)),
    ] {
        if !part.is_empty() {
            lines.push(String::new());
            lines.push(title.into());
            lines.extend(part);
        }
    }
    lines.push(String::new());
    lines.extend(end(facts, out));
    lines.join("\n")
}

/// What prompts of a model come to, as written and tuned.
fn of_model(model: &ModelFacts) -> Vec<String> {
    let kind = if model.causal { "causal, GPT-2 layout" } else { "masked, BERT layout" };
    let prompts: usize = model.surveyed.iter().map(|surveyed| surveyed.by_hand.prompts).sum();
    let survey = ["en", "ko"].map(|language| {
        let (mean, spread) = model.by_hand_in(language);
        format!("{} mean {:.1}, worst to best {:.1} points apart", name_of(language), 100.0 * mean, 100.0 * spread)
    });
    let mut lines = vec![
        format!("{}: {kind}, {} parameters, frozen", model.name, grouped(model.frozen_parameters)),
        format!("  all {prompts} prompts written by hand, P@1 in %: {}", survey.join("; ")),
        String::new(),
        format!("  {:<26}{:^38}   {:^38}", "P@1 of test facts in %", "written by hand", "after P-tuning"),
        format!("  {:<16}{:<10}{}   {}   {:>8} {:>6}", "", "", heading(), heading(), "majority", "random"),
    ];
    for lesson in &model.lessons {
        let name = format!("{:<16}{:<10}", lesson.relation.replace('_', " "), name_of(lesson.language));
        let beside = format!("{:>8.1} {:>6.1}", 100.0 * lesson.majority, 100.0 * lesson.random_weights);
        lines.push(format!("  {name}{}   {}   {beside}", drawn(&lesson.by_hand), drawn(&lesson.tuned)));
    }
    lines
}

fn heading() -> String {
    format!("{:<CELLS$} {:>5} {:>5} {:>5}", "0               100", "worst", "mean", "best")
}

/// `········━━━━━━━●━━━━  41.5  77.6 100.0`
fn drawn(range: &Range) -> String {
    let cell = |share: f64| ((share * CELLS as f64) as usize).min(CELLS - 1);
    let (worst, mean, best) = (cell(range.worst), cell(range.mean), cell(range.best));
    let cells = (0..CELLS).map(|at| match at {
        at if at == mean => '●',
        at if (worst..=best).contains(&at) => '━',
        _ => '·',
    });
    let cells: String = cells.collect();
    format!("{cells} {:>5.1} {:>5.1} {:>5.1}", 100.0 * range.worst, 100.0 * range.mean, 100.0 * range.best)
}

/// Of each language the relation whose prompts are furthest apart.
fn widest<'f>(model: &'f ModelFacts, language: &str) -> Option<&'f Lesson> {
    let of = model.lessons.iter().filter(|lesson| lesson.language == language).rev();
    of.max_by(|a, b| a.by_hand.spread.total_cmp(&b.by_hand.spread))
}

/// Every prompt of the widest relations of the first model.
fn prompts(facts: &Facts) -> Vec<String> {
    let Some(model) = facts.models.first() else { return Vec::new() };
    let lessons: Vec<&Lesson> = ["en", "ko"].iter().filter_map(|language| widest(model, language)).collect();
    let examples = lessons.iter().flat_map(|lesson| &lesson.prompts).map(|prompt| prompt.example.width());
    let width = examples.max().unwrap_or(0);
    let note = "(* one word away from what the model has read)";
    let mut lines = vec![format!("  {}   by hand   tuned", padded(note, width + 2))];
    for lesson in lessons {
        for prompt in &lesson.prompts {
            let mark = if prompt.kind == "edit" { '*' } else { ' ' };
            let (before, after) = (100.0 * prompt.by_hand.p_at_1, 100.0 * prompt.tuned.p_at_1);
            lines.push(format!("  {mark} {}   {before:>7.1}   {after:>5.1}", padded(&prompt.example, width)));
        }
    }
    lines
}

/// Answers of each model in each language.
fn questions(facts: &Facts) -> Vec<String> {
    let mut rows =
        vec![["".into(), "question to a test fact".into(), "by hand".into(), "tuned".into(), "right".into()]];
    for model in &facts.models {
        for lesson in ["en", "ko"].iter().filter_map(|language| widest(model, language)) {
            rows.extend(lesson.answers.iter().take(QUESTIONS).map(|answer| {
                let [question, by_hand, tuned, gold] = [&answer.question, &answer.by_hand, &answer.tuned, &answer.gold];
                [model.name.clone(), question.clone(), by_hand.clone(), tuned.clone(), gold.clone()]
            }));
        }
    }
    let widths: Vec<usize> =
        (0..5).map(|at| rows.iter().map(|row: &[String; 5]| row[at].width()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 5]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| padded(cell, *width)).collect();
        format!("  {}", cells.join("   ")).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn swaps(facts: &Facts) -> Vec<String> {
    let line = |swap: &demo::Swap| {
        let answers: Vec<String> = swap
            .answers
            .iter()
            .map(|answer| {
                let wrong = if answer.answer == answer.gold { "" } else { " (wrong)" };
                format!("+ {} -> {}{wrong}", answer.relation.replace('_', " "), answer.answer)
            })
            .collect();
        format!("  {}  {}   {}", swap.model, swap.subject, answers.join("   "))
    };
    facts.swaps.iter().map(line).collect()
}

/// What was trained and kept, how long it took, and where it is.
fn end(facts: &Facts, out: &Path) -> Vec<String> {
    let lessons: Vec<&Lesson> = facts.models.iter().flat_map(|model| &model.lessons).collect();
    let tuned: usize = lessons.iter().map(|lesson| lesson.prompts.len()).sum();
    let memory = peak_rss_mb().map_or("?".into(), |mb| mb.to_string());
    let mut lines = Vec::new();
    if let (Some(lesson), Some(model)) = (lessons.first(), facts.models.first()) {
        let adapter = &lesson.adapter;
        lines.push(format!(
            "{tuned} prompts tuned for {} steps each; an encoder of {} parameters is trained and thrown away, {} x {} numbers are",
            model.training.steps,
            grouped(adapter.trained_parameters),
            adapter.rows,
            adapter.width,
        ));
        lines.push(format!(
            "kept: an adapter of {:.1} KB on disk. {:.1} s, peak memory {memory} MB",
            adapter.bytes as f64 / 1000.0,
            facts.seconds
        ));
        lines.push(format!("try: ptune predict {} --field sub_label=Iceland", adapter.path));
    }
    lines.push(format!("report: {}", out.join(demo::REPORT).display()));
    lines
}

fn name_of(language: &str) -> &'static str {
    if language == "ko" { "Korean" } else { "English" }
}

/// A text with spaces behind it; a Hangul syllable takes two cells.
fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// `2,074,752`
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let places = digits.chars().enumerate();
    let grouped = places.map(|(at, digit)| {
        let comma = at > 0 && (digits.len() - at).is_multiple_of(3);
        format!("{}{digit}", if comma { "," } else { "" })
    });
    grouped.collect()
}
