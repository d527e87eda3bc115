//! An example through a template: a row of token ids and pseudo tokens.
//!
//! ```text
//! row = start, piece*, end                       masked: start and end are the family's own ([CLS] ... [SEP])
//! row = start, piece* up to [MASK]               causal: the last row predicts the answer
//! ```
//!
//! Each piece is encoded alone. What stands before it decides its first token ([`Glue`]): white space of the template,
//! the last character of a text or field, a word where a pseudo token or the mask stands. After `[SEP]` and `[CLS]`, as
//! at the start, a text begins anew. White space around a field's value is dropped, because the template alone decides
//! where words are joined; a piece that makes no token (an empty field) leaves what stands before as it was.
//!
//! In a causal model `[MASK]` takes no row, and nothing stands behind it: no piece, no end token. White space before it
//! belongs to the label word, as always.
//!
//! `max_tokens` counts the whole row. A row that is too long loses tokens from the end of its longest `shorten` field,
//! one at a time (of equally long ones the last loses first), until it fits.

use super::jsonl::Example;
use crate::checkpoint::{Glue, Tokenizer};
use crate::prompt::AnswerForm;
use crate::prompt::template::{Field, Piece, PieceKind, Template};
use crate::{Error, Result};

/// One token of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// A token of the vocabulary.
    Id(u32),
    /// A prompt row in the place of a word embedding.
    Pseudo(u32),
}

/// An example as a row of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Encoded {
    /// The row, start and end tokens included.
    pub tokens: Vec<Token>,
    /// The index in `tokens` of the row that gives the answer: the mask token, or in a causal model the last row.
    pub answer: usize,
}

/// What a template does not say about a row.
#[derive(Clone, Debug)]
pub struct RowForm {
    /// The longest row, the family's tokens included.
    pub max_tokens: usize,
    /// The tokens that the family puts before a text.
    pub start: Vec<u32>,
    /// The tokens that the family puts behind a text; a causal row ends before its answer and has none.
    pub end: Vec<u32>,
    /// Where the answer is read.
    pub answer: AnswerForm,
}

/// Encodes examples with one template.
#[derive(Clone, Debug)]
pub struct Encoder<'a> {
    template: &'a Template,
    tokenizer: &'a Tokenizer,
    max_tokens: usize,
    start: Vec<Token>,
    end: Vec<Token>,
    /// What stands at the answer: the mask token, or nothing.
    mask: Vec<Token>,
}

/// The tokens of one piece.
struct Segment {
    tokens: Vec<Token>,
    shorten: bool,
}

impl<'a> Encoder<'a> {
    /// An encoder of rows of this form.
    ///
    /// Errors, with a caret: `[MASK]` (unless the model is causal), `[SEP]` or `[CLS]` in the template and no such
    /// token in the model; in a causal model a piece behind `[MASK]`, or no row before it.
    pub fn new(template: &'a Template, tokenizer: &'a Tokenizer, form: RowForm) -> Result<Encoder<'a>> {
        let special = tokenizer.special();
        let causal = form.answer == AnswerForm::Next;
        for piece in template.pieces() {
            let (name, id) = match piece.kind {
                PieceKind::Mask if causal => continue,
                PieceKind::Mask => ("mask", special.mask),
                PieceKind::Sep => ("separator", special.sep),
                PieceKind::Cls => ("class", special.cls),
                _ => continue,
            };
            if id.is_none() {
                return Err(template.error(piece, format!("this model's tokenizer has no {name} token")));
            }
        }
        if causal {
            check_causal(template, &form)?;
        }
        let ids = |ids: Vec<u32>| ids.into_iter().map(Token::Id).collect();
        let (mask, end) = match special.mask {
            Some(mask) if !causal => (vec![Token::Id(mask)], ids(form.end)),
            _ => (Vec::new(), Vec::new()),
        };
        Ok(Encoder { template, tokenizer, max_tokens: form.max_tokens, start: ids(form.start), end, mask })
    }

    /// The template.
    pub fn template(&self) -> &'a Template {
        self.template
    }

    /// The row of an example.
    ///
    /// Errors: a field is missing or has no text; the row does not fit into `max_tokens`; in a causal model, nothing is
    /// left before the answer.
    pub fn encode(&self, example: &Example) -> Result<Encoded> {
        let (segments, mask_segment) = self.segments(example)?;
        let mut tokens = self.start.clone();
        let mut answer = 0;
        for (i, segment) in segments.into_iter().enumerate() {
            if i == mask_segment {
                answer = tokens.len();
            }
            tokens.extend(segment.tokens);
        }
        if self.mask.is_empty() {
            let message = "no token of this row stands before [MASK], so nothing can predict the answer";
            answer = answer.checked_sub(1).ok_or_else(|| example.error(message))?;
        }
        tokens.extend(&self.end);
        Ok(Encoded { tokens, answer })
    }

    /// The row of an example part by part, to show it: the family's start tokens, the tokens of each piece of the
    /// template, the family's end tokens. Together they are the tokens of [`Encoder::encode`].
    ///
    /// Errors: as [`Encoder::encode`].
    pub fn parts(&self, example: &Example) -> Result<Vec<Vec<Token>>> {
        let (segments, _) = self.segments(example)?;
        let pieces = segments.into_iter().map(|segment| segment.tokens);
        Ok(std::iter::once(self.start.clone()).chain(pieces).chain([self.end.clone()]).collect())
    }

    /// The tokens of each piece, cut to fit, and which of them is the mask.
    fn segments(&self, example: &Example) -> Result<(Vec<Segment>, usize)> {
        let mut segments = Vec::with_capacity(self.template.pieces().len());
        let mut mask_segment = 0;
        let (mut before, mut space) = (Glue::Start, false);
        for piece in self.template.pieces() {
            space |= piece.space;
            let glue = if space { Glue::Space } else { before };
            let mut shorten = false;
            let tokens = match &piece.kind {
                PieceKind::Text(text) => {
                    before = text.chars().last().map_or(before, Glue::Joined);
                    self.text(text, glue)?
                }
                PieceKind::Field(field) => {
                    let text = field_text(field, &example.text(&field.name)?);
                    before = text.chars().last().map_or(before, Glue::Joined);
                    shorten = field.shorten;
                    self.text(&text, glue)?
                }
                PieceKind::Pseudo(pseudo) => {
                    before = Glue::JOINED;
                    (pseudo.first_row..pseudo.first_row + pseudo.count).map(|row| Token::Pseudo(row as u32)).collect()
                }
                PieceKind::Mask => {
                    mask_segment = segments.len();
                    before = Glue::JOINED;
                    self.mask.clone()
                }
                PieceKind::Sep | PieceKind::Cls => {
                    before = Glue::Start;
                    self.special(piece)
                }
            };
            space &= tokens.is_empty();
            segments.push(Segment { tokens, shorten });
        }
        self.shorten(&mut segments, example)?;
        Ok((segments, mask_segment))
    }

    /// For each prompt row the token of its initial word, `None` where the template gives no words.
    ///
    /// Errors, with a caret: the words of a `[P*n "words"]` are not n tokens.
    pub fn initial_words(&self) -> Result<Vec<Option<u32>>> {
        let mut rows = vec![None; self.template.pseudo_rows()];
        for (piece, pseudo) in self.template.pseudo() {
            let Some(words) = &pseudo.words else { continue };
            let ids = self.tokenizer.encode(words, Glue::Space)?;
            if ids.len() != pseudo.count {
                let message = format!(
                    "the initial words are {} tokens here ({}), so the count should be [P*{}], not {}",
                    ids.len(),
                    self.tokenizer.shown_tokens(&ids),
                    ids.len(),
                    pseudo.count
                );
                return Err(self.template.error(piece, message));
            }
            for (row, id) in rows[pseudo.first_row..].iter_mut().zip(ids) {
                *row = Some(id);
            }
        }
        Ok(rows)
    }

    fn text(&self, text: &str, glue: Glue) -> Result<Vec<Token>> {
        Ok(self.tokenizer.encode(text, glue)?.into_iter().map(Token::Id).collect())
    }

    /// The token of `[SEP]` or `[CLS]`; `new` has seen that it exists.
    fn special(&self, piece: &Piece) -> Vec<Token> {
        let special = self.tokenizer.special();
        let id = if piece.kind == PieceKind::Sep { special.sep } else { special.cls };
        id.into_iter().map(Token::Id).collect()
    }

    fn shorten(&self, segments: &mut [Segment], example: &Example) -> Result<()> {
        let around = self.start.len() + self.end.len();
        let length: usize = around + segments.iter().map(|segment| segment.tokens.len()).sum::<usize>();
        for removed in 0..length.saturating_sub(self.max_tokens) {
            let longest =
                segments.iter_mut().filter(|segment| segment.shorten).max_by_key(|segment| segment.tokens.len());
            if longest.and_then(|segment| segment.tokens.pop()).is_none() {
                return Err(self.does_not_fit(length, removed, example));
            }
        }
        Ok(())
    }

    fn does_not_fit(&self, length: usize, removed: usize, example: &Example) -> Error {
        let shortened = match removed {
            0 => "no field of the template may be cut; mark one with {field|shorten}".to_string(),
            _ => format!("cutting its shorten fields away leaves {}", length - removed),
        };
        example.error(format!(
            "this row has {length} tokens, max_tokens is {}, and {shortened}, or raise max_tokens",
            self.max_tokens
        ))
    }
}

/// A causal model sees only what stands before: refuses a template that has something behind the answer, or nothing
/// before it.
fn check_causal(template: &Template, form: &RowForm) -> Result<()> {
    if let Some(piece) = template.tail().first() {
        let message = "this model reads from left to right and answers behind the last token: nothing can stand behind \
                       [MASK]. Move it before, or leave it out with task.causal_tail = \"drop\"";
        return Err(template.error(piece, message));
    }
    match template.pieces() {
        [mask] if form.start.is_empty() => {
            let message = "this model answers behind what it has read, and has no start token of its own: \
                           write something before [MASK]";
            Err(template.error(mask, message))
        }
        _ => Ok(()),
    }
}

/// The value of a field after its modifiers, without white space around it.
fn field_text(field: &Field, value: &str) -> String {
    let mut text = value.trim();
    if field.no_punct {
        text = text.trim_end_matches(|c: char| c.is_whitespace() || is_punctuation(c));
    }
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if field.lower_first => first.to_lowercase().chain(chars).collect(),
        _ => text.to_string(),
    }
}

/// ASCII punctuation (Python's `string.punctuation`), and the Latin, general, CJK and full-width blocks' marks.
fn is_punctuation(c: char) -> bool {
    let latin_general = ['¡', '§', '«', '¶', '·', '»', '¿'];
    c.is_ascii_punctuation()
        || latin_general.contains(&c)
        || matches!(c, '‐'..='‧' | '‰'..='⁞' | '、'..='〃' | '〈'..='】' | '〔'..='〟')
        || matches!(c, '！'..='／' | '：'..='＠' | '［'..='｀' | '｛'..='･')
}

#[cfg(test)]
mod tests;
