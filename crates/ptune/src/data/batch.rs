//! A packed batch: the rows of several examples one behind the other, without padding.
//!
//! Row `r` of the batch is a token with a position; the *span* of an example is its range of rows. Where a pseudo token
//! stands, `ids` holds 0 and `pseudo` says which prompt row replaces the word embedding.

use std::ops::Range;

use super::encode::{Encoded, Token};

/// The layout of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Token ids, `[rows]`; 0 at pseudo tokens.
    pub ids: Vec<u32>,
    /// `(row, prompt row)` of every pseudo token, rows ascending.
    pub pseudo: Vec<(u32, u32)>,
    /// Positions, `[rows]`, from 0 in every example.
    pub positions: Vec<u32>,
    /// The rows of each example, `[examples]`, one behind the other.
    pub spans: Vec<Range<usize>>,
    /// The row of each example's answer, `[examples]`, ascending.
    pub answers: Vec<u32>,
}

impl Batch {
    /// Packs examples in their order. Ids are not checked against a vocabulary here.
    pub fn pack<'a>(examples: impl IntoIterator<Item = &'a Encoded>) -> Batch {
        let mut batch = Batch::default();
        for example in examples {
            let first = batch.ids.len();
            for (position, token) in example.tokens.iter().enumerate() {
                let id = match *token {
                    Token::Id(id) => id,
                    Token::Pseudo(row) => {
                        batch.pseudo.push(((first + position) as u32, row));
                        0
                    }
                };
                batch.ids.push(id);
                batch.positions.push(position as u32);
            }
            batch.spans.push(first..batch.ids.len());
            batch.answers.push((first + example.answer) as u32);
        }
        batch
    }

    /// How many rows the batch has.
    pub fn rows(&self) -> usize {
        self.ids.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_behind_each_other_without_padding() {
        use Token::{Id, Pseudo};
        let first = Encoded { tokens: vec![Id(7), Pseudo(1), Id(3), Pseudo(0)], answer: 2 };
        let second = Encoded { tokens: vec![Pseudo(1), Id(5)], answer: 1 };
        let batch = Batch::pack([&first, &second]);
        assert_eq!(batch.ids, [7, 0, 3, 0, 0, 5]);
        assert_eq!(batch.pseudo, [(1, 1), (3, 0), (4, 1)]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 0, 1]);
        assert_eq!(batch.spans, [0..4, 4..6]);
        assert_eq!(batch.answers, [2, 5]);
        assert_eq!(batch.rows(), 6);
    }
}
