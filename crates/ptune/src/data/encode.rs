//! An example through a template: a row of token ids and pseudo tokens.
//!
//! ```text
//! row = start, piece*, end                       start and end are the family's own ([CLS] ... [SEP])
//! ```
//!
//! Each piece is encoded alone. What stands before it decides its first token ([`Glue`]): white space of the template,
//! the last character of a text or field, a word where a pseudo token or the mask stands. After `[SEP]` and `[CLS]`, as
//! at the start, a text begins anew. White space around a field's value is dropped, because the template alone decides
//! where words are joined; a piece that makes no token (an empty field) leaves what stands before as it was.
//!
//! `max_tokens` counts the whole row. A row that is too long loses tokens from the end of its longest `shorten` field,
//! one at a time (of equally long ones the last loses first), until it fits.

use super::jsonl::Example;
use crate::checkpoint::{Glue, Tokenizer};
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
    /// The index of the mask token in `tokens`.
    pub answer: usize,
}

/// Encodes examples with one template.
#[derive(Clone, Debug)]
pub struct Encoder<'a> {
    template: &'a Template,
    tokenizer: &'a Tokenizer,
    max_tokens: usize,
    start: Vec<Token>,
    end: Vec<Token>,
    mask: u32,
}

/// The tokens of one piece.
struct Segment {
    tokens: Vec<Token>,
    shorten: bool,
}

impl<'a> Encoder<'a> {
    /// `start` and `end` are the tokens that the family puts around a text; `max_tokens` counts them too.
    ///
    /// Errors, with a caret: `[MASK]`, `[SEP]` or `[CLS]` in the template and no such token in the model.
    pub fn new(
        template: &'a Template,
        tokenizer: &'a Tokenizer,
        max_tokens: usize,
        start: &[u32],
        end: &[u32],
    ) -> Result<Encoder<'a>> {
        let special = tokenizer.special();
        for piece in template.pieces() {
            let (name, id) = match piece.kind {
                PieceKind::Mask => ("mask", special.mask),
                PieceKind::Sep => ("separator", special.sep),
                PieceKind::Cls => ("class", special.cls),
                _ => continue,
            };
            if id.is_none() {
                return Err(template.error(piece, format!("this model's tokenizer has no {name} token")));
            }
        }
        let ids = |ids: &[u32]| ids.iter().map(|id| Token::Id(*id)).collect();
        let mask = special.mask.unwrap_or_default();
        Ok(Encoder { template, tokenizer, max_tokens, start: ids(start), end: ids(end), mask })
    }

    /// The template.
    pub fn template(&self) -> &'a Template {
        self.template
    }

    /// The row of an example.
    ///
    /// Errors: a field is missing or has no text; the row does not fit into `max_tokens`.
    pub fn encode(&self, example: &Example) -> Result<Encoded> {
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
                    vec![Token::Id(self.mask)]
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
        let mut tokens = self.start.clone();
        let mut answer = 0;
        for (i, segment) in segments.into_iter().enumerate() {
            if i == mask_segment {
                answer = tokens.len();
            }
            tokens.extend(segment.tokens);
        }
        tokens.extend(&self.end);
        Ok(Encoded { tokens, answer })
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
