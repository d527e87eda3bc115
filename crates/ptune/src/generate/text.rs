//! A text that grows token by token. Tokens need not end where characters do, and stop strings need not begin or end where
//! tokens do, so both are looked at in bytes: a stop string is whole characters, and in UTF-8 those are found nowhere but
//! where they stand.

use super::{Ended, Written};
use crate::checkpoint::Tokenizer;

/// A text so far.
pub(super) struct Text<'a> {
    tokenizer: &'a Tokenizer,
    stops: &'a [String],
    bytes: Vec<u8>,
    tokens: usize,
    /// Bytes that were told as [`Text::fresh`], or left out at the beginning.
    told: usize,
}

impl<'a> Text<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, stops: &'a [String]) -> Text<'a> {
        Text { tokenizer, stops, bytes: Vec::new(), tokens: 0, told: 0 }
    }

    /// Adds a token; whether a stop string is there now, which is cut off then with all that follows.
    pub(super) fn push(&mut self, token: u32) -> bool {
        self.tokens += 1;
        self.push_bytes(&self.tokenizer.bytes(token))
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> bool {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let places = self.stops.iter().filter_map(|stop| {
            // It ends in the new bytes, or it would have been found before.
            let start = (before + 1).saturating_sub(stop.len());
            self.bytes[start..].windows(stop.len()).position(|part| part == stop.as_bytes()).map(|at| start + at)
        });
        let first = places.min();
        self.bytes.truncate(first.unwrap_or(self.bytes.len()));
        first.is_some()
    }

    /// How many tokens it has.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// What is certain now and was not at the last call: whole characters that no stop string can take back any more. White
    /// space waits for what follows it. All of these together are what [`Text::finish`] begins with.
    pub(super) fn fresh(&mut self) -> String {
        let begun = self.stops.iter().map(|stop| begun(&self.bytes, stop.as_bytes())).max().unwrap_or(0);
        let certain = &self.bytes[self.told..(self.bytes.len() - begun).max(self.told)];
        let certain = &certain[..certain.len() - cut_character(certain)];
        let text = String::from_utf8_lossy(certain);
        let (length, without_end) = (text.len(), text.trim_end());
        let told = certain.len() - (length - without_end.len());
        let fresh = if self.told == 0 { without_end.trim_start() } else { without_end }.to_owned();
        self.told += told;
        fresh
    }

    /// The text as a whole. Bytes that are no characters, as of one that the last token has cut, are shown as `�`.
    pub(super) fn finish(self, ended: Ended) -> Written {
        let text = String::from_utf8_lossy(&self.bytes).trim().to_owned();
        Written { text, tokens: self.tokens, ended }
    }
}

/// How many bytes of `stop`, not all, the text ends with.
fn begun(bytes: &[u8], stop: &[u8]) -> usize {
    (1..stop.len()).rev().find(|length| bytes.ends_with(&stop[..*length])).unwrap_or(0)
}

/// How many bytes of a character whose others are not there yet a text ends with.
fn cut_character(bytes: &[u8]) -> usize {
    let is_cut = |length: &usize| {
        let end = &bytes[bytes.len() - length..];
        std::str::from_utf8(end).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=bytes.len().min(3)).rev().find(is_cut).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The text after these parts, and at which a stop string was seen.
    fn stopped(stops: &[&str], parts: &[&[u8]]) -> (String, Option<usize>) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2_lstm/model");
        let tokenizer = Tokenizer::open(&directory).unwrap();
        let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        let mut text = Text::new(&tokenizer, &stops);
        let at = parts.iter().position(|part| text.push_bytes(part));
        (text.finish(Ended::Length).text, at)
    }

    #[test]
    fn a_stop_string_may_lie_across_tokens_and_cut_one() {
        assert_eq!(stopped(&["\n\n"], &[b" one\n", b"two", b"\n", b"\nthree"]), ("one\ntwo".into(), Some(3)));
        assert_eq!(stopped(&["END", "two"], &[b"one two EN", b"D"]), ("one".into(), Some(0)));
        assert_eq!(stopped(&["b", "abc"], &[b"xa", b"bc"]), ("x".into(), Some(1)), "the first to begin");
        assert_eq!(stopped(&["aab"], &[b"a", b"a", b"a", b"b"]), ("a".into(), Some(3)));
        assert_eq!(stopped(&["stop"], &[b"sto", b"ne"]), ("stone".into(), None));
        assert_eq!(stopped(&["x"], &[b"x"]), (String::new(), Some(0)));
    }

    /// However the bytes come, what is told is the beginning of the text, and all of it but what may still be taken back.
    #[test]
    fn a_text_is_told_as_it_grows() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2_lstm/model");
        let tokenizer = Tokenizer::open(&directory).unwrap();
        let stops = ["좋다".to_owned(), "\n\nQ".to_owned(), " aab".to_owned()];
        let texts: [&[u8]; 6] = [
            "  국물이 정말 좋다 x".as_bytes(),
            b"one \n\n two\n\nQ three",
            b" \xff\xfe broken \xea\xb5",
            b"x aa aab",
            b" \n ",
            b"aa  ",
        ];
        for (bytes, size) in texts.into_iter().flat_map(|text| [1, 2, 3, 5].map(|size| (text, size))) {
            let mut text = Text::new(&tokenizer, &stops);
            let mut told = String::new();
            for part in bytes.chunks(size) {
                let stopped = text.push_bytes(part);
                told += &text.fresh();
                if stopped {
                    break;
                }
            }
            let whole = text.finish(Ended::Length).text;
            let rest = whole.strip_prefix(&told).unwrap_or_else(|| panic!("'{told}' does not begin '{whole}'"));
            assert!(rest.len() <= 4, "'{rest}' of '{whole}' was never told");
        }
    }

    /// The tokens of a byte-level vocabulary that knows no Hangul: a syllable is three of them, and a stop string begins and
    /// ends between them.
    #[test]
    fn a_stop_string_of_syllables_is_found_in_tokens_of_parts_of_them() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2_lstm/model");
        let tokenizer = Tokenizer::open(&directory).unwrap();
        let tokens = tokenizer.encode("국물이 정말 좋다 그래도 좋다", crate::checkpoint::Glue::Start).unwrap();
        assert!(tokens.iter().any(|token| std::str::from_utf8(&tokenizer.bytes(*token)).is_err()), "no token cuts one");
        let stops = ["좋다".to_owned()];
        let mut text = Text::new(&tokenizer, &stops);
        let mut told = String::new();
        let stopped = tokens.iter().position(|token| {
            let stopped = text.push(*token);
            told += &text.fresh();
            stopped
        });
        assert!(stopped.is_some_and(|at| at + 1 < tokens.len()), "it goes on behind the first");
        assert!(!told.contains('\u{fffd}') && "국물이 정말".starts_with(&told), "{told}");
        assert_eq!(text.finish(Ended::Stop).text, "국물이 정말");
    }

    #[test]
    fn characters_that_tokens_cut_are_put_together() {
        let korean = "국물 좋다".as_bytes();
        let bytes: Vec<&[u8]> = korean.chunks(1).collect();
        assert_eq!(stopped(&[], &bytes), ("국물 좋다".into(), None));
        assert_eq!(stopped(&["좋"], &bytes), ("국물".into(), Some(9)));
        // 물 ends with the bytes of another character's beginning: no stop string is found inside of one.
        assert_eq!(stopped(&["\u{bc}"], &[&korean[..6]]), ("국물".into(), None));
        assert_eq!(stopped(&[], &[&korean[..4]]), ("국\u{fffd}".into(), None));
    }
}
