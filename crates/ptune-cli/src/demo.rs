//! `ptune demo`: the whole idea on two small models that are part of the program, offline, within a minute.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use ptune::Device;
use ptune::demo::{self, Facts, Lesson, ModelFacts, Plan, Range, Surveyed};
use ptune::report::grouped;
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
const CELLS: usize = 10;
/// Prompts of a relation that are further apart than this are told.
const APART: f64 = 0.1;
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
            "Two small language models, part of this program, have read {} facts in English and Korean.",
            grouped(facts.facts)
        ),
        "A prompt asks for a fact. It is tested on facts that it was not trained on; the model has read them all."
            .into(),
        "P@1: of how many facts the right word comes first. Majority: always the most frequent word. Random: a model"
            .into(),
        format!("of random weights, asked the same. All numbers are of this run, from seed {}.", facts.seed),
    ];
    let models = facts.models.iter().map(|model| (None, of_model(model)));
    let parts = [
        (Some("Prompt by prompt"), prompts(facts)),
        (Some("In words, asked with the prompt that is worst as written"), questions(facts)),
        (Some("The same frozen model, another adapter, another task"), swaps(facts)),
        (None, end(facts, out)),
    ];
    for (title, part) in models.chain(parts).filter(|(_, part)| !part.is_empty()) {
        lines.push(String::new());
        lines.extend(title.map(str::to_owned));
        lines.extend(part);
    }
    lines.join("\n")
}

/// What prompts of a model come to, as written and tuned.
fn of_model(model: &ModelFacts) -> Vec<String> {
    let kind = if model.causal { "causal, GPT-2 layout" } else { "masked, BERT layout" };
    let mut lines = vec![
        format!("{}: {kind}, {} parameters, all frozen", model.name, grouped(model.frozen_parameters)),
        String::new(),
    ];
    for language in ["en", "ko"] {
        lines.extend(survey(model, language));
    }
    lines.push(String::new());
    lines.push(format!("  {:<24}{:^29}  {:^29}  {}", "", "as written", "after P-tuning", "to compare"));
    lines.push(format!("  {:<24}{}  {}  majority  random", "P@1 of test facts, %", heading(), heading()));
    for lesson in &model.lessons {
        let name = format!("{:<15} {:<8}", lesson.relation.replace('_', " "), name_of(lesson.language));
        let beside = format!("{:>8.1}  {:>6.1}", 100.0 * lesson.majority, 100.0 * lesson.random_weights);
        lines.push(format!("  {name}{}  {}  {beside}", drawn(&lesson.by_hand), drawn(&lesson.tuned)));
    }
    lines
}

/// All relations in a language, as written.
fn survey(model: &ModelFacts, language: &str) -> Option<String> {
    let of: Vec<&Surveyed> = model.surveyed.iter().filter(|surveyed| surveyed.language == language).collect();
    let ranges = |range: &dyn Fn(&Surveyed) -> Option<Range>| -> Option<(f64, f64, usize)> {
        let ranges: Vec<Range> = of.iter().filter_map(|surveyed| range(surveyed)).collect();
        let prompts: usize = ranges.iter().map(|range| range.prompts).sum();
        let sum: f64 = ranges.iter().map(|range| range.mean * range.prompts as f64).sum();
        let worst = ranges.iter().map(|range| range.worst).reduce(f64::min)?;
        Some((100.0 * sum / prompts as f64, 100.0 * worst, prompts))
    };
    let ((read, read_worst, phrasings), (edited, edited_worst, edits)) =
        (ranges(&|surveyed| surveyed.phrasings)?, ranges(&|surveyed| surveyed.edits)?);
    let apart = of.iter().filter(|surveyed| surveyed.by_hand.spread >= APART).count();
    Some(format!(
        "  {:<8} {phrasings} prompts that it has read: mean {read:.1}, worst {read_worst:.1}; {edits} one word away: mean \
         {edited:.1}, worst {edited_worst:.1}.\n           In {apart} of {} relations the best and the worst prompt are {:.0} \
         points apart or more.",
        name_of(language),
        of.len(),
        100.0 * APART,
    ))
}

fn heading() -> String {
    format!("{:<CELLS$} {:>5} {:>5} {:>5}", "0      100", "worst", "mean", "best")
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
    let note = "* one word away from what it has read";
    let width = examples.max().unwrap_or(0).max(note.width() - 2);
    let mut lines = vec![format!("  {}  as written  tuned", padded(note, width + 2))];
    for prompt in lessons.iter().flat_map(|lesson| &lesson.prompts) {
        let mark = if prompt.kind == "edit" { '*' } else { ' ' };
        let (before, after) = (100.0 * prompt.by_hand.p_at_1, 100.0 * prompt.tuned.p_at_1);
        lines.push(format!("  {mark} {}  {before:>10.1}  {after:>5.1}", padded(&prompt.example, width)));
    }
    lines
}

/// Answers of each model in each language.
fn questions(facts: &Facts) -> Vec<String> {
    let mut rows = vec![["", "", "as written", "tuned", "right"].map(String::from)];
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
    let (Some(lesson), Some(model)) = (lessons.first(), facts.models.first()) else { return Vec::new() };
    let prompts = || lessons.iter().flat_map(|lesson| &lesson.prompts);
    let changed = |better: &dyn Fn(f64, f64) -> bool| {
        prompts().filter(|prompt| better(prompt.tuned.p_at_1, prompt.by_hand.p_at_1)).count()
    };
    let (adapter, steps) = (&lesson.adapter, model.training.steps);
    let memory = peak_rss_mb().map_or("?".into(), |mb| mb.to_string());
    vec![
        format!(
            "{} prompts tuned, {steps} steps each: {} better than as written, {} worse, {} equal.",
            prompts().count(),
            changed(&|tuned, written| tuned > written),
            changed(&|tuned, written| tuned < written),
            changed(&|tuned, written| tuned == written),
        ),
        format!(
            "Trained: {} parameters of an LSTM. Kept: the {} x {} numbers that it computes, {:.1} KB on disk.",
            grouped(adapter.trained_parameters),
            adapter.rows,
            adapter.width,
            adapter.bytes as f64 / 1000.0,
        ),
        format!("{:.1} s, peak memory {memory} MB", facts.seconds),
        format!("try:    ptune predict {} --field sub_label={}", adapter.path, subject(facts)),
        format!("report: {}", out.join(demo::REPORT).display()),
    ]
}

/// Whom to ask about: a test fact.
fn subject(facts: &Facts) -> String {
    let subject = facts.swaps.first().map_or("Iceland", |swap| &swap.subject);
    if subject.contains(' ') { format!("\"{subject}\"") } else { subject.to_owned() }
}

fn name_of(language: &str) -> &'static str {
    if language == "ko" { "Korean" } else { "English" }
}

/// A text with spaces behind it; a Hangul syllable takes two cells.
fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_stand_below_one_another_in_korean_too() {
        let out = tempfile::tempdir().unwrap();
        let facts = demo::run(&Plan::tiny(), &out.path().join("demo"), &Device::processor(Some(2)), &mut |_| {});
        let facts = facts.unwrap();
        let text = to_text(&facts, Path::new("demo"));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() < 70 && lines.iter().all(|line| line.width() <= 110), "{text}");
        let at = lines.iter().position(|line| line.contains("as written  tuned")).unwrap();
        let end = lines[at].width();
        let rows: Vec<&&str> = lines[at + 1..].iter().take_while(|line| !line.is_empty()).collect();
        assert!(rows.len() > 2 && rows.iter().any(|row| !row.is_ascii()), "{text}");
        assert!(rows.iter().all(|row| row.width() == end), "{text}");
        assert_eq!(lines.last(), Some(&"report: demo/report.html"));
        let object = to_json(&facts).unwrap();
        for key in ["seed", "models", "swaps", "seconds", "out", "peak_rss_mb"] {
            assert!(object.get(key).is_some(), "docs/demo.md names {key}");
        }
    }
}
