//! Packing: the rows of several examples one behind the other, without padding.
//!
//! Row `r` of the batch is a token with a position; a *span* is a range of rows that see each other (and their
//! ancestors'). Where a pseudo token stands, `ids` holds 0 and `pseudo` says which prompt row replaces the word
//! embedding. The answer rows are the targets, as many for every example of a task, in the order of the examples.
//!
//! A causal row sees nothing behind it, so the first tokens of an example need not be rows of its own ([`Beginning`]):
//!
//! ```text
//! template [P*3] {text} is [MASK]      P P P                 one span, whose children are the examples
//!                                            a b is
//!                                            c is
//! template {text} [P*2] [MASK]         (a b) P P             rows of the past, run before
//!                                      (c)   P P
//! ```

use std::ops::Range;

use super::encode::{Encoded, Token};
use crate::ops::{Layout, Span};

/// Where the first tokens of an example are computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// In rows of its own.
    Own,
    /// The [leading](Encoded::leading) ones in rows that the examples share which follow one another and ask for it.
    Shared,
    /// Before: these rows of the past are that many tokens.
    Past(Range<usize>),
}

/// Packs examples of one template in their order; what a causal template begins with is there once. Ids are not checked
/// against a vocabulary here.
pub fn pack<'a>(examples: impl IntoIterator<Item = &'a Encoded>) -> Layout {
    pack_from(examples.into_iter().map(|example| (example, Beginning::Shared)))
}

/// Packs examples in their order, each with its beginning where it says. Those that share one are of one template.
pub fn pack_from<'a>(examples: impl IntoIterator<Item = (&'a Encoded, Beginning)>) -> Layout {
    let mut layout = Layout::default();
    // The span that the next example goes on from, if it shares its beginning too.
    let mut root = None;
    for (example, beginning) in examples {
        let shares = beginning == Beginning::Shared && example.leading > 0;
        root = root.filter(|_| shares);
        if shares && root.is_none() {
            root = Some(push(&mut layout, example, 0..example.leading, 0, None, 0..0));
        }
        let past = if let Beginning::Past(rows) = beginning { rows } else { 0..0 };
        let elsewhere = if shares { example.leading } else { past.len() };
        let (first_span, first_row) = (layout.spans.len(), layout.rows());
        for (i, span) in example.spans.iter().enumerate() {
            let skipped = if i == 0 { elsewhere } else { 0 };
            let rows = span.rows.start + skipped..span.rows.end;
            let parent = span.parent.map_or(root.filter(|_| i == 0), |parent| Some(first_span + parent));
            push(&mut layout, example, rows, span.first_position + skipped, parent, past.clone());
        }
        layout.targets.extend(example.answers.iter().map(|row| (first_row + row - elsewhere) as u32));
    }
    close(&mut layout.spans);
    layout
}

/// Adds the tokens `rows` of an example as a span; its number.
fn push(
    layout: &mut Layout,
    example: &Encoded,
    rows: Range<usize>,
    first_position: usize,
    parent: Option<usize>,
    past: Range<usize>,
) -> usize {
    let first_row = layout.rows();
    for (i, token) in example.tokens[rows].iter().enumerate() {
        let id = match token {
            Token::Id(id) => *id,
            Token::Pseudo(prompt_row) => {
                layout.pseudo.push(((first_row + i) as u32, *prompt_row));
                0
            }
        };
        layout.ids.push(id);
        layout.positions.push((first_position + i) as u32);
    }
    let rows = first_row..layout.rows();
    layout.spans.push(Span { end: rows.end, rows, parent, past });
    layout.spans.len() - 1
}

/// A span ends where its last descendant does; a child stands behind its parent.
fn close(spans: &mut [Span]) {
    for i in (0..spans.len()).rev() {
        if let Some(parent) = spans[i].parent {
            spans[parent].end = spans[parent].end.max(spans[i].end);
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
        let example = Encoded { tokens: (1..7).map(Token::Id).collect(), spans, answers: vec![1, 2, 3, 4], leading: 0 };
        let layout = pack([&example, &example]);
        assert_eq!(layout.positions[6..], [0, 1, 2, 2, 3, 0]);
        let found: Vec<_> = layout.spans.iter().map(|span| (span.rows.clone(), span.parent, span.end)).collect();
        assert_eq!(found[..4], [(0..2, None, 5), (2..3, Some(0), 3), (3..5, Some(0), 5), (5..6, None, 6)]);
        assert_eq!(found[4..], [(6..8, None, 11), (8..9, Some(4), 9), (9..11, Some(4), 11), (11..12, None, 12)]);
        assert_eq!(layout.targets, [1, 2, 3, 4, 7, 8, 9, 10]);
    }

    /// Three leading tokens, one of the example, and a label word's.
    fn causal(text: &[u32], leading: usize) -> Encoded {
        use Token::{Id, Pseudo};
        let tokens: Vec<Token> = [vec![Id(1), Pseudo(0), Pseudo(1)], text.iter().map(|id| Id(*id)).collect()].concat();
        let last = tokens.len() - 1;
        let mut example = Encoded::row(tokens, last);
        example.tokens.push(Id(9));
        example.spans.push(TokenSpan { rows: last + 1..last + 2, parent: Some(0), first_position: last + 1 });
        example.answers.push(last + 1);
        Encoded { leading, ..example }
    }

    fn spans(layout: &Layout) -> Vec<(Range<usize>, Option<usize>, usize)> {
        layout.spans.iter().map(|span| (span.rows.clone(), span.parent, span.end)).collect()
    }

    #[test]
    fn what_the_template_begins_with_is_there_once() {
        let layout = pack([&causal(&[5, 6], 3), &causal(&[7], 3)]);
        assert_eq!(layout.ids, [1, 0, 0, 5, 6, 9, 7, 9]);
        assert_eq!(layout.positions, [0, 1, 2, 3, 4, 5, 3, 4]);
        assert_eq!(layout.pseudo, [(1, 0), (2, 1)]);
        let want = [(0..3, None, 8), (3..5, Some(0), 6), (5..6, Some(1), 6), (6..7, Some(0), 8), (7..8, Some(3), 8)];
        assert_eq!(spans(&layout), want);
        assert_eq!(layout.targets, [4, 5, 6, 7]);
        // An example without tokens of its own behind them has rows of its own; the next begins anew.
        let layout = pack([&causal(&[5], 3), &causal(&[], 0), &causal(&[7], 3)]);
        let roots: Vec<_> = spans(&layout).into_iter().filter(|(_, parent, _)| parent.is_none()).collect();
        assert_eq!(roots, [(0..3, None, 5), (5..8, None, 9), (9..12, None, 14)]);
        assert_eq!(layout.targets, [3, 4, 7, 8, 12, 13]);
    }

    #[test]
    fn what_stands_in_the_past_is_no_row() {
        let example = causal(&[5, 6], 3);
        let layout = pack_from([(&example, Beginning::Past(4..5)), (&example, Beginning::Past(0..0))]);
        assert_eq!(layout.ids, [0, 0, 5, 6, 9, 1, 0, 0, 5, 6, 9]);
        assert_eq!(layout.positions, [1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]);
        assert_eq!(spans(&layout), [(0..4, None, 5), (4..5, Some(0), 5), (5..10, None, 11), (10..11, Some(2), 11)]);
        let pasts: Vec<_> = layout.spans.iter().map(|span| span.past.clone()).collect();
        assert_eq!(pasts, [4..5, 4..5, 0..0, 0..0]);
        assert_eq!((layout.targets, layout.pseudo), (vec![3, 4, 9, 10], vec![(0, 0), (1, 1), (6, 0), (7, 1)]));
    }
}
