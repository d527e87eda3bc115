//! `ptune predict ADAPTER`: answers with probabilities; JSON lines in, JSON lines out, order kept.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};

use anyhow::Result;
use ptune::data::{Encoded, Example, jsonl};
use ptune::predict::{Prediction, Predictor};
use ptune::{Device, Error};
use serde_json::{Map, Value, json};

use crate::hub;
use crate::progress::Progress;
use crate::report::{print, visible};

/// Lines computed together: at most so many, and so many tokens, as the model computes at once.
const BATCH_LINES: usize = 128;
const BATCH_TOKENS: usize = 1024;
/// Lines read and cut into tokens ahead.
const AHEAD: usize = 512;

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
    hub::fetch_base(&arguments.adapter, arguments.model.as_deref())?;
    let predictor = Predictor::open(&arguments.adapter, arguments.model.as_deref(), device, &mut |done, total| {
        progress.update("loading", done, total, "");
    });
    progress.clear();
    let predictor = predictor?;
    let top = usize::from(arguments.top);
    match (&arguments.input, example) {
        (Some(input), _) => stream(predictor, input, top),
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

/// A line of the input, cut into tokens. `number` is that of a line that could be read.
struct Line {
    number: Option<usize>,
    row: Result<Encoded, Error>,
}

/// Answers lines as they come: whatever has been read, up to a batch, is computed together.
fn stream(predictor: Predictor, input: &Path, top: usize) -> Result<ExitCode> {
    let source: Box<dyn Read + Send> = if input == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(input).map_err(|e| Error::read(input, e))?)
    };
    let predictor = Arc::new(predictor);
    let lines = read_ahead(source, input, Arc::clone(&predictor));
    let mut failed = false;
    let mut waiting = None;
    while let Some(first) = waiting.take().or_else(|| lines.recv().ok()) {
        let mut batch = vec![first];
        let mut tokens = batch[0].tokens();
        while let Some(line) = (batch.len() < BATCH_LINES).then(|| lines.try_recv().ok()).flatten() {
            tokens += line.tokens();
            if tokens > BATCH_TOKENS {
                waiting = Some(line);
                break;
            }
            batch.push(line);
        }
        failed |= answer(&predictor, batch, top)?;
    }
    Ok(if failed { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

/// Prints the answers to a batch, and what is wrong with a line in its place; whether there was any such line.
fn answer(predictor: &Predictor, batch: Vec<Line>, top: usize) -> Result<bool> {
    let (numbers, rows): (Vec<_>, Vec<_>) = batch.into_iter().map(|line| (line.number, line.row)).unzip();
    let mut answers = Vec::with_capacity(numbers.len());
    let (mut bad_lines, mut failed) = (false, None);
    for (number, prediction) in numbers.into_iter().zip(predictor.answer(rows, top)) {
        match prediction.map_err(|error| in_its_place(error, number)) {
            Ok(prediction) => answers.push(to_json(&prediction).to_string()),
            Err(Ok(answer)) => {
                bad_lines = true;
                answers.push(answer.to_string());
            }
            Err(Err(error)) => {
                failed = Some(error);
                break;
            }
        }
    }
    if !answers.is_empty() {
        print(&answers.join("\n"))?;
    }
    failed.map_or(Ok(bad_lines), |error| Err(error.into()))
}

/// What stands in the place of an answer, where the line is to blame; the other errors end the work.
fn in_its_place(error: Error, number: Option<usize>) -> Result<Value, Error> {
    match (error, number) {
        (Error::Line { line, message, .. }, _) => Ok(json!({"line": line, "error": message})),
        (error, Some(line)) if error.is_request() => Ok(json!({"line": line, "error": error.to_string()})),
        (error, _) => Err(error),
    }
}

/// The lines of `source`, read and cut into tokens by another thread: a slow pipe is answered line by line, a fast file
/// in whole batches, and the next batch is ready when one is answered.
fn read_ahead(source: Box<dyn Read + Send>, name: &Path, predictor: Arc<Predictor>) -> mpsc::Receiver<Line> {
    let (send, receive) = mpsc::sync_channel(AHEAD);
    let examples = jsonl::Lines::new(BufReader::new(source), name);
    std::thread::spawn(move || {
        let encoder = match predictor.encoder() {
            Ok(encoder) => encoder,
            Err(error) => return drop(send.send(Line { number: None, row: Err(error) })),
        };
        for example in examples {
            let number = example.as_ref().ok().and_then(Example::line);
            let row = example.and_then(|example| encoder.encode(&example));
            if send.send(Line { number, row }).is_err() {
                return;
            }
        }
    });
    receive
}

impl Line {
    fn tokens(&self) -> usize {
        self.row.as_ref().map_or(0, |row| row.tokens.len())
    }
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
