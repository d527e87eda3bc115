//! What no tokenizer needs and what would bring the process down rather than make an error: looked for in
//! `tokenizer.json` before the tokenizers library reads it, because neither a stack that overflows nor memory that
//! runs out can be [`super::contained`].
//!
//! - A Unigram piece is a path in a trie of nested maps, which is dropped by recursion: a long one overflows the stack.
//! - A `precompiled_charsmap` begins with the size of its table, which the library reserves before it looks further.
//! - WordPiece tries every part of a word: its time grows with the cube of `max_input_chars_per_word`.
//! - Normalisers may multiply a text, each what the one before has made: [`growth`] bounds it for [`LARGEST_TEXT`].

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The pieces of SentencePiece have at most 16 characters unless it is told otherwise.
const LONGEST_PIECE: usize = 1000;
/// 100 in every model of BERT's kind.
const LONGEST_WORD: usize = 256;
/// What a text may become before it is cut into tokens, in bytes.
pub(super) const LARGEST_TEXT: u64 = 1 << 30;

#[derive(Deserialize)]
struct File {
    normalizer: Option<Value>,
    model: Option<Model>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    vocab: Pieces,
    max_input_chars_per_word: Option<usize>,
}

/// The length of a Unigram vocabulary's longest piece, in bytes; 0 for vocabularies of other kinds.
#[derive(Default)]
struct Pieces {
    longest: usize,
}

/// Refuses a `tokenizer.json` that the library would not survive, in a sentence; otherwise the most by which its
/// normalisers can multiply a text.
pub(super) fn check(bytes: &[u8]) -> Result<u64, String> {
    // What cannot be read here is refused, not left to the library: it may be more lenient, with keys given twice.
    let File { normalizer, model } =
        serde_json::from_slice(bytes).map_err(|e| format!("this is not a tokenizer of the tokenizers library: {e}"))?;
    if let Some(Model { vocab, max_input_chars_per_word }) = model {
        if vocab.longest > LONGEST_PIECE {
            let longest = vocab.longest;
            return Err(format!(
                "a piece of its vocabulary is {longest} bytes long, and at most {LONGEST_PIECE} can be"
            ));
        }
        if let Some(length) = max_input_chars_per_word.filter(|length| *length > LONGEST_WORD) {
            return Err(format!("max_input_chars_per_word is {length}, and at most {LONGEST_WORD} can be"));
        }
    }
    growth(&normalizer.unwrap_or_default())
}

/// The most by which a normaliser can multiply the bytes of a text. Unicode's own forms count as 1: they cannot be
/// piled up. Every key counts, whatever the `type` beside it, because the library is lenient about types.
fn growth(normalizer: &Value) -> Result<u64, String> {
    let mut all = 1_u64;
    for step in normalizer["normalizers"].as_array().into_iter().flatten() {
        all = all.saturating_mul(growth(step)?);
    }
    if let Some(content) = normalizer["content"].as_str() {
        let content = content.len() as u64;
        all = all.saturating_mul(match normalizer["pattern"]["String"].as_str() {
            Some(pattern) if !pattern.is_empty() => content.div_ceil(pattern.len() as u64).max(1),
            // A pattern may match the nothing between two characters.
            _ => content + 1,
        });
    }
    match normalizer["precompiled_charsmap"].as_str() {
        Some(charsmap) => Ok(all.saturating_mul(charsmap_growth(charsmap)?)),
        None => Ok(all),
    }
}

/// A charsmap in base64: the size of its table in bytes (four bytes, little endian), the table, then the texts that
/// stand for others, each ended by a 0.
fn charsmap_growth(base64: &str) -> Result<u64, String> {
    let bytes = decoded(base64);
    let Some((size, rest)) = bytes.split_first_chunk() else { return Ok(1) };
    let (size, held) = (u32::from_le_bytes(*size) as usize, rest.len());
    let Some(texts) = rest.get(size..) else {
        return Err(format!("precompiled_charsmap: its table should have {size} bytes but {held} follow"));
    };
    Ok(texts.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or_default().max(1) as u64)
}

/// The bytes of a base64 text up to the first character that is none of its alphabet.
fn decoded(base64: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(base64.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for character in base64.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        (bits, count) = (bits << 6 | u32::from(value), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PiecesVisitor)
    }
}

struct PiecesVisitor;

impl<'de> Visitor<'de> for PiecesVisitor {
    type Value = Pieces;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a vocabulary")
    }

    /// WordPiece, BPE and word-level vocabularies: hash tables, whatever the length of a token.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pieces, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Pieces { longest: 0 })
    }

    /// Unigram: pieces with their scores.
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Pieces, A::Error> {
        let mut longest = 0;
        while let Some((piece, _)) = list.next_element::<(std::borrow::Cow<'de, str>, IgnoredAny)>()? {
            longest = longest.max(piece.len());
        }
        Ok(Pieces { longest })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(normalizer: &Value) -> Result<u64, String> {
        check(
            json!({"normalizer": normalizer, "model": {"type": "BPE", "vocab": {}, "merges": []}})
                .to_string()
                .as_bytes(),
        )
    }

    #[test]
    fn usual_normalisers_do_not_multiply_and_piled_up_ones_do() {
        assert_eq!(of(&Value::Null), Ok(1));
        assert_eq!(of(&json!({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]})), Ok(1));
        let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        assert_eq!(of(&space), Ok(3));
        let spaces = json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "});
        assert_eq!(of(&json!({"type": "Sequence", "normalizers": [space, spaces]})), Ok(6));
        let double = json!({"type": "Replace", "pattern": {"String": "e"}, "content": "ee"});
        assert_eq!(of(&json!({"normalizers": vec![double; 70]})), Ok(u64::MAX));
    }

    #[test]
    fn a_charsmap_counts_its_longest_text() {
        // A table of four bytes, then "ab", 0, "abcde", 0.
        let charsmap = |base64: &str| of(&json!({"type": "Precompiled", "precompiled_charsmap": base64}));
        assert_eq!(charsmap("BAAAAAAAAABhYgBhYmNkZQA="), Ok(5));
        assert!(charsmap("/////wAAAABhYgA=").unwrap_err().contains("4294967295 bytes but 7 follow"));
        assert_eq!(charsmap(""), Ok(1), "the library says what is wrong with it");
    }

    #[test]
    fn a_key_given_twice_hides_nothing() {
        let long = "a".repeat(LONGEST_PIECE + 1);
        let file = format!(r#"{{"model":{{"type":"Unigram","vocab":[["{long}",0.0]]}},"model":{{"vocab":{{}}}}}}"#);
        assert!(check(file.as_bytes()).unwrap_err().contains("duplicate field"));
    }
}
