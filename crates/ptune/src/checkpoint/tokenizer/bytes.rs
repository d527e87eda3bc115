//! From tokens back to text. A token's bytes do not depend on its neighbours, so that a text can be put together token by
//! token; they need not be whole characters: byte-level tokens cut Korean ones anywhere.
//!
//! | kind | token | bytes |
//! |---|---|---|
//! | WordPiece | `word`, `##ing` | ` word`, `ing` |
//! | byte-level BPE | `Ġword` | ` word`: each character stands for a byte |
//! | SentencePiece | `▁word`, `<0xEA>` | ` word`, the byte |
//! | BPE with `</w>` | `word</w>` | `word ` |
//! | word-level | `word` | ` word` |
//!
//! Special tokens have none. Cleaning up (no space before a full stop) is left out: it would change what was written.

use tokenizers::models::ModelWrapper;

use super::Tokenizer;
use super::kind::{Kind, METASPACE};
use crate::checkpoint::special_tokens::SpecialTokens;

impl Tokenizer {
    /// The bytes that a token adds to a text; none of a special token or an id that it does not have.
    pub fn bytes(&self, id: u32) -> Vec<u8> {
        let SpecialTokens { mask, cls, sep, pad, unk, bos, eos } = self.special;
        let special = [mask, cls, sep, pad, unk, bos, eos].contains(&Some(id));
        let Some(token) = self.inner.id_to_token(id).filter(|_| !special) else { return Vec::new() };
        let added = self.inner.get_added_vocabulary();
        if added.is_special_token(&token) {
            return Vec::new();
        }
        if added.get_vocab().contains_key(&token) {
            return token.into_bytes(); // as it is, whatever the kind
        }
        match &self.kind {
            Kind::WordPiece { prefix, .. } => match token.strip_prefix(prefix.as_str()) {
                Some(rest) => rest.into(),
                None => format!(" {token}").into_bytes(),
            },
            Kind::ByteLevel { .. } => {
                token.chars().map(byte_of).collect::<Option<_>>().unwrap_or_else(|| token.into_bytes())
            }
            Kind::Metaspace { .. } => match hexadecimal_byte(&token) {
                Some(byte) => vec![byte],
                None => token.replace(METASPACE, " ").into_bytes(),
            },
            Kind::Unmarked if matches!(self.inner.get_model(), ModelWrapper::WordLevel(_)) => {
                format!(" {token}").into_bytes()
            }
            Kind::Unmarked => token.replace("</w>", " ").into_bytes(),
        }
    }

    /// The text of some tokens, without white space around it; bytes that are no characters are shown as `�`.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.bytes(*id)).collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

/// The byte that a character of the byte-level alphabet stands for: visible Latin-1 characters for themselves, the others,
/// in order, from U+0100 on.
fn byte_of(character: char) -> Option<u8> {
    match u32::from(character) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8), // 0 to 32
        code @ 0x121..=0x142 => Some((code - 0x121) as u8 + 127), // 127 to 160
        0x143 => Some(0xad),
        _ => None,
    }
}

/// `<0xEA>`
fn hexadecimal_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::checkpoint::Glue;

    #[test]
    fn the_byte_level_alphabet_has_every_byte_once() {
        let mut found: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        found.sort_unstable();
        assert_eq!(found, (0..=255).collect::<Vec<u8>>());
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        assert!(alphabet.into_iter().all(|character| byte_of(character).is_some()));
    }

    #[test]
    fn texts_come_back_from_their_tokens() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
        let mut kinds = Vec::new();
        for entry in std::fs::read_dir(fixtures).unwrap() {
            let tokenizer = Tokenizer::open(&entry.unwrap().path()).unwrap();
            // Words that every one of these vocabularies knows, and bytes where there are any.
            let ids = tokenizer.encode("the film was good", Glue::Start).unwrap();
            if !ids.iter().any(|id| Some(*id) == tokenizer.unk_id()) {
                assert_eq!(tokenizer.decode(&ids), "the film was good", "{}", tokenizer.file().display());
                kinds.push(tokenizer.kind());
            }
            // bpe-prepend lists its bytes among the special tokens, which have no text.
            let (kind, causal) = (tokenizer.kind(), tokenizer.mask_id().is_none());
            if kind == "byte-level BPE" || kind == "BPE" && causal {
                let text = "국물이 너무 좋다 — naïve\n\tx";
                let ids = tokenizer.encode(text, Glue::Space).unwrap();
                assert_eq!(tokenizer.decode(&ids), text);
                assert!(ids.iter().any(|id| String::from_utf8(tokenizer.bytes(*id)).is_err()), "part of a character");
            }
        }
        assert!(["WordPiece", "byte-level BPE", "BPE"].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    }

    #[test]
    fn special_tokens_have_no_text() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2_lstm/model");
        let tokenizer = Tokenizer::open(&directory).unwrap();
        assert!(tokenizer.bytes(tokenizer.special().eos.unwrap()).is_empty());
        assert!(tokenizer.bytes(u32::MAX).is_empty());
        assert_eq!(hexadecimal_byte("<0xEA>"), Some(0xea));
        assert_eq!([hexadecimal_byte("<0xE>"), hexadecimal_byte("0xEA"), hexadecimal_byte("<0xEAA>")], [None; 3]);
    }
}
