//! `ptune predict ADAPTER`: answers with probabilities; JSON lines in, JSON lines out, order kept.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;

use anyhow::Result;
use ptune::data::{Example, jsonl};
use ptune::predict::{Prediction, Predictor};
use ptune::{Device, Error};
use serde_json::{Map, Value, json};

use crate::progress::Progress;
use crate::report::{print, visible};

/// Lines computed together, and lines read ahead.
const BATCH: usize = 64;

/// Answer with a trained adapter
///
/// Either one example from --field, or one example a line from --input: a JSON object a line in, a JSON object a line
/// out, in the same order. A line that cannot be answered yields {"line":n,"error":"..."} in its place, and the exit
/// status is 2 at the end.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("examples").args(["fields", "input"]).required(true).multiple(true)))]
pub(crate) struct Arguments {
    /// The adapter's directory
    adapter: PathBuf,
    /// A field of the example, as in --field text="the soup was cold"; may be repeated
    #[arg(long = "field", value_name = "NAME=TEXT", conflicts_with = "input")]
    fields: Vec<String>,
    /// A JSON-lines file, or - for standard input
    #[arg(long, value_name = "FILE|-")]
    input: Option<PathBuf>,
    /// The model's directory, or its name in the Hugging Face cache, when it has moved since the training
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// How many words to print for a task without label words
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    top: u16,
    /// Print JSON also for --field (--input always does)
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  ptune predict runs/first/adapter --field text=\"the soup was cold\"
  ptune predict runs/first/adapter --input reviews.jsonl > answers.jsonl
  tail -f reviews.jsonl | ptune predict runs/first/adapter --input -";

pub(crate) fn run(arguments: &Arguments, device: &Device) -> Result<ExitCode> {
    let example = arguments.input.is_none().then(|| example_from(&arguments.fields)).transpose()?;
    let mut progress = Progress::new();
    let predictor = Predictor::open(&arguments.adapter, arguments.model.as_deref(), device, &mut |done, total| {
        progress.update("loading", done, total, "");
    });
    progress.clear();
    let predictor = predictor?;
    let top = usize::from(arguments.top);
    match (&arguments.input, example) {
        (Some(input), _) => stream(&predictor, input, top),
        (None, Some(example)) => {
            let prediction = predictor.predict(&[example], top).remove(0)?;
            print(&if arguments.json { to_json(&prediction).to_string() } else { to_text(&prediction) })?;
            Ok(ExitCode::SUCCESS)
        }
        (None, None) => Err(Error::request("give --field or --input").into()),
    }
}

/// `--field name=text`, each once.
fn example_from(fields: &[String]) -> Result<Example, Error> {
    let mut named: Vec<(String, String)> = Vec::new();
    for field in fields {
        let Some((name, text)) = field.split_once('=') else {
            return Err(Error::request(format!("--field {field}: write NAME=TEXT, as in --field text=\"good soup\"")));
        };
        if named.iter().any(|(known, _)| known == name) {
            return Err(Error::request(format!("--field {name} is given twice")));
        }
        named.push((name.to_owned(), text.to_owned()));
    }
    Ok(Example::from_fields(named))
}

/// Answers lines as they come: whatever has been read, up to a batch, is computed together.
fn stream(predictor: &Predictor, input: &Path, top: usize) -> Result<ExitCode> {
    let source: Box<dyn Read + Send> = if input == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(input).map_err(|e| Error::read(input, e))?)
    };
    let lines = read_ahead(source, input);
    let mut failed = false;
    while let Ok(first) = lines.recv() {
        let mut batch = vec![first];
        batch.extend(lines.try_iter().take(BATCH - 1));
        let examples: Vec<Example> = batch.iter().filter_map(|line| line.as_ref().ok().cloned()).collect();
        let mut predictions = predictor.predict(&examples, top).into_iter();
        for line in batch {
            let number = line.as_ref().ok().and_then(Example::line);
            let none = || Error::Failed("no answer was computed for this line".into());
            match line.and_then(|_| predictions.next().ok_or_else(none)?) {
                Ok(prediction) => print(&to_json(&prediction).to_string())?,
                Err(Error::Line { line, message, .. }) => {
                    failed = true;
                    print(&json!({"line": line, "error": message}).to_string())?;
                }
                Err(error) if number.is_some() && error.is_request() => {
                    failed = true;
                    print(&json!({"line": number, "error": error.to_string()}).to_string())?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(if failed { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

/// The examples of `source`, read by another thread so that a slow pipe is answered line by line and a fast file in
/// whole batches.
fn read_ahead(source: Box<dyn Read + Send>, name: &Path) -> mpsc::Receiver<Result<Example, Error>> {
    let (send, receive) = mpsc::sync_channel(4 * BATCH);
    let lines = jsonl::Lines::new(BufReader::new(source), name);
    std::thread::spawn(move || {
        for line in lines {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

fn to_json(prediction: &Prediction) -> Value {
    match prediction {
        Prediction::Label { label, probabilities } => {
            let probabilities: Map<String, Value> =
                probabilities.iter().map(|(label, p)| (label.clone(), Value::from(*p))).collect();
            json!({"label": label, "probabilities": probabilities})
        }
        Prediction::Words(words) => {
            let top: Vec<Value> = words.iter().map(|(word, p)| json!({"word": word, "probability": p})).collect();
            json!({"top": top})
        }
    }
}

fn to_text(prediction: &Prediction) -> String {
    let rows = match prediction {
        Prediction::Label { probabilities, .. } => {
            let mut rows = probabilities.clone();
            rows.sort_by(|a, b| b.1.total_cmp(&a.1));
            rows
        }
        Prediction::Words(words) => words.clone(),
    };
    let lines = rows.iter().map(|(answer, p)| format!("{:>6.2} %  {}", p * 100.0, visible(answer)));
    lines.collect::<Vec<_>>().join("\n")
}
