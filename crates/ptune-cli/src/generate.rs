//! `ptune generate ADAPTER`: texts that a causal model writes with a trained prompt; JSON lines in, JSON lines out.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use ptune::generate::{Sampling, Writing, Written};
use ptune::predict::Predictor;
use ptune::{Device, Error};
use serde_json::{Value, json};

use crate::bundle::Found;
use crate::hub;
use crate::lines::{self, Batch};
use crate::progress::Progress;
use crate::report::{print, visible};

/// Lines written together: a token takes a row a line, and each line keeps its keys and values.
const BATCH: Batch = Batch { lines: 64, tokens: 4096 };

/// Write texts with an adapter whose answers are texts
///
/// For an adapter that was trained with task.answer = "text". Either one example from --field, or one example a line from
/// --input: a JSON object a line in, {"text":"...","tokens":n,"ended":"end"} a line out, in the same order. A text ends where
/// the model ends it ("end"), before a stop string ("stop"), or at its most tokens ("length"). A line that cannot be answered
/// yields {"line":n,"error":"..."} in its place, and the exit status is 2 at the end.
///
/// Without --temperature every token is the likeliest. With it tokens are drawn; the same seed and line give the same
/// text, whatever is written with it.
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
    /// The most tokens of a text [default: task.answer_tokens of the training]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_tokens: Option<u32>,
    /// Draw tokens: 1 by their probabilities, less keeps to the likeliest, more goes further away
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Draw among the K likeliest tokens only
    #[arg(long, value_name = "K", requires = "temperature", value_parser = clap::value_parser!(u32).range(1..))]
    top_k: Option<u32>,
    /// Draw among the likeliest tokens only, as many as have this probability together
    #[arg(long, value_name = "P", requires = "temperature")]
    top_p: Option<f64>,
    /// Where the random numbers come from
    #[arg(long, value_name = "S", requires = "temperature", default_value_t = 0)]
    seed: u64,
    /// End a text where this one begins; may be repeated
    #[arg(long = "stop", value_name = "TEXT")]
    stops: Vec<String>,
    /// Print JSON also for --field (--input always does)
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  ptune generate runs/first/adapter --field text=\"the soup was cold\"
  ptune generate runs/first/adapter --input questions.jsonl > answers.jsonl
  ptune generate runs/first/adapter --input questions.jsonl --temperature 0.8 --top-p 0.95 --seed 7 --stop \"Q:\"";

pub(crate) fn run(arguments: &Arguments, device: &Device) -> Result<ExitCode> {
    let example = arguments.input.is_none().then(|| lines::example_from(&arguments.fields)).transpose()?;
    let (sampling, stops) = (sampling(arguments)?, stops(arguments)?);
    let mut progress = Progress::new();
    let adapter = Found::at(&arguments.adapter)?;
    hub::fetch_base(adapter.path(), arguments.model.as_deref())?;
    let predictor = Predictor::open(adapter.path(), arguments.model.as_deref(), device, &mut |done, total| {
        progress.update("loading", done, total, "");
    });
    progress.clear();
    let predictor = predictor?;
    predictor.check_generates()?;
    let longest = arguments.max_tokens.map(|most| most as usize).or(predictor.answer_tokens()).unwrap_or_default();
    let writing = Writing { longest, sampling, stops };
    match (&arguments.input, example) {
        (Some(input), _) => lines::stream(predictor, input, BATCH, |predictor, rows, numbers| {
            let mut grown = |_, tokens, _: &str| progress.update("writing", tokens, longest, "tokens a line");
            let texts = predictor.generate(rows, numbers, &writing, &mut grown);
            progress.clear();
            Ok(texts?.into_iter().map(|text| text.map(|text| to_json(&text))).collect())
        }),
        (None, Some(example)) => {
            let row = predictor.encoder()?.encode(&example);
            // People see the text grow.
            let mut told = 0;
            let mut grown = |_, _, fresh: &str| {
                if !arguments.json {
                    told += fresh.len();
                    let _ = write!(std::io::stdout(), "{}", visible(fresh)).and_then(|()| std::io::stdout().flush());
                }
            };
            let written = predictor.generate(vec![row], &[0], &writing, &mut grown)?.remove(0)?;
            print(&if arguments.json { to_json(&written).to_string() } else { visible(&written.text[told..]) })?;
            Ok(ExitCode::SUCCESS)
        }
        (None, None) => Err(Error::request("give --field or --input").into()),
    }
}

fn sampling(arguments: &Arguments) -> Result<Option<Sampling>, Error> {
    let Some(temperature) = arguments.temperature else { return Ok(None) };
    if !(temperature > 0.0 && temperature <= 100.0) {
        let message = "must be above 0 and at most 100; without it every token is the likeliest";
        return Err(Error::request(format!("--temperature {temperature}: {message}")));
    }
    if let Some(share) = arguments.top_p.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
        return Err(Error::request(format!("--top-p {share}: must be above 0 and at most 1")));
    }
    let top_k = arguments.top_k.map(|most| most as usize);
    Ok(Some(Sampling { temperature, top_k, top_p: arguments.top_p, seed: arguments.seed }))
}

fn stops(arguments: &Arguments) -> Result<Vec<String>, Error> {
    if arguments.stops.iter().any(String::is_empty) {
        return Err(Error::request("--stop is empty: it would end every text before it begins"));
    }
    Ok(arguments.stops.clone())
}

fn to_json(written: &Written) -> Value {
    json!({"text": written.text, "tokens": written.tokens, "ended": written.ended.name()})
}
