//! How a model gives its answer: which rows an example has for it, and which of them a label word reads.
//!
//! A word of k tokens needs k *answer rows*, one that predicts each of its tokens:
//!
//! ```text
//! masked   a variant of the row for each number of masks that some word needs:
//!              text [MASK] .            1 answer row: words of one token
//!              text [MASK] [MASK] .     2 answer rows: words of two
//! causal   the prefix, whose last row predicts every word's first token, and behind it the words of several tokens
//!          without their last, each seeing the prefix and itself (teacher forcing):
//!              text |                   1 answer row
//!                   | very              1 answer row: predicts the second token of "very good"
//! ```
//! The answer rows of an example are counted in this order, variants by their number of masks. Their number is the same
//! for every example of a task. A word of one token is no special case.
//!
//! An answer that is any text (causal) is no word of the task but of the example, and an end-of-text token belongs to it:
//!
//! ```text
//! asked    text |                      1 answer row: predicts the first token
//! trained  text | the big soup         1 + k answer rows: the last predicts the end of the text (teacher forcing)
//! ```

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The rows that an example has for its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerForm {
    /// Masked: a variant of the row for each of these numbers of masks, ascending.
    Masks(Vec<usize>),
    /// A classifier of a model that sees both sides: the first row. (In a causal model it has the last row of an answer of
    /// one token.)
    First,
    /// A classifier of the mean: every row.
    Every,
    /// Causal: the last row of the prefix, and behind the prefix each of these continuations.
    Continuations(Vec<Vec<u32>>),
    /// Causal: the last row of the prefix, and behind it the example's own answer where it is known.
    Text {
        /// Every row leaves room for an answer of so many tokens.
        longest: usize,
    },
}

impl AnswerForm {
    /// The form of an answer of one token.
    pub fn one_token(causal: bool) -> AnswerForm {
        if causal { AnswerForm::Continuations(Vec::new()) } else { AnswerForm::Masks(vec![1]) }
    }

    /// The form for label words, given by their tokens, and for each word in order the answer rows that predict its
    /// tokens one by one.
    pub fn of_words(words: &[&[u32]], causal: bool) -> (AnswerForm, Vec<Vec<u32>>) {
        if causal { continuations(words) } else { masks(words) }
    }

    /// Answer rows of an example that is asked.
    pub fn rows(&self) -> usize {
        match self {
            AnswerForm::Masks(counts) => counts.iter().sum(),
            AnswerForm::First | AnswerForm::Every => 1, // Every: at least
            AnswerForm::Continuations(words) => 1 + words.iter().map(Vec::len).sum::<usize>(),
            AnswerForm::Text { .. } => 1,
        }
    }

    /// Whether the answer stands behind all that is read, where nothing else can stand.
    pub fn is_causal(&self) -> bool {
        matches!(self, AnswerForm::Continuations(_) | AnswerForm::Text { .. })
    }

    /// The most rows that one answer takes; they count as tokens of the row.
    pub fn longest(&self) -> usize {
        match self {
            AnswerForm::Masks(counts) => counts.last().copied().unwrap_or_default(),
            AnswerForm::First | AnswerForm::Every => 0,
            AnswerForm::Continuations(words) => words.iter().map(Vec::len).max().unwrap_or_default(),
            AnswerForm::Text { longest } => *longest,
        }
    }
}

fn masks(words: &[&[u32]]) -> (AnswerForm, Vec<Vec<u32>>) {
    let mut counts: Vec<usize> = words.iter().map(|word| word.len()).collect();
    counts.sort_unstable();
    counts.dedup();
    let rows_of = |word: &&[u32]| {
        let first = counts.iter().take_while(|count| **count < word.len()).sum();
        numbered(first..first + word.len())
    };
    let rows = words.iter().map(rows_of).collect();
    (AnswerForm::Masks(counts), rows)
}

fn continuations(words: &[&[u32]]) -> (AnswerForm, Vec<Vec<u32>>) {
    let mut beginnings = Vec::new();
    let mut next = 1;
    let mut rows_of = |word: &&[u32]| {
        let Some((_, beginning)) = word.split_last().filter(|(_, beginning)| !beginning.is_empty()) else {
            return vec![0];
        };
        beginnings.push(beginning.to_vec());
        next += beginning.len();
        [vec![0], numbered(next - beginning.len()..next)].concat()
    };
    let rows = words.iter().map(&mut rows_of).collect();
    (AnswerForm::Continuations(beginnings), rows)
}

fn numbered(rows: Range<usize>) -> Vec<u32> {
    rows.map(|row| row as u32).collect()
}

/// What an answer is, where it is not one of the label words or a word of the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerKind {
    /// Any text, which a causal model writes token by token.
    Text,
}

/// What happens to the pieces behind `[MASK]` in a causal model, which could not see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CausalTail {
    /// They are an error.
    #[default]
    Error,
    /// They are left out.
    Drop,
}

impl CausalTail {
    /// Whether it is the default, which an adapter does not write down.
    pub fn is_error(&self) -> bool {
        *self == CausalTail::Error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&[u32]; 5] = [&[7, 8], &[9], &[7, 8, 9], &[5], &[6, 8]];

    #[test]
    fn masked_words_of_one_length_share_their_masks() {
        let (form, rows) = AnswerForm::of_words(&WORDS, false);
        assert_eq!(form, AnswerForm::Masks(vec![1, 2, 3]));
        assert_eq!(rows, [vec![1, 2], vec![0], vec![3, 4, 5], vec![0], vec![1, 2]]);
        assert_eq!((form.rows(), form.longest()), (6, 3));
        assert_eq!(AnswerForm::of_words(&[&[1, 2], &[3, 4]], false).0, AnswerForm::Masks(vec![2]));
    }

    #[test]
    fn causal_words_start_at_the_prefix_and_go_on_behind_it() {
        let (form, rows) = AnswerForm::of_words(&WORDS, true);
        assert_eq!(form, AnswerForm::Continuations(vec![vec![7], vec![7, 8], vec![6]]));
        assert_eq!(rows, [vec![0, 1], vec![0], vec![0, 2, 3], vec![0], vec![0, 4]]);
        assert_eq!((form.rows(), form.longest()), (5, 2));
    }

    #[test]
    fn words_of_one_token_have_the_form_of_an_answer_of_one_token() {
        for causal in [false, true] {
            let (form, rows) = AnswerForm::of_words(&[&[4], &[5]], causal);
            assert_eq!((&form, form.rows()), (&AnswerForm::one_token(causal), 1));
            assert_eq!(rows, [[0], [0]]);
        }
    }
}
