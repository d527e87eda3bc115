//! JSON lines in, JSON lines out: what the commands that answer examples share. The order is kept; what is wrong with a line
//! stands in its place as `{"line":n,"error":"..."}`, and the exit status is 2 at the end.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};

use anyhow::Result;
use ptune::Error;
use ptune::data::{Encoded, Example, jsonl};
use ptune::predict::Predictor;
use serde_json::{Value, json};

use crate::report::print;

/// Lines read and cut into tokens ahead.
const AHEAD: usize = 512;

/// Lines answered together: at most so many, and so many tokens.
#[derive(Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) lines: usize,
    pub(crate) tokens: usize,
}

/// `--field name=text`, each once.
pub(crate) fn example_from(fields: &[String]) -> Result<Example, Error> {
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

/// An answer to each of some rows.
type Answers = Vec<Result<Value, Error>>;

/// Answers lines as they come: whatever has been read, up to a batch, is computed together. `answer` gets rows and the
/// numbers of their lines, counted from 0.
pub(crate) fn stream(
    predictor: Predictor,
    input: &Path,
    size: Batch,
    mut answer: impl FnMut(&Predictor, Vec<Result<Encoded, Error>>, &[usize]) -> Result<Answers, Error>,
) -> Result<ExitCode> {
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
        while let Some(line) = (batch.len() < size.lines).then(|| lines.try_recv().ok()).flatten() {
            tokens += line.tokens();
            if tokens > size.tokens {
                waiting = Some(line);
                break;
            }
            batch.push(line);
        }
        let (numbers, rows): (Vec<_>, Vec<_>) = batch.into_iter().map(|line| (line.number, line.row)).unzip();
        let from_0: Vec<usize> = numbers.iter().map(|number| number.map_or(0, |number| number - 1)).collect();
        failed |= tell(numbers, answer(&predictor, rows, &from_0)?)?;
    }
    Ok(if failed { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

/// Prints the answers to a batch, and what is wrong with a line in its place; whether there was any such line.
fn tell(numbers: Vec<Option<usize>>, given: Answers) -> Result<bool> {
    let mut answers = Vec::with_capacity(numbers.len());
    let (mut bad_lines, mut failed) = (false, None);
    for (number, answer) in numbers.into_iter().zip(given) {
        match answer.map_err(|error| in_its_place(error, number)) {
            Ok(answer) => answers.push(answer.to_string()),
            Err(Ok(wrong)) => {
                bad_lines = true;
                answers.push(wrong.to_string());
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
