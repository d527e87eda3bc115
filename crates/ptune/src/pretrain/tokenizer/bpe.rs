//! Byte-level BPE: merges learnt by the tokenizers library, and further ones that make given words single tokens.
//!
//! A text is cut by its merges in their order, so merges at the end of the list leave every text as it was that they do
//! not occur in. For a word that is still several tokens after all merges, one more merge joins its first two; then it
//! is looked at again. Such a merge never cuts what is one token already, and a word gets shorter by each: the loop ends.
//! Room for them is made by learning fewer merges, the last ones first.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{Model, Trainer};

use super::{Cutter, TrainedModel};

/// A pair that stands together once is no word.
const LEAST_COUNT: u64 = 2;

type Merge = (String, String);

/// Trains merges up to the size of the vocabulary. Where the bytes and the words alone take more, the size says so.
pub(super) fn train(
    cutter: &Cutter,
    lines: &[String],
    special: &[&str],
    words: &[String],
    vocabulary: usize,
) -> tokenizers::Result<TrainedModel> {
    let bytes: BTreeSet<char> = ByteLevel::alphabet().into_iter().collect();
    let first: Vec<String> =
        special.iter().map(|token| (*token).to_owned()).chain(bytes.iter().map(char::to_string)).collect();
    let learnt = in_order(&first, learn(cutter, lines, vocabulary.saturating_sub(special.len()))?);
    // How many merges can be kept so that the words find room behind them.
    let (mut keep, mut least_too_many) = (0, learnt.len() + 1);
    let mut best = complete(&first, &[], words)?;
    while least_too_many - keep > 1 {
        let middle = keep + (least_too_many - keep) / 2;
        let candidate = complete(&first, &learnt[..middle], words)?;
        if candidate.size() <= vocabulary {
            (keep, best) = (middle, candidate);
        } else {
            least_too_many = middle;
        }
    }
    Ok(best.into_model())
}

/// The merges of a text, the most frequent first.
fn learn(cutter: &Cutter, lines: &[String], vocabulary: usize) -> tokenizers::Result<Vec<Merge>> {
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocabulary)
        .min_frequency(LEAST_COUNT)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    trainer.feed(lines.iter(), |line| cutter.pieces(line))?;
    let mut bpe = BPE::default();
    trainer.train(&mut bpe)?;
    // Only the file's form shows the merges.
    let file = serde_json::to_value(&bpe)?;
    Ok(serde_json::from_value(file["merges"].clone())?)
}

/// The same merges, each behind those that make its parts: where the library merges a pair twice, it keeps the second
/// place.
fn in_order(first: &[String], merges: Vec<Merge>) -> Vec<Merge> {
    let mut known: BTreeSet<String> = first.iter().cloned().collect();
    let (mut ordered, mut waiting) = (Vec::with_capacity(merges.len()), merges);
    loop {
        let before = ordered.len();
        let mut later = Vec::new();
        for (a, b) in waiting {
            if known.contains(&a) && known.contains(&b) {
                known.insert(format!("{a}{b}"));
                ordered.push((a, b));
            } else {
                later.push((a, b));
            }
        }
        if ordered.len() == before {
            return ordered;
        }
        waiting = later;
    }
}

/// Tokens in the order of their numbers, and merges in theirs.
struct Merged {
    tokens: Vec<String>,
    merges: Vec<Merge>,
}

impl Merged {
    fn new(first: &[String], merges: &[Merge]) -> Merged {
        let mut tokens = first.to_vec();
        let mut known: BTreeSet<String> = tokens.iter().cloned().collect();
        for token in merges.iter().map(|(a, b)| format!("{a}{b}")) {
            if known.insert(token.clone()) {
                tokens.push(token);
            }
        }
        Merged { tokens, merges: merges.to_vec() }
    }

    fn size(&self) -> usize {
        self.tokens.len()
    }

    fn bpe(&self) -> tokenizers::Result<BPE> {
        let vocab = self.tokens.iter().cloned().zip(0..).collect::<HashMap<String, u32>>();
        BPE::builder()
            .vocab_and_merges(vocab.into_iter().collect::<tokenizers::models::bpe::Vocab>(), self.merges.clone())
            .build()
    }

    fn into_model(self) -> TrainedModel {
        let size = self.size();
        let vocab: serde_json::Map<String, Value> =
            self.tokens.into_iter().zip(0u32..).map(|(t, id)| (t, json!(id))).collect();
        let json = json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": self.merges,
        });
        TrainedModel { json, size }
    }
}

/// Merges with further ones behind them that make each of the words one token.
fn complete(first: &[String], merges: &[Merge], words: &[String]) -> tokenizers::Result<Merged> {
    let mut merges = merges.to_vec();
    loop {
        let merged = Merged::new(first, &merges);
        let bpe = merged.bpe()?;
        let (mut known, before) = (BTreeSet::new(), merges.len());
        for word in words {
            let tokens = bpe.tokenize(word)?;
            if let [a, b, ..] = &tokens[..]
                && known.insert((a.value.clone(), b.value.clone()))
            {
                merges.push((a.value.clone(), b.value.clone()));
            }
        }
        if merges.len() == before {
            return Ok(merged);
        }
    }
}
