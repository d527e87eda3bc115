//! A WordPiece vocabulary: pairs of pieces merged by how often they stand together, as the tokenizers library does it.
//!
//! That library numbers the continuation `##c` of each character in the order of a hash table, and breaks ties by
//! number: its vocabularies differ from run to run. Here every continuation is given to it beforehand, in order.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::{AddedToken, Trainer};

use super::{Cutter, LONGEST_WORD, TrainedModel};

/// What stands before a piece that continues a word.
const PREFIX: &str = "##";
/// A pair that stands together once is no word.
const LEAST_COUNT: u64 = 2;

/// Trains a vocabulary: special tokens, words, characters, then merges up to the size. Where the first three alone take
/// more, the size says so.
pub(super) fn train(
    cutter: &Cutter,
    lines: &[String],
    special: &[&str],
    words: &[String],
    vocabulary: usize,
) -> tokenizers::Result<TrainedModel> {
    let (mut characters, mut continuations) = (BTreeSet::new(), BTreeSet::new());
    for text in lines.iter().map(|line| cutter.pieces(line)) {
        for piece in text? {
            characters.extend(piece.chars());
            continuations.extend(piece.chars().skip(1));
        }
    }
    // The words' own characters need no place: such a word is never cut.
    let continuations: Vec<String> = continuations.iter().map(|c| format!("{PREFIX}{c}")).collect();
    let first: Vec<&str> =
        special.iter().copied().chain(words.iter().chain(&continuations).map(String::as_str)).collect();
    let distinct: BTreeSet<&str> = first.iter().copied().collect();
    let single = characters.iter().filter(|c| !distinct.contains(c.to_string().as_str())).count();
    let least = distinct.len() + single;
    if least > vocabulary {
        return Ok(TrainedModel { json: Value::Null, size: least });
    }
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocabulary)
        .min_frequency(LEAST_COUNT)
        .continuing_subword_prefix(PREFIX.into())
        .special_tokens(first.into_iter().map(|token| AddedToken::from(token, true)).collect())
        .show_progress(false)
        .build();
    trainer.feed(lines.iter(), |line| cutter.pieces(line))?;
    let mut merged = BPE::default();
    trainer.train(&mut merged)?;
    let mut tokens: Vec<(String, u32)> = merged.get_vocab().into_iter().collect();
    tokens.sort_unstable_by_key(|(_, id)| *id);
    let size = tokens.len();
    let vocab: serde_json::Map<String, Value> = tokens.into_iter().map(|(token, id)| (token, json!(id))).collect();
    let json = json!({
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": PREFIX,
        "max_input_chars_per_word": LONGEST_WORD, "vocab": vocab,
    });
    Ok(TrainedModel { json, size })
}
