//! An example through a template: token ids and pseudo tokens in a row, or in a few rows where its answer needs them.
//!
//! ```text
//! masked   start, piece*, end                 start and end are the family's own ([CLS] ... [SEP]); a copy with
//!                                             k masks for each length k of a label word
//! causal   start, piece* up to [MASK]         the last row predicts the answer; label words of several tokens, or the
//!                                             answer itself where it is a text, go on behind it ([`AnswerForm`])
//! ```
//!
//! Each piece is encoded alone. What stands before it decides its first token ([`Glue`]): white space of the template,
//! the last character of a text or field, a word where a pseudo token or the mask stands. After `[SEP]` and `[CLS]`, as
//! at the start, a text begins anew. White space around a field's value is dropped, because the template alone decides
//! where words are joined; a piece that makes no token (an empty field) leaves what stands before as it was.
//!
//! In a causal model `[MASK]` takes no row, and nothing stands behind it: no piece, no end token. White space before it
//! belongs to the label word, as always. What stands before the first field is the same in every row of the task, and no row
//! of it sees what stands behind: [`Encoded::leading`] counts it, so that a batch can compute it once.
//!
//! `max_tokens` counts the whole row, the longest label word, or room for the longest text, included. A row that is too long loses tokens from the end
//! of its longest `shorten` field, one at a time (of equally long ones the last loses first), until it fits. All copies
//! of a row are cut alike: words of all lengths are asked about the same text, and a text is asked for as it was trained.

mod field;
mod row;

use std::collections::BinaryHeap;

use self::field::field_text;
pub use self::row::{Encoded, Token, TokenSpan};
use super::jsonl::Example;
use crate::checkpoint::{Glue, Tokenizer};
use crate::prompt::AnswerForm;
use crate::prompt::template::{Piece, PieceKind, Template};
use crate::{Error, Result};

/// What all fields of a row may be together: a template can name a field of megabytes thousands of times.
const LARGEST_FIELDS: usize = 8 << 20;

/// What a template does not say about a row.
#[derive(Clone, Debug)]
pub struct RowForm {
    /// The longest row, the family's tokens included.
    pub max_tokens: usize,
    /// The tokens that the family puts before a text.
    pub start: Vec<u32>,
    /// The tokens that the family puts behind a text; a causal row ends before its answer and has none.
    pub end: Vec<u32>,
    /// The rows of the answer.
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
    answer: AnswerForm,
    /// The mask token; not used in a causal model.
    mask: Token,
    /// The tokens that stand in the places of pseudo tokens, by prompt row; none where those have vectors.
    discrete: &'a [u32],
    /// Templates that answer together with this one.
    others: Vec<Encoder<'a>>,
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
        let causal = form.answer.is_causal();
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
        let RowForm { max_tokens, start, end, answer } = form;
        let ids = |ids: Vec<u32>| ids.into_iter().map(Token::Id).collect();
        let end = if causal { Vec::new() } else { ids(end) };
        let mask = Token::Id(special.mask.unwrap_or_default());
        Ok(Encoder {
            template,
            tokenizer,
            max_tokens,
            start: ids(start),
            end,
            answer,
            mask,
            discrete: &[],
            others: Vec::new(),
        })
    }

    /// The same with a token of the vocabulary in the place of each pseudo token, by its prompt row.
    pub fn with_discrete(self, discrete: &'a [u32]) -> Encoder<'a> {
        Encoder { discrete, ..self }
    }

    /// The same with templates that are asked about the same example: it has the rows and the answers of all, one template
    /// behind the other.
    pub fn with_others(self, others: Vec<Encoder<'a>>) -> Encoder<'a> {
        Encoder { others, ..self }
    }

    /// Checks that the data has every field that the templates name.
    ///
    /// Errors: as [`Template::check_fields`].
    pub fn check_fields(&self, available: &[&str]) -> Result<()> {
        self.template.check_fields(available)?;
        self.others.iter().try_for_each(|other| other.check_fields(available))
    }

    /// The rows of an example that is asked.
    ///
    /// Errors: a field is missing or has no text; the row does not fit into `max_tokens`; in a causal model, nothing is
    /// left before the answer.
    pub fn encode(&self, example: &Example) -> Result<Encoded> {
        self.encode_for(example, &[])
    }

    /// The rows of an example whose targets are known. Where the answer is a text, these are its tokens and an end token: each
    /// of them is the target of an answer row, and all but the last are rows too.
    ///
    /// Errors: as [`Encoder::encode`].
    pub fn encode_for(&self, example: &Example, targets: &[u32]) -> Result<Encoded> {
        let mut encoded = self.encode_alone(example, targets)?;
        self.others.iter().try_for_each(|other| other.encode_for(example, targets).map(|row| encoded.append(row)))?;
        Ok(encoded)
    }

    fn encode_alone(&self, example: &Example, targets: &[u32]) -> Result<Encoded> {
        let (segments, mask) = self.segments(example)?;
        let joined = |segments: &[Segment]| -> Vec<Token> {
            segments.iter().flat_map(|segment| segment.tokens.clone()).collect()
        };
        let before: Vec<Token> = [self.start.clone(), joined(&segments[..mask])].concat();
        let mut encoded = Encoded { tokens: Vec::new(), spans: Vec::new(), answers: Vec::new(), leading: 0 };
        match &self.answer {
            AnswerForm::Masks(counts) => {
                let behind: Vec<Token> = [joined(&segments[mask + 1..]), self.end.clone()].concat();
                for &count in counts {
                    let first = encoded.tokens.len() + before.len();
                    encoded.answers.extend(first..first + count);
                    encoded.push([before.clone(), vec![self.mask; count], behind.clone()].concat(), None);
                }
            }
            AnswerForm::First | AnswerForm::Every => {
                let row = [before, self.end.clone()].concat();
                if row.is_empty() {
                    return Err(example.error("this row has no token, so there is no first one to read"));
                }
                let answers = if self.answer == AnswerForm::First { 1 } else { row.len() };
                encoded.push(row, None);
                encoded.answers.extend(0..answers);
            }
            AnswerForm::Continuations(words) => {
                let last = last_before_answer(&before, example)?;
                encoded.leading = self.leading_of(&segments, last);
                encoded.push(before, None);
                for word in words {
                    encoded.push(word.iter().map(|id| Token::Id(*id)), Some(0));
                }
                encoded.answers.extend(last..encoded.tokens.len());
            }
            AnswerForm::Text { .. } => {
                let last = last_before_answer(&before, example)?;
                encoded.leading = self.leading_of(&segments, last);
                let text = targets.split_last().map_or(&[][..], |(_, text)| text);
                encoded.push(before.into_iter().chain(text.iter().map(|id| Token::Id(*id))), None);
                encoded.answers.extend(last..encoded.tokens.len());
            }
        }
        Ok(encoded)
    }

    /// Tokens that the template alone decides, where a row of the example's own stands behind them: that with the index
    /// `last` predicts the answer.
    fn leading_of(&self, segments: &[Segment], last: usize) -> usize {
        let pieces = &segments[..self.template.leading().len()];
        let leading = self.start.len() + pieces.iter().map(|segment| segment.tokens.len()).sum::<usize>();
        if leading <= last { leading } else { 0 }
    }

    /// The row of an example part by part, to show it: the family's start tokens, the tokens of each piece of the
    /// template, the family's end tokens. Together they are the tokens of [`Encoder::encode`]; where that makes
    /// several spans, those of the one with the most masks, or of the prefix.
    ///
    /// Errors: as [`Encoder::encode`].
    pub fn parts(&self, example: &Example) -> Result<Vec<Vec<Token>>> {
        let (segments, _) = self.segments(example)?;
        let pieces = segments.into_iter().map(|segment| segment.tokens);
        Ok(std::iter::once(self.start.clone()).chain(pieces).chain([self.end.clone()]).collect())
    }

    /// The tokens of each piece, cut to fit, and which of them is `[MASK]` (behind the last of a classifier's): it has the
    /// longest answer's masks, or in a causal model nothing.
    fn segments(&self, example: &Example) -> Result<(Vec<Segment>, usize)> {
        let mut segments = Vec::with_capacity(self.template.pieces().len());
        let mut mask_segment = None;
        let (mut before, mut space) = (Glue::Start, false);
        let mut bytes = 0;
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
                    bytes += text.len();
                    if bytes > LARGEST_FIELDS {
                        let message =
                            format!("the template makes more than {LARGEST_FIELDS} bytes of this row's fields");
                        return Err(example.error(message));
                    }
                    before = text.chars().last().map_or(before, Glue::Joined);
                    shorten = field.shorten;
                    self.text(&text, glue)?
                }
                PieceKind::Pseudo(pseudo) => {
                    before = Glue::JOINED;
                    (pseudo.first_row..pseudo.first_row + pseudo.count).map(|row| self.prompt_token(row)).collect()
                }
                PieceKind::Mask => {
                    mask_segment = Some(segments.len());
                    before = Glue::JOINED;
                    match self.answer {
                        AnswerForm::Masks(_) => vec![self.mask; self.answer.longest()],
                        _ => Vec::new(),
                    }
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
        let mask_segment = mask_segment.unwrap_or(segments.len());
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

    /// What stands for a prompt row.
    fn prompt_token(&self, row: usize) -> Token {
        self.discrete.get(row).map_or(Token::Pseudo(row as u32), |id| Token::Id(*id))
    }

    /// The token of `[SEP]` or `[CLS]`; `new` has seen that it exists.
    fn special(&self, piece: &Piece) -> Vec<Token> {
        let special = self.tokenizer.special();
        let id = if piece.kind == PieceKind::Sep { special.sep } else { special.cls };
        id.into_iter().map(Token::Id).collect()
    }

    fn shorten(&self, segments: &mut [Segment], example: &Example) -> Result<()> {
        let behind = match &self.answer {
            AnswerForm::Masks(_) | AnswerForm::First | AnswerForm::Every => self.end.len(),
            AnswerForm::Continuations(_) | AnswerForm::Text { .. } => self.answer.longest(),
        };
        let around = self.start.len() + behind;
        let length: usize = around + segments.iter().map(|segment| segment.tokens.len()).sum::<usize>();
        let cuttable = segments.iter().enumerate().filter(|(_, segment)| segment.shorten && !segment.tokens.is_empty());
        let mut cuttable: BinaryHeap<_> = cuttable.map(|(at, segment)| (segment.tokens.len(), at)).collect();
        for removed in 0..length.saturating_sub(self.max_tokens) {
            let Some((longest, at)) = cuttable.pop() else { return Err(self.does_not_fit(length, removed, example)) };
            segments[at].tokens.truncate(longest - 1);
            if longest > 1 {
                cuttable.push((longest - 1, at));
            }
        }
        Ok(())
    }

    fn does_not_fit(&self, length: usize, removed: usize, example: &Example) -> Error {
        let room = match self.answer {
            AnswerForm::Text { longest } => format!(" with room for an answer of {longest}"),
            _ => String::new(),
        };
        let shortened = match removed {
            0 => "no field of the template may be cut; mark one with {field|shorten}".to_string(),
            _ => format!("cutting its shorten fields away leaves {}", length - removed),
        };
        example.error(format!(
            "this row has {length} tokens{room}, max_tokens is {}, and {shortened}, or raise max_tokens",
            self.max_tokens
        ))
    }
}

/// The index of the row that predicts the first token of the answer, behind the tokens `before`.
fn last_before_answer(before: &[Token], example: &Example) -> Result<usize> {
    let message = "no token of this row stands before [MASK], so nothing can predict the answer";
    before.len().checked_sub(1).ok_or_else(|| example.error(message))
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
        [mask] if mask.kind == PieceKind::Mask && form.start.is_empty() => {
            let message = "this model answers behind what it has read, and has no start token of its own: \
                           write something before [MASK]";
            Err(template.error(mask, message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
