//! Prints how long a training step takes on this machine, where the time goes, and how fast evaluation is.
//!
//! cargo run --release --example step_speed -- MODEL_DIR [lama|rte] [STEPS] [THREADS]
//!
//! The batch is made up: 8 rows. `lama`: 15 tokens each, 9 of them pseudo tokens, the loss over the whole vocabulary.
//! `rte`: 82 to 160 tokens each, 9 of them pseudo tokens, two label words. The prompt encoder is the LSTM. The least
//! time of the steps is what the machine can do; the median is what it does beside its other work.

#![allow(clippy::print_stdout)] // An example for people.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use ptune::Device;
use ptune::checkpoint::{Glue, ModelDirectory, Tokenizer};
use ptune::data::{Encoded, Token, pack};
use ptune::method::{Head, Prompt};
use ptune::model::{Columns, Model};
use ptune::ops::Layout;
use ptune::prompt::Verbalizer;
use ptune::prompt::encoder::{EncoderKind, EncoderShape, PromptEncoder};
use ptune::rng::{Purpose, Rng};
use ptune::train::config::OptimizerKind;
use ptune::train::evaluate::Scorer;
use ptune::train::{Optimizer, Trainer};

const PSEUDO: usize = 9;
const RATE: f64 = 1e-4;
const PIECES: [&str; 6] = ["prompt forward", "model forward", "loss", "model backward", "prompt backward", "optimizer"];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: step_speed MODEL_DIR [lama|rte] [STEPS] [THREADS]")?;
    let rte = match arguments.next().as_deref() {
        None | Some("lama") => false,
        Some("rte") => true,
        Some(other) => return Err(format!("no batch is called {other}").into()),
    };
    let steps = arguments.next().map_or(Ok(100), |n| n.parse::<usize>())?.max(1);
    let device = Device::processor(arguments.next().map(|n| n.parse()).transpose()?);

    let directory = ModelDirectory::open(model.as_ref())?;
    let head = if rte { label_words(&directory)? } else { Head::Vocabulary { candidates: None, restrict_loss: false } };
    let model = Model::load(&directory, &device, true, &mut |_, _| {})?;
    let columns = model.columns(head.columns(true), true);
    let lengths = if rte { [82, 96, 104, 118, 127, 139, 150, 160] } else { [15; 8] };
    let rows: Vec<Encoded> = lengths.iter().map(|&length| row(length)).collect();
    let (layout, targets) = (pack(&rows), vec![1; rows.len()]);
    let set = device.instruction_set();
    println!("{set}, {} threads; {} rows of tokens, {} answers", device.threads(), layout.rows(), targets.len());

    let mut trainer = trainer(&model, &columns, &head, &device);
    for _ in 0..3 {
        trainer.step(&layout, &targets, RATE);
    }
    let mut whole = Vec::with_capacity(steps);
    for _ in 0..steps {
        let start = Instant::now();
        trainer.step(&layout, &targets, RATE);
        whole.push(milliseconds(start));
    }
    print_line("step", &mut whole);
    let mut pieces = [const { Vec::new() }; PIECES.len()];
    for _ in 0..steps {
        for (times, time) in pieces.iter_mut().zip(pieces_of_step(&mut trainer, &layout, &targets)) {
            times.push(time);
        }
    }
    for (name, times) in PIECES.iter().zip(&mut pieces) {
        print_line(name, times);
    }
    print_evaluation(&trainer, &rows);
    Ok(())
}

/// An example with the answer in the middle and three groups of pseudo tokens.
fn row(length: usize) -> Encoded {
    let answer = length / 2;
    let mut tokens: Vec<Token> = (0..length).map(|i| Token::Id((1000 + 37 * i) as u32)).collect();
    let places = (1..4).chain(answer - 3..answer).chain(answer + 1..answer + 4);
    for (prompt_row, place) in places.enumerate() {
        tokens[place] = Token::Pseudo(prompt_row as u32);
    }
    Encoded::row(tokens, answer)
}

fn label_words(directory: &ModelDirectory) -> Result<Head, Box<dyn Error>> {
    let tokenizer = Tokenizer::open(directory.path())?;
    let labels = [("entailment", "yes"), ("not_entailment", "no")];
    let labels = labels.map(|(label, word)| (label.to_owned(), vec![word.to_owned()]));
    Ok(Head::Verbalizer(Verbalizer::new(Path::new("made up"), &labels, &tokenizer, Glue::Space, false)?))
}

fn trainer<'a>(model: &'a Model, columns: &'a Columns, head: &'a Head, device: &'a Device) -> Trainer<'a> {
    let mut rng = Rng::new(0, Purpose::PromptInitialisation);
    let encoder = PromptEncoder::new(
        device,
        &EncoderShape::lama(EncoderKind::Lstm),
        PSEUDO,
        model.embedding_width(),
        1.0,
        &mut rng,
    );
    let optimizer = Optimizer::new(device, OptimizerKind::AdamW, 0.01, 0.0, encoder.parameters());
    Trainer { model, columns, prompt: Prompt::Encoder(encoder), head, optimizer, device }
}

/// `Trainer::step`, with the time of each of its calls.
fn pieces_of_step(t: &mut Trainer<'_>, layout: &Layout, targets: &[u32]) -> [f64; PIECES.len()] {
    let mut times = [0.0; PIECES.len()];
    let mut start = Instant::now();
    let mut ended = |piece: usize| {
        times[piece] = milliseconds(start);
        start = Instant::now();
    };
    let prompt = t.prompt.forward(t.device);
    ended(0);
    let inject = prompt.inject();
    let (logits, saved) = t.model.forward(layout, &inject, t.columns);
    ended(1);
    let loss = t.head.loss(t.device, &logits, targets);
    ended(2);
    let gradients = t.model.backward(&loss.d_logits, &saved, layout, &inject, t.columns);
    ended(3);
    t.prompt.backward(t.device, gradients.prompt_embeds.as_ref(), prompt);
    ended(4);
    t.optimizer.step(t.device, t.prompt.parameters_mut(), RATE);
    ended(5);
    times
}

fn print_evaluation(trainer: &Trainer<'_>, rows: &[Encoded]) {
    let Trainer { device, model, columns, head, .. } = *trainer;
    let prompt = trainer.prompt.forward(device);
    let scorer = Scorer { device, model, columns, column_ids: head.columns(true), head, prompt: prompt.rows() };
    let examples: Vec<&Encoded> = rows.iter().cycle().take(256).collect();
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        scorer.score(&examples, &mut |_, _| Ok(()), |_, _| {}).expect("finite answers");
        times.push(milliseconds(start));
    }
    print_line("256 rows evaluated", &mut times);
    println!("evaluation at best {:.0} rows/s", 256.0 / times[0] * 1e3);
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Prints the least and the median time, and leaves the times in order.
fn print_line(name: &str, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    println!("{name:<20} best {:>9.3} ms   median {:>9.3} ms", times[0], times[times.len() / 2]);
}
