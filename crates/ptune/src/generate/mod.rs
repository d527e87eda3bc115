//! Texts: what a causal model writes behind what it was asked, token by token.
//!
//! | file | holds |
//! |---|---|
//! | `steps.rs` | the loop: what was asked is run once, then a row a token, behind kept keys and values |
//! | `sampling.rs` | which token is next: the likeliest, or one that is drawn |
//! | `same.rs` | whether a given text is what a model writes, in whatever tokens |
//! | `text.rs` | from tokens to text, and where a stop string ends it |
//!
//! A row does not depend on its neighbours and every text draws from a stream of its own, so a text depends neither on
//! those that are written with it nor on how many there are. Not here: beams, penalties, several texts of one example.

mod same;
mod sampling;
mod steps;
mod text;

use std::ops::Range;

pub use same::Sought;
pub use sampling::Sampling;

use crate::Result;
use crate::checkpoint::Tokenizer;
use crate::data::{Encoded, pack};
use crate::model::{Columns, Inject, Model, Past};
use crate::rng::{Purpose, Rng};
use crate::tensor::Device;
use steps::{Asked, write_tokens};
use text::Text;

/// Rows whose keys and values are kept at once, the tokens to come included: some 300 MB in a GPT-2 of 12 layers in f32.
const KEPT_ROWS: usize = 4096;
/// Texts that are written together: enough to use every weight many times.
const TOGETHER: usize = 64;

/// How texts are written.
#[derive(Clone, Debug, PartialEq)]
pub struct Writing {
    /// The most tokens of a text.
    pub longest: usize,
    /// How tokens are drawn; `None` takes the likeliest.
    pub sampling: Option<Sampling>,
    /// Texts that end a text where the first of them begins. None of them is empty.
    pub stops: Vec<String>,
}

/// A text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The text, without white space around it.
    pub text: String,
    /// How many tokens were written, the end token not counted.
    pub tokens: usize,
    /// Why it ended.
    pub ended: Ended,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The model said so.
    End,
    /// A stop string.
    Stop,
    /// It has as many tokens as it may have, or the model has no more positions.
    Length,
}

impl Ended {
    /// The name in the output of the command.
    pub fn name(self) -> &'static str {
        match self {
            Ended::End => "end",
            Ended::Stop => "stop",
            Ended::Length => "length",
        }
    }
}

/// A model with a prompt in place, that writes.
pub struct Writer<'a> {
    /// Where it is done.
    pub device: &'a Device,
    /// The model.
    pub model: &'a Model,
    /// All columns of its head.
    pub columns: &'a Columns,
    /// The prompt; a past is a prefix, which all examples stand behind.
    pub inject: Inject<'a>,
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The token that ends a text.
    pub end: u32,
}

impl Writer<'_> {
    /// What the model writes behind each of the examples, which end where the answer begins. `numbers` names each example's
    /// stream of random numbers. `each(example, text)` is called when all texts that are written together are done, in order;
    /// `grown(example, tokens, fresh)` after every token, with what is certain of the text since the last call.
    ///
    /// # Errors
    /// Scores that are not finite numbers.
    pub fn write(
        &self,
        examples: &[&Encoded],
        numbers: &[usize],
        writing: &Writing,
        grown: &mut dyn FnMut(usize, usize, &str),
        mut each: impl FnMut(usize, Written),
    ) -> Result<()> {
        for range in together(examples, writing.longest.min(self.model.spec().positions)) {
            let grown = &mut |example, tokens, fresh: &str| grown(range.start + example, tokens, fresh);
            let texts = self.write_together(&examples[range.clone()], &numbers[range.clone()], writing, grown)?;
            texts.into_iter().zip(range).for_each(|(text, example)| each(example, text));
        }
        Ok(())
    }

    fn write_together(
        &self,
        examples: &[&Encoded],
        numbers: &[usize],
        writing: &Writing,
        grown: &mut dyn FnMut(usize, usize, &str),
    ) -> Result<Vec<Written>> {
        let mut texts: Vec<_> = numbers
            .iter()
            .map(|&number| {
                let seed = writing.sampling.as_ref().map_or(0, |sampling| sampling.seed);
                let stream = Rng::new(seed, Purpose::Sampling(u32::try_from(number).unwrap_or(u32::MAX)));
                (Text::new(self.tokenizer, &writing.stops), stream, Ended::Length)
            })
            .collect();
        let layout = pack(examples.iter().copied()).behind(self.inject.past.map_or(0, Past::rows));
        let asked = Asked { layout: &layout, inject: &self.inject, longest: writing.longest };
        write_tokens(self.device, self.model, self.columns, asked, |example, scores| {
            let (text, stream, ended) = &mut texts[example];
            let token = sampling::next(scores, writing.sampling.as_ref(), stream);
            if token == self.end {
                *ended = Ended::End;
                return None;
            }
            if text.push(token) {
                *ended = Ended::Stop;
                return None;
            }
            grown(example, text.tokens(), &text.fresh());
            Some(token)
        })?;
        Ok(texts.into_iter().map(|(text, _, ended)| text.finish(ended)).collect())
    }
}

/// Ranges of examples that are written together.
fn together(examples: &[&Encoded], longest: usize) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut rows = 0;
    for (i, example) in examples.iter().enumerate() {
        let own = example.tokens.len() + longest;
        match ranges.last_mut().filter(|range| range.len() < TOGETHER && rows + own <= KEPT_ROWS) {
            Some(range) => range.end = i + 1,
            None => {
                rows = 0;
                ranges.push(i..i + 1);
            }
        }
        rows += own;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Token;

    #[test]
    fn what_is_written_together_is_bounded_in_texts_and_rows() {
        let row = Encoded::row(vec![Token::Id(1); 100], 99);
        let examples = vec![&row; 150];
        assert_eq!(together(&examples, 1), [0..40, 40..80, 80..120, 120..150]);
        assert_eq!(together(&[&row; 3], 5000), [0..1, 1..2, 2..3]);
        let short = Encoded::row(vec![Token::Id(1)], 0);
        assert_eq!(together(&vec![&short; 100], 3), [0..64, 64..100]);
        assert!(together(&[], 3).is_empty());
    }
}
