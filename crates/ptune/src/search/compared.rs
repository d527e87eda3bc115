//! The rows of a batch with several prompts that differ in one place, so that what comes before it is computed once.
//!
//! ```text
//! masked   a row sees all others: nothing is alike behind the first block, each prompt has rows of its own
//! causal   a row sees those before it. {text} [P*2] [MASK] with c0, c1 in the second place:
//!              a b P        one span an example, as each prompt has it
//!                    c0     its children: the rest, with each prompt
//!                    c1
//! ```
//! Where the place stands in what all examples begin with, that is there once for each prompt (`data/batch.rs`), and nothing
//! more is shared.

use crate::data::{Encoded, Token, TokenSpan, pack};
use crate::ops::Layout;

/// How many rows of these examples stand before this row of the prompt, those of the common beginning left out; 0 where
/// some example has none.
pub(super) fn shared_rows(examples: &[&Encoded], place: usize) -> usize {
    let own =
        examples.iter().map(|example| first(example, place)?.checked_sub(example.leading).filter(|rows| *rows > 0));
    own.sum::<Option<usize>>().unwrap_or(0)
}

/// The batch with `count` prompts of `prompt_rows` rows each, one below the other, alike before `place`; and the answer rows,
/// by their number among those of the batch, prompt by prompt as [`Layout::join`] has them.
///
/// # Panics
/// Where [`shared_rows`] is 0.
pub(super) fn side_by_side(
    examples: &[&Encoded],
    place: usize,
    prompt_rows: usize,
    count: usize,
) -> (Layout, Vec<u32>) {
    let beside: Vec<Encoded> = examples.iter().map(|example| beside(example, place, prompt_rows, count)).collect();
    let mut answers = vec![Vec::new(); count];
    let mut number = 0;
    for example in examples {
        for answers in &mut answers {
            answers.extend(number..number + example.answers.len() as u32);
            number += example.answers.len() as u32;
        }
    }
    (pack(&beside), answers.concat())
}

/// The first token of an example that is this row of the prompt, where it stands in its first span.
fn first(example: &Encoded, place: usize) -> Option<usize> {
    let end = example.spans.first()?.rows.end;
    example.tokens[..end].iter().position(|token| *token == Token::Pseudo(place as u32))
}

/// An example whose first span ends before the place and goes on in `count` ways, each with the other spans behind it.
fn beside(example: &Encoded, place: usize, prompt_rows: usize, count: usize) -> Encoded {
    let at = first(example, place).expect("the place stands in every example");
    let start = example.spans[0].first_position;
    let mut tokens = example.tokens[..at].to_vec();
    let mut spans = vec![TokenSpan { rows: 0..at, parent: None, first_position: start }];
    let mut answers = Vec::new();
    for prompt in 0..count {
        let (first_token, first_span) = (tokens.len(), spans.len());
        let of_prompt = |token: &Token| match token {
            Token::Pseudo(row) => Token::Pseudo(row + (prompt * prompt_rows) as u32),
            Token::Id(id) => Token::Id(*id),
        };
        tokens.extend(example.tokens[at..].iter().map(of_prompt));
        for (i, span) in example.spans.iter().enumerate() {
            let rows = span.rows.start.max(at) - at + first_token..span.rows.end - at + first_token;
            let (parent, first_position) = match i {
                0 => (Some(0), start + at),
                _ => (span.parent.map(|parent| first_span + parent), span.first_position),
            };
            spans.push(TokenSpan { rows, parent, first_position });
        }
        answers.extend(example.answers.iter().map(|row| row - at + first_token));
    }
    Encoded { tokens, spans, answers, leading: example.leading }
}
