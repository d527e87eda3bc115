//! `ptune world DIR`: the small world as files: text to train a model on, rows to probe it with, prompts to compare.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use ptune::world::{Language, World, Written, write};
use serde_json::json;

use crate::report::{print, visible};

/// Write the small world: text about real facts, tasks that probe for them, prompts
///
/// A few thousand well-known facts (capitals, elements, composers, past tenses ...) are part of
/// this program, in English and in Korean. The same seed writes the same files:
///
///   corpus.txt               each fact in many phrasings: text to train a small model on
///   en/RELATION/train.jsonl  facts to tune a prompt on; dev.jsonl and test.jsonl beside it
///                            {"sub_label": "Japan", "obj_label": "Tokyo", "language": "en"}
///   en/answers.txt           every answer, a word a line: a vocabulary for task.vocabulary
///   ko/...                   the same in Korean, the same facts in the same part
///   prompts.jsonl            prompts that a person would think equal, as templates
///   answers.txt              the answers of both languages
///   world-mlm.toml           run files for `ptune pretrain`: they make the models world-mlm and
///   world-gpt.toml           world-gpt that are part of this program
///
/// The corpus says all facts, those for testing too: a prompt is trained on the training facts
/// only, and asked for others that the model has read about.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The directory to write into; it is created, and files of these names in it are replaced
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// What is drawn: phrasings, their order, and which facts are for training
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Sentences of corpus.txt, half of them Korean; at least one for each fact and language
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(..=20_000_000))]
    sentences: u32,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  ptune world world                          200,000 sentences, about 9 MB
  ptune world small --sentences 10000        little more than every fact once
  ptune world other --seed 1                 other sentences, other facts for testing
  ptune world world && ptune pretrain world/world-mlm.toml --out world-mlm

A task in a run file:
  [data]
  train = \"world/ko/capital/train.jsonl\"     # dev and test likewise
  [task]
  template = \"[P*3] {sub_label} [P*3] [MASK] 입니다.\"
  target = \"obj_label\"
  vocabulary = \"world/ko/answers.txt\"";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let world = World::built_in();
    let written = write(&world, &arguments.directory, arguments.seed, arguments.sentences as usize)?;
    let answers = Language::ALL.map(|language| world.answers(language).len());
    print(&if arguments.json {
        let object = json!({
            "out": arguments.directory,
            "lines": written.lines,
            "bytes": written.bytes,
            "facts": world.facts(),
            "relations": world.relations.len(),
            "answers": {"en": answers[0], "ko": answers[1]},
            "prompts": written.prompts,
        });
        object.to_string()
    } else {
        visible(&to_text(&arguments.directory, &world, &written, answers))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn to_text(directory: &Path, world: &World, written: &Written, [english, korean]: [usize; 2]) -> String {
    let (facts, relations) = (world.facts(), world.relations.len());
    let lines = [
        ("corpus.txt", format!("{} lines, {:.1} MB", written.lines, written.bytes as f64 / 1e6)),
        ("en/, ko/", format!("{facts} facts of {relations} relations, in English and in Korean")),
        ("answers.txt", format!("{english} English and {korean} Korean words")),
        ("prompts.jsonl", format!("{} prompts", written.prompts)),
    ];
    let lines = lines.map(|(name, what)| format!("\n{name:<14} {what}"));
    format!("{}{}", directory.display(), lines.concat())
}
