//! A whole run: read the text, make or open the model it begins from, train, evaluate, save.
//!
//! | file | part |
//! |---|---|
//! | `run.rs` | everything before the first step |
//! | `run/training.rs` | the step, the loop, evaluations and saves |
//!
//! The run directory holds `run.toml` (as resolved), `initial/` (the model at step 0, unless the run begins from a
//! checkpoint), `metrics.jsonl` (a line an evaluation, without times), the same for TensorBoard, `state/` (what
//! `--resume` goes on from) and at the end `model/`. A run that is killed and resumed gives the bytes of one that never
//! stopped: the tokenizer and the first weights are read back from `initial/`, the order of the rows and what is masked
//! follow from the seed and the step, and everything else is in the state.

mod training;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::batch::{Goal, Masking};
use super::config::PretrainConfig;
use super::rows::{Form, Row};
use super::text::Text;
use super::{Event, initial, tokenizer};
use crate::checkpoint::{ModelDirectory, Tokenizer, hub};
use crate::model::spec::ModelSpec;
use crate::model::{Gradients, Model};
use crate::prompt::read_words;
use crate::tensor::Device;
use crate::train::open_tokenizer;
use crate::train::run::resume::{self, Former, Lock};
use crate::train::state::{Identity, digest};
use crate::{Error, Result, files};

pub use crate::train::Options;

/// Lines between two reports of how many have become tokens.
const LINES_A_REPORT: usize = 1000;

/// What a run came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Steps made.
    pub steps: usize,
    /// Seconds of training and evaluation, of all its parts when the run was interrupted.
    pub seconds: f64,
    /// Rows trained on a second, evaluations not counted.
    pub tokens_per_s: f64,
    /// Rows trained on, repetitions counted.
    pub tokens: usize,
    /// Numbers of the model.
    pub parameters: usize,
    /// Tokens of the tokenizer.
    pub vocabulary: usize,
    /// Perplexity of the lines held out, with the weights as trained; none where none were held out.
    pub perplexity: Option<f64>,
    /// The same with the model as saved, read back from its directory.
    pub saved_perplexity: Option<f64>,
    /// Bytes of the model's directory.
    pub model_bytes: u64,
}

/// Trains the model of a run file and writes the run directory `out`.
///
/// # Errors
/// Anything wrong with the run file's values or the files it names, before the first step; a run in `out` that is not
/// this one, or with `options.resume` off, any; a failed write; a loss that is not a number; [`Error::Stopped`].
pub fn run(
    config: &PretrainConfig,
    file: &Path,
    out: &Path,
    device: &Device,
    options: Options<'_>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Summary> {
    let (former, mut lock) = Former::<Summary>::find(out, options.resume)?;
    let text = Text::read(&config.data, config.seed)?;
    let words = config.tokenizer.words.as_ref().map(|path| read_words(path, None)).transpose()?;
    let began_from = match &config.model.checkpoint {
        Some(checkpoint) => hub::locate(checkpoint, file.parent().unwrap_or(Path::new("")))?,
        None => {
            if matches!(former, Former::Nothing) {
                lock = Some(begin(config, file, out, &text, words.as_deref().unwrap_or_default(), observe)?);
            }
            initial_directory(out)
        }
    };
    let directory = ModelDirectory::open(&began_from)?;
    let spec = ModelSpec::read(&directory)?;
    let config = &config.with_positions(spec.positions);
    let tokenizer = open_tokenizer(&directory, &spec)?;
    let goal = goal(config, file, &spec, &tokenizer)?;

    let mut digests = BTreeMap::from([("data.text".to_owned(), digest(&text))]);
    digests.extend(words.as_ref().map(|words| ("tokenizer.words".to_owned(), digest(words))));
    let fingerprint = directory.fingerprint(&spec.embeddings.words)?;
    let identity = Identity::of(config.to_toml()?, device, &fingerprint, digests);
    former.check(out, &identity)?;
    if let Some(summary) = former.finished() {
        observe(Event::Note(&format!("{}: this run is finished; nothing is left to do", out.display())));
        return Ok(summary.clone());
    }
    let form = Form::of(&spec, &tokenizer, config.data.max_tokens.unwrap_or(spec.positions))?;
    let (rows, held_out) = encode(&form, &tokenizer, &text, observe)?;
    let loading = &mut |done, total| observe(Event::Working { what: "loading", done, total });
    let model = Model::load(&directory, &[], device, Gradients::Weights, loading)?;

    let _lock = match lock {
        Some(lock) => lock,
        None => Lock::take(out)?,
    };
    resume::clear(out)?;
    files::write_atomically(&out.join("run.toml"), identity.config().as_bytes())?;
    let vocabulary = tokenizer.vocab_size();
    let stop = options.stop;
    let run = Run { config, out, device, began_from, goal, rows, held_out, vocabulary, identity, stop };
    let mut training = run.begin(model);
    run.go_on(&mut training, former, observe)?;
    run.train(&mut training, observe)?;
    run.finish(training, observe)
}

/// Everything of a run that stays as it is while it trains.
struct Run<'a> {
    config: &'a PretrainConfig,
    /// The run directory.
    out: &'a Path,
    device: &'a Device,
    /// The directory of the model at step 0.
    began_from: PathBuf,
    goal: Goal,
    rows: Vec<Row>,
    held_out: Vec<Row>,
    vocabulary: usize,
    identity: Identity,
    stop: Option<&'a std::sync::atomic::AtomicBool>,
}

fn initial_directory(out: &Path) -> PathBuf {
    out.join("initial")
}

/// Makes the model at step 0, its tokenizer included.
fn begin(
    config: &PretrainConfig,
    file: &Path,
    out: &Path,
    text: &Text,
    words: &[String],
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Lock> {
    let layout = config.model.layout.ok_or_else(|| Error::key(file, "model.layout", "is missing"))?;
    observe(Event::Note(&format!("{} lines of text, {} held out", text.train.len(), text.held_out.len())));
    let trained = tokenizer::train(file, &config.tokenizer, layout, &text.train, words)?;
    observe(Event::Note(&format!("a tokenizer of {} tokens", trained.size)));
    let lock = Lock::take(out)?;
    initial::write(&initial_directory(out), &config.model, layout, &trained, config.seed)?;
    Ok(lock)
}

/// What the model is to predict.
fn goal(config: &PretrainConfig, file: &Path, spec: &ModelSpec, tokenizer: &Tokenizer) -> Result<Goal> {
    let (tokens, positions) = (config.data.max_tokens.unwrap_or(0), spec.positions);
    if tokens > positions {
        let message = format!("{tokens}: this model has only {positions} positions");
        return Err(Error::key(file, "data.max_tokens", message));
    }
    if spec.causal {
        return Ok(Goal::Causal);
    }
    let Some(mask) = tokenizer.mask_id() else {
        return Err(Error::file(tokenizer.file(), "has no mask token, so a masked model cannot be trained with it"));
    };
    let special = tokenizer.special().roles().map(|(_, id)| id);
    let ordinary = (0..tokenizer.vocab_size() as u32).filter(|id| !special.contains(&Some(*id))).collect();
    Ok(Goal::Masked(Masking { share: config.train.masked, mask, ordinary }))
}

/// Lines as rows: those to train on, and those held out.
fn encode(
    form: &Form,
    tokenizer: &Tokenizer,
    text: &Text,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<(Vec<Row>, Vec<Row>)> {
    let (mut done, total) = (0, text.train.len() + text.held_out.len());
    let mut rows_of = |lines: &[String]| -> Result<Vec<Row>> {
        let mut rows = Vec::with_capacity(lines.len());
        for line in lines {
            rows.extend(form.rows(tokenizer, line)?);
            done += 1;
            if done % LINES_A_REPORT == 0 || done == total {
                observe(Event::Working { what: "tokenizing", done, total });
            }
        }
        Ok(rows)
    };
    let (rows, held_out) = (rows_of(&text.train)?, rows_of(&text.held_out)?);
    if rows.is_empty() {
        let message = "data.text: no line has anything to predict: the tokenizer knows none of its words";
        return Err(Error::request(message));
    }
    Ok((rows, held_out))
}

#[cfg(test)]
mod tests;
