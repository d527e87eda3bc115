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
}

impl<'a> Text<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, stops: &'a [String]) -> Text<'a> {
        Text { tokenizer, stops, bytes: Vec::new(), tokens: 0 }
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

    /// The text as a whole. Bytes that are no characters, as of one that the last token has cut, are shown as `�`.
    pub(super) fn finish(self, ended: Ended) -> Written {
        let text = String::from_utf8_lossy(&self.bytes).trim().to_owned();
        Written { text, tokens: self.tokens, ended }
    }
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
