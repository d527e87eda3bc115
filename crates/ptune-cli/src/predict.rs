//! `ptune predict ADAPTER`: answers with probabilities; JSON lines in, JSON lines out, order kept.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use ptune::predict::{Prediction, Predictor};
use ptune::{Device, Error};
use serde_json::{Map, Value, json};

use crate::bundle::Found;
use crate::hub;
use crate::lines::{self, Batch};
use crate::progress::Progress;
use crate::report::{print, visible};

/// Lines computed together: as the model computes them at once.
const BATCH: Batch = Batch { lines: 128, tokens: 1024 };

/// Answer with a trained adapter
///
/// Either one example from --field, or one example a line from --input: a JSON object a line in, a JSON object a line
/// out, in the same order. A line that cannot be answered yields {"line":n,"error":"..."} in its place, and the exit
/// status is 2 at the end.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("examples").args(["fields", "input"]).required(true).multiple(true)))]
pub(crate) struct Arguments {
    /// The adapter's directory, or BUNDLE#NAME
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
    let example = arguments.input.is_none().then(|| lines::example_from(&arguments.fields)).transpose()?;
    let mut progress = Progress::new();
    let adapter = Found::at(&arguments.adapter)?;
    hub::fetch_base(adapter.path(), arguments.model.as_deref())?;
    let predictor = Predictor::open(adapter.path(), arguments.model.as_deref(), device, &mut |done, total| {
        progress.update("loading", done, total, "");
    });
    progress.clear();
    let predictor = predictor?;
    predictor.check_predicts()?;
    let top = usize::from(arguments.top);
    match (&arguments.input, example) {
        (Some(input), _) => lines::stream(predictor, input, BATCH, |predictor, rows, _| {
            Ok(predictor.answer(rows, top).into_iter().map(|answer| answer.map(|answer| to_json(&answer))).collect())
        }),
        (None, Some(example)) => {
            let prediction = predictor.predict(&[example], top).remove(0)?;
            print(&if arguments.json { to_json(&prediction).to_string() } else { to_text(&prediction) })?;
            Ok(ExitCode::SUCCESS)
        }
        (None, None) => Err(Error::request("give --field or --input").into()),
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
