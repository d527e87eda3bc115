//! Packing: the rows of several examples one behind the other, without padding.
//!
//! Row `r` of the batch is a token with a position; the *span* of an example is its range of rows. Where a pseudo token
//! stands, `ids` holds 0 and `pseudo` says which prompt row replaces the word embedding. The answer rows are the
//! targets, one an example, in the order of the examples.

use super::encode::{Encoded, Token};
use crate::ops::{Layout, Span};

/// Packs examples in their order. Ids are not checked against a vocabulary here.
pub fn pack<'a>(examples: impl IntoIterator<Item = &'a Encoded>) -> Layout {
    let mut layout = Layout::default();
    for example in examples {
        let first = layout.rows();
        for (position, token) in example.tokens.iter().enumerate() {
            let id = match *token {
                Token::Id(id) => id,
                Token::Pseudo(row) => {
                    layout.pseudo.push(((first + position) as u32, row));
                    0
                }
            };
            layout.ids.push(id);
            layout.positions.push(position as u32);
        }
        layout.spans.push(Span { rows: first..layout.rows(), parent: None, end: layout.rows(), past: 0..0 });
        layout.targets.push((first + example.answer) as u32);
    }
    layout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_behind_each_other_without_padding() {
        use Token::{Id, Pseudo};
        let first = Encoded { tokens: vec![Id(7), Pseudo(1), Id(3), Pseudo(0)], answer: 2 };
        let second = Encoded { tokens: vec![Pseudo(1), Id(5)], answer: 1 };
        let layout = pack([&first, &second]);
        assert_eq!(layout.ids, [7, 0, 3, 0, 0, 5]);
        assert_eq!(layout.pseudo, [(1, 1), (3, 0), (4, 1)]);
        assert_eq!(layout.positions, [0, 1, 2, 3, 0, 1]);
        let rows: Vec<_> = layout.spans.iter().map(|span| span.rows.clone()).collect();
        assert_eq!(rows, [0..4, 4..6]);
        assert_eq!(layout.targets, [2, 5]);
    }
}
