//! An example as tokens: spans of rows, one behind the other, and which of them give the answer.

use std::ops::Range;

/// One token of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// A token of the vocabulary.
    Id(u32),
    /// A prompt row in the place of a word embedding.
    Pseudo(u32),
}

/// An example as tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Encoded {
    /// The tokens, span behind span, start and end tokens included.
    pub tokens: Vec<Token>,
    /// The spans, a child somewhere behind its parent; they cover the tokens without gaps.
    pub spans: Vec<TokenSpan>,
    /// The indices in `tokens` of the rows that give the answer, ascending: masks, or in a causal model the rows before
    /// the tokens of the answer. As many for every example of a task, unless its answers are texts.
    pub answers: Vec<usize>,
    /// Causal: how many tokens at the beginning the template alone decides. They are the same in every row of the task. 0
    /// where nothing stands behind them, since an answer row belongs to one example.
    pub leading: usize,
}

/// Tokens that see each other and those of their ancestors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenSpan {
    /// Its tokens.
    pub rows: Range<usize>,
    /// The span that it continues: an index into the spans, smaller than its own.
    pub parent: Option<usize>,
    /// The position of its first token.
    pub first_position: usize,
}

impl Encoded {
    /// A single row with a single answer.
    pub fn row(tokens: Vec<Token>, answer: usize) -> Encoded {
        let mut encoded = Encoded { tokens: Vec::new(), spans: Vec::new(), answers: vec![answer], leading: 0 };
        encoded.push(tokens, None);
        encoded
    }

    /// Tokens before the first pseudo token of the first span.
    pub fn before_pseudo(&self) -> usize {
        let first = &self.tokens[self.spans[0].rows.clone()];
        first.iter().take_while(|token| matches!(token, Token::Id(_))).count()
    }

    /// Puts another row of the same example behind this one. Neither sees the other.
    pub(super) fn append(&mut self, other: Encoded) {
        let (first_row, first_span) = (self.tokens.len(), self.spans.len());
        self.tokens.extend(other.tokens);
        self.spans.extend(other.spans.into_iter().map(|span| TokenSpan {
            rows: span.rows.start + first_row..span.rows.end + first_row,
            parent: span.parent.map(|parent| parent + first_span),
            ..span
        }));
        self.answers.extend(other.answers.into_iter().map(|row| row + first_row));
        self.leading = 0;
    }

    pub(super) fn push(&mut self, tokens: impl IntoIterator<Item = Token>, parent: Option<usize>) {
        let start = self.tokens.len();
        self.tokens.extend(tokens);
        let end_of = |parent: usize| self.spans[parent].first_position + self.spans[parent].rows.len();
        let first_position = parent.map_or(0, end_of);
        self.spans.push(TokenSpan { rows: start..self.tokens.len(), parent, first_position });
    }
}
