//! Label words of one to three tokens against the formula in f64, and the gradient against central differences.

use std::path::{Path, PathBuf};

use super::*;
use crate::checkpoint::{Glue, Tokenizer};
use crate::rng::{Purpose, Rng};

const EXAMPLES: usize = 3;
const TARGETS: [u32; EXAMPLES] = [1, 0, 1];

fn verbalizer(causal: bool, labels: &[(&str, &[&str])]) -> (Verbalizer, usize) {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
    let tokenizer = Tokenizer::open(&fixtures.join("wordpiece-uncased")).unwrap();
    let owned = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
    let labels: Vec<_> = labels.iter().map(|(label, words)| (label.to_string(), owned(words))).collect();
    let verbalizer = Verbalizer::new(Path::new("run.toml"), &labels, &tokenizer, Glue::Space, causal).unwrap();
    (verbalizer, tokenizer.vocab_size())
}

fn log_softmax(row: &[f64], column: u32) -> f64 {
    let max = row.iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x));
    row[column as usize] - max - row.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
}

/// The loss by the words themselves: which answer rows a word of k tokens reads is spelt out here a second time.
fn loss_f64(verbalizer: &Verbalizer, logits: &[f64], columns: usize, causal: bool) -> f64 {
    let rows = verbalizer.form().rows();
    let losses = logits.chunks(rows * columns).zip(TARGETS).map(|(example, target)| {
        let read = |row: usize, token| log_softmax(&example[row * columns..][..columns], token);
        let mut behind = 1;
        let mut score = |tokens: &[u32]| -> f64 {
            let row_of = |i: usize| match (causal, tokens.len(), i) {
                (false, length, _) => [0, 1, 3][length - 1] + i,
                (true, _, 0) => 0,
                (true, ..) => behind + i - 1,
            };
            let sum = tokens.iter().enumerate().map(|(i, token)| read(row_of(i), *token)).sum();
            behind += tokens.len() - 1;
            sum
        };
        let mut mean = |words: &[crate::prompt::verbalizer::LabelWord]| {
            words.iter().map(|word| score(&word.tokens)).sum::<f64>() / words.len() as f64
        };
        let scores: Vec<f64> = verbalizer.labels().iter().map(|label| mean(&label.words)).collect();
        -log_softmax(&scores, target)
    });
    losses.sum::<f64>() / EXAMPLES as f64
}

#[test]
fn words_of_several_tokens_equal_the_formula_and_their_gradient_central_differences() {
    for causal in [false, true] {
        let labels: [(&str, &[&str]); 2] =
            [("pos", &["good", "capital ing", "a good city"]), ("neg", &["bad", "capital city"])];
        let (verbalizer, columns) = verbalizer(causal, &labels);
        let rows = EXAMPLES * verbalizer.form().rows();
        let mut rng = Rng::new(3, Purpose::Shuffle(0));
        let logits: Vec<f32> = (0..rows * columns).map(|_| rng.below(1000) as f32 / 200.0 - 2.5).collect();
        let device = Device::processor(Some(2));
        let head = Head::Verbalizer(verbalizer);
        let Loss { mean, d_logits } = head.loss(&device, &device.upload(rows, columns, &logits), &TARGETS);
        let Head::Verbalizer(verbalizer) = &head else { unreachable!() };
        let mut wide: Vec<f64> = logits.iter().map(|x| f64::from(*x)).collect();
        let want = loss_f64(verbalizer, &wide, columns, causal);
        assert!((mean - want).abs() < 1e-5 * want, "causal {causal}: loss {mean}, formula {want}");
        // Every column that a word reads, and a few others, of every row.
        let tokens: Vec<usize> = verbalizer.reads().iter().map(|read| read.token as usize).collect();
        for place in (0..rows).flat_map(|row| tokens.iter().chain(&[0, 50]).map(move |column| row * columns + column)) {
            let (at, h) = (wide[place], 1e-5);
            wide[place] = at + h;
            let above = loss_f64(verbalizer, &wide, columns, causal);
            wide[place] = at - h;
            let below = loss_f64(verbalizer, &wide, columns, causal);
            wide[place] = at;
            let (got, want) = (f64::from(d_logits.read()[place]), (above - below) / (2.0 * h));
            assert!((got - want).abs() < 1e-6, "causal {causal}: gradient at {place}: {got}, differences {want}");
        }
    }
}

/// Raw logits and log-probabilities of words of one token have the same loss: what is left out cancels.
#[test]
fn words_of_one_token_need_no_normaliser() {
    let (verbalizer, columns) = verbalizer(false, &[("pos", &["good", "city"]), ("neg", &["bad"])]);
    assert_eq!(*verbalizer.form(), AnswerForm::one_token(false));
    let mut rng = Rng::new(4, Purpose::Shuffle(0));
    let logits: Vec<f32> = (0..EXAMPLES * columns).map(|_| rng.below(1000) as f32 / 200.0).collect();
    let wide: Vec<f64> = logits.iter().map(|x| f64::from(*x)).collect();
    let chosen: Vec<f32> = logits
        .chunks(columns)
        .flat_map(|row| verbalizer.columns().unwrap().iter().map(|column| row[*column as usize]))
        .collect();
    let want = loss_f64(&verbalizer, &wide, columns, false);
    let device = Device::processor(Some(1));
    let found = Head::Verbalizer(verbalizer).loss(&device, &device.upload(EXAMPLES, 3, &chosen), &TARGETS).mean;
    assert!((found - want).abs() < 1e-6, "loss {found}, with log-probabilities {want}");
}
