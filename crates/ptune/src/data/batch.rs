//! Packing: the rows of several examples one behind the other, without padding.
//!
//! Row `r` of the batch is a token with a position; a *span* is a range of rows that see each other (and their
//! ancestors'). Where a pseudo token stands, `ids` holds 0 and `pseudo` says which prompt row replaces the word
//! embedding. The answer rows are the targets, as many for every example of a task, in the order of the examples.

use super::encode::{Encoded, Token};
use crate::ops::{Layout, Span};

/// Packs examples in their order. Ids are not checked against a vocabulary here.
pub fn pack<'a>(examples: impl IntoIterator<Item = &'a Encoded>) -> Layout {
    let mut layout = Layout::default();
    for example in examples {
        let (first_row, first_span) = (layout.rows(), layout.spans.len());
        for span in &example.spans {
            for (i, row) in span.rows.clone().enumerate() {
                let id = match example.tokens[row] {
                    Token::Id(id) => id,
                    Token::Pseudo(prompt_row) => {
                        layout.pseudo.push(((first_row + row) as u32, prompt_row));
                        0
                    }
                };
                layout.ids.push(id);
                layout.positions.push((span.first_position + i) as u32);
            }
            let rows = first_row + span.rows.start..first_row + span.rows.end;
            let parent = span.parent.map(|parent| first_span + parent);
            layout.spans.push(Span { end: rows.end, rows, parent, past: 0..0 });
        }
        close(&mut layout.spans[first_span..], first_span);
        layout.targets.extend(example.answers.iter().map(|row| (first_row + row) as u32));
    }
    layout
}

/// A span ends where its last descendant does; a child stands behind its parent. `spans` are those from `first` on.
fn close(spans: &mut [Span], first: usize) {
    for i in (0..spans.len()).rev() {
        if let Some(parent) = spans[i].parent {
            spans[parent - first].end = spans[parent - first].end.max(spans[i].end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::encode::TokenSpan;

    #[test]
    fn rows_stand_behind_each_other_without_padding() {
        use Token::{Id, Pseudo};
        let first = Encoded::row(vec![Id(7), Pseudo(1), Id(3), Pseudo(0)], 2);
        let second = Encoded::row(vec![Pseudo(1), Id(5)], 1);
        let layout = pack([&first, &second]);
        assert_eq!(layout.ids, [7, 0, 3, 0, 0, 5]);
        assert_eq!(layout.pseudo, [(1, 1), (3, 0), (4, 1)]);
        assert_eq!(layout.positions, [0, 1, 2, 3, 0, 1]);
        let rows: Vec<_> = layout.spans.iter().map(|span| span.rows.clone()).collect();
        assert_eq!(rows, [0..4, 4..6]);
        assert_eq!(layout.targets, [2, 5]);
    }

    #[test]
    fn a_child_goes_on_where_its_parent_ends() {
        let span = |rows, parent, first_position| TokenSpan { rows, parent, first_position };
        let spans = vec![span(0..2, None, 0), span(2..3, Some(0), 2), span(3..5, Some(0), 2), span(5..6, None, 0)];
        let example = Encoded { tokens: (1..7).map(Token::Id).collect(), spans, answers: vec![1, 2, 3, 4] };
        let layout = pack([&example, &example]);
        assert_eq!(layout.positions[6..], [0, 1, 2, 2, 3, 0]);
        let found: Vec<_> = layout.spans.iter().map(|span| (span.rows.clone(), span.parent, span.end)).collect();
        assert_eq!(found[..4], [(0..2, None, 5), (2..3, Some(0), 3), (3..5, Some(0), 5), (5..6, None, 6)]);
        assert_eq!(found[4..], [(6..8, None, 11), (8..9, Some(4), 9), (9..11, Some(4), 11), (11..12, None, 12)]);
        assert_eq!(layout.targets, [1, 2, 3, 4, 7, 8, 9, 10]);
    }
}
