//! A tokenizer from lines of text: the files `tokenizer.json` and `tokenizer_config.json`.
//!
//! | kind | text is | cut at | a word becomes |
//! |---|---|---|---|
//! | `wordpiece` | composed (NFC), controls removed, Han apart, case as asked; accents and Hangul syllables stay whole | white space and punctuation | the longest pieces from its start, `##` before a continuation |
//! | `bpe` | composed (NFC), case as asked | GPT-2's pattern, a space in front of the first word too | merged pairs of bytes |
//!
//! The tokenizers library counts and merges (`wordpiece.rs`, `bpe.rs`); around it the order of everything is fixed, so
//! that the same lines give the same bytes. A space in front of the first word gives each word one form, wherever it
//! stands. Special tokens come first: BERT's five, or `<|endoftext|>`.

mod bpe;
mod wordpiece;

use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

use super::config::{Layout, TokenizerConfig, TokenizerKind};
use crate::{Error, Result};

/// The longest word that WordPiece looks at, in characters, as in every BERT; a longer one is unknown.
const LONGEST_WORD: usize = 100;

/// A trained tokenizer as the files of a model directory.
pub(super) struct TrainedTokenizer {
    /// Names and contents.
    pub(super) files: Vec<(&'static str, Vec<u8>)>,
    /// Tokens.
    pub(super) size: usize,
    /// The token that a causal text ends with.
    pub(super) end: Option<usize>,
}

/// Trains the tokenizer of a run; `words` must be single tokens of it. `file` is the run file, for messages.
///
/// # Errors
/// A vocabulary too small for the characters of the text and the words; a word that the tokenizer cuts before it looks
/// at its vocabulary.
pub(super) fn train(
    file: &Path,
    config: &TokenizerConfig,
    layout: Layout,
    lines: &[String],
    words: &[String],
) -> Result<TrainedTokenizer> {
    let kind = config.kind.unwrap_or(TokenizerKind::WordPiece);
    let special = special_tokens(layout, kind);
    let failed = |wrong: tokenizers::Error| Error::Failed(format!("the tokenizer cannot be trained: {wrong}"));
    let cutter = Cutter::new(kind, config.lowercase).map_err(failed)?;
    let words = single_pieces(file, &cutter, words)?;
    let model = match kind {
        TokenizerKind::WordPiece => wordpiece::train(&cutter, lines, &special, &words, config.vocabulary),
        TokenizerKind::Bpe => bpe::train(&cutter, lines, &special, &words, config.vocabulary),
    };
    let model = model.map_err(failed)?;
    if model.size > config.vocabulary {
        let message = format!(
            "{}: too small; the {} special tokens, the characters of the text and {} words take {}",
            config.vocabulary,
            special.len(),
            words.len(),
            model.size
        );
        return Err(Error::key(file, "tokenizer.vocabulary", message));
    }
    let mut description = cutter.description;
    description["added_tokens"] = special.iter().enumerate().map(|(id, name)| added_token(id, name)).collect();
    description["post_processor"] = post_processor(layout);
    description["model"] = model.json;
    let text = |value: &Value| serde_json::to_vec_pretty(value).map_err(|wrong| failed(wrong.into()));
    Ok(TrainedTokenizer {
        files: vec![("tokenizer.json", text(&description)?), ("tokenizer_config.json", text(&settings(layout, kind))?)],
        size: model.size,
        end: special.iter().position(|name| *name == END),
    })
}

/// A model of the tokenizers library as it stands in `tokenizer.json`.
struct TrainedModel {
    json: Value,
    size: usize,
}

/// The end of a causal text.
const END: &str = "<|endoftext|>";

fn special_tokens(layout: Layout, kind: TokenizerKind) -> Vec<&'static str> {
    match (layout, kind) {
        (Layout::Bert, _) => vec!["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        (Layout::Gpt2, TokenizerKind::Bpe) => vec![END],
        (Layout::Gpt2, TokenizerKind::WordPiece) => vec![END, "[UNK]"],
    }
}

/// Everything before the vocabulary: how a text is normalised and cut into pieces.
struct Cutter {
    /// `tokenizer.json` without its model.
    description: Value,
    tokenizer: Tokenizer,
}

impl Cutter {
    fn new(kind: TokenizerKind, lowercase: bool) -> tokenizers::Result<Cutter> {
        let composed = json!({"type": "NFC"});
        let (case, pre_tokenizer, decoder) = match kind {
            TokenizerKind::WordPiece => (
                Some(json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                            "strip_accents": false, "lowercase": lowercase})),
                json!({"type": "BertPreTokenizer"}),
                json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
            ),
            TokenizerKind::Bpe => {
                let bytes =
                    json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
                (lowercase.then(|| json!({"type": "Lowercase"})), bytes.clone(), bytes)
            }
        };
        let normalizers: Vec<Value> = [composed].into_iter().chain(case).collect();
        let description = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": decoder,
            // A stand-in, so that the library can read the rest.
            "model": {"type": "BPE", "vocab": {}, "merges": []},
        });
        Ok(Cutter { tokenizer: serde_json::from_value(description.clone())?, description })
    }

    /// The pieces of a text: words, punctuation marks.
    fn pieces(&self, text: &str) -> tokenizers::Result<Vec<String>> {
        let mut pieces = PreTokenizedString::from(text);
        if let Some(normalizer) = self.tokenizer.get_normalizer() {
            pieces.normalize(|piece| tokenizers::Normalizer::normalize(normalizer, piece))?;
        }
        if let Some(pre_tokenizer) = self.tokenizer.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::None);
        Ok(splits.into_iter().map(|(piece, _, _)| piece.to_owned()).collect())
    }
}

/// The piece of each word, without repetitions.
fn single_pieces(file: &Path, cutter: &Cutter, words: &[String]) -> Result<Vec<String>> {
    let mut single: Vec<String> = Vec::with_capacity(words.len());
    for word in words {
        let pieces = cutter.pieces(word).map_err(|wrong| Error::Failed(wrong.to_string()))?;
        let wrong = |message: String| Err(Error::key(file, "tokenizer.words", message));
        match &pieces[..] {
            [piece] if piece.chars().count() > LONGEST_WORD => {
                return wrong(format!("'{word}' is longer than {LONGEST_WORD} characters, so it cannot be one token"));
            }
            [piece] => single.push(piece.clone()),
            _ => {
                let message = format!("'{word}' is {} words to the tokenizer, so it cannot be one token", pieces.len());
                return wrong(message);
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    single.retain(|piece| seen.insert(piece.clone()));
    Ok(single)
}

fn added_token(id: usize, name: &str) -> Value {
    json!({"id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
           "special": true})
}

/// `[CLS] text [SEP]`, and `[CLS] text [SEP] text [SEP]`; a causal text stands alone.
fn post_processor(layout: Layout) -> Value {
    if layout == Layout::Gpt2 {
        return Value::Null;
    }
    let special = |name: &str, part: u32| json!({"SpecialToken": {"id": name, "type_id": part}});
    let text = |name: &str, part: u32| json!({"Sequence": {"id": name, "type_id": part}});
    let ids = |name: &str, id: u32| json!({"id": name, "ids": [id], "tokens": [name]});
    json!({
        "type": "TemplateProcessing",
        "single": [special("[CLS]", 0), text("A", 0), special("[SEP]", 0)],
        "pair": [special("[CLS]", 0), text("A", 0), special("[SEP]", 0), text("B", 1), special("[SEP]", 1)],
        "special_tokens": {"[CLS]": ids("[CLS]", 2), "[SEP]": ids("[SEP]", 3)},
    })
}

/// `tokenizer_config.json`. The class is the one that takes `tokenizer.json` as it stands: a class of the family would
/// build BERT's or GPT-2's own rules around the vocabulary, and BERT's take Hangul syllables apart.
fn settings(layout: Layout, kind: TokenizerKind) -> Value {
    let mut settings = Map::new();
    settings.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    settings.insert("clean_up_tokenization_spaces".into(), json!(false));
    let roles: &[(&str, &str)] = match (layout, kind) {
        (Layout::Bert, _) => &[
            ("pad_token", "[PAD]"),
            ("unk_token", "[UNK]"),
            ("cls_token", "[CLS]"),
            ("sep_token", "[SEP]"),
            ("mask_token", "[MASK]"),
        ],
        (Layout::Gpt2, TokenizerKind::Bpe) => &[("bos_token", END), ("eos_token", END)],
        (Layout::Gpt2, TokenizerKind::WordPiece) => &[("bos_token", END), ("eos_token", END), ("unk_token", "[UNK]")],
    };
    settings.extend(roles.iter().map(|(role, name)| ((*role).to_owned(), json!(name))));
    Value::Object(settings)
}

#[cfg(test)]
mod tests;
