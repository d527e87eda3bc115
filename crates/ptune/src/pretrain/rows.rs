//! Lines as rows of token ids, with the words that they belong to.
//!
//! A masked model's row stands between its class token and its separator; a causal one's begins with what its tokenizer
//! puts in front of a text, often nothing, as rows of `ptune train` do, and ends with the end token, so that the model
//! learns where a text is over. A line that is too long becomes several rows, cut between words where that is possible.
//! Rows in which nothing could be predicted are left out.

use std::ops::Range;

use crate::checkpoint::Tokenizer;
use crate::model::spec::ModelSpec;
use crate::train::tokens_around;
use crate::{Error, Result};

/// A row.
pub(super) struct Row {
    pub(super) ids: Vec<u32>,
    /// The tokens of each word that may be predicted: of a masked model those without an unknown token, none of a causal
    /// one, where every token but the first is.
    pub(super) words: Vec<Range<u32>>,
}

/// What rows of a model look like.
pub(super) struct Form {
    causal: bool,
    start: Vec<u32>,
    end: Option<u32>,
    unknown: Option<u32>,
    max_tokens: usize,
}

impl Form {
    /// # Errors
    /// No room for a text beside what stands around it.
    pub(super) fn of(spec: &ModelSpec, tokenizer: &Tokenizer, max_tokens: usize) -> Result<Form> {
        let special = tokenizer.special();
        let [start, end] = tokens_around(spec, tokenizer);
        let end = if spec.causal { special.eos } else { end.first().copied() };
        let around = start.len() + usize::from(end.is_some());
        if around >= max_tokens {
            let message = format!("rows have {max_tokens} tokens, but {around} stand around each text");
            return Err(Error::file(tokenizer.file(), message));
        }
        Ok(Form { causal: spec.causal, start, end, unknown: special.unk, max_tokens })
    }

    /// The rows of a line.
    pub(super) fn rows(&self, tokenizer: &Tokenizer, line: &str) -> Result<Vec<Row>> {
        let words = tokenizer.encode_words(line)?;
        let limit = self.max_tokens - self.start.len() - usize::from(self.end.is_some());
        let parts = cut(&words.iter().map(Vec::len).collect::<Vec<_>>(), limit);
        let tokens: Vec<u32> = words.into_iter().flatten().collect();
        let last = parts.len().saturating_sub(1);
        let rows = parts.iter().enumerate().map(|(i, (range, words))| {
            // A causal text goes on behind a cut.
            let end = self.end.filter(|_| !self.causal || i == last);
            self.row(&tokens[range.clone()], words, end)
        });
        let predicts = |row: &Row| if self.causal { row.ids.len() > 1 } else { !row.words.is_empty() };
        Ok(rows.filter(predicts).collect())
    }

    fn row(&self, tokens: &[u32], words: &[Range<usize>], end: Option<u32>) -> Row {
        let ids: Vec<u32> = self.start.iter().chain(tokens).copied().chain(end).collect();
        let first = self.start.len();
        let known = |word: &&Range<usize>| !tokens[(*word).clone()].iter().any(|id| Some(*id) == self.unknown);
        let words = words.iter().filter(|_| !self.causal).filter(known);
        Row { ids, words: words.map(|word| (first + word.start) as u32..(first + word.end) as u32).collect() }
    }
}

/// Consecutive tokens of at most `limit`, each with its words (counted from its first token). Only a word that is longer
/// than that is cut itself, and each of its parts is a word then.
fn cut(lengths: &[usize], limit: usize) -> Vec<(Range<usize>, Vec<Range<usize>>)> {
    let mut parts: Vec<(Range<usize>, Vec<Range<usize>>)> = Vec::new();
    let mut at = 0;
    for &length in lengths {
        let (mut from, end) = (at, at + length);
        while from < end {
            let room = parts.last().map_or(0, |(range, _)| limit - range.len());
            let taken = (end - from).min(limit);
            if taken > room {
                parts.push((from..from, Vec::new()));
            }
            if let Some((range, words)) = parts.last_mut() {
                words.push(from - range.start..from - range.start + taken);
                range.end = from + taken;
            }
            from += taken;
        }
        at = end;
    }
    parts
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // a row of one word
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_between_words_and_long_words_within() {
        assert_eq!(cut(&[2, 1, 2], 3), [(0..3, vec![0..2, 2..3]), (3..5, vec![0..2])]);
        assert_eq!(
            cut(&[1, 7, 1], 3),
            [(0..1, vec![0..1]), (1..4, vec![0..3]), (4..7, vec![0..3]), (7..9, vec![0..1, 1..2])]
        );
        assert_eq!(cut(&[], 3), []);
        assert_eq!(cut(&[0, 3], 3), [(0..3, vec![0..3])]);
    }

    #[test]
    fn a_causal_text_ends_once_and_a_masked_one_is_enclosed() {
        let form = |causal, start, end| Form { causal, start, end, unknown: Some(1), max_tokens: 9 };
        let masked = form(false, vec![2], Some(3)).row(&[7, 8, 1], &[0..2, 2..3], Some(3));
        assert_eq!((masked.ids, masked.words), (vec![2, 7, 8, 1, 3], vec![1..3]), "the unknown word is not predicted");
        let causal = form(true, vec![], Some(0)).row(&[7, 8], &[0..2], None);
        assert_eq!((causal.ids, causal.words), (vec![7, 8], vec![]));
        let begun = form(true, vec![4], Some(0)).row(&[7, 8], &[0..2], Some(0));
        assert_eq!((begun.ids, begun.words), (vec![4, 7, 8, 0], vec![]));
    }
}
