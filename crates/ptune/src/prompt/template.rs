//! The template language: one line of text in which brackets stand for what is not plain text.
//!
//! ```text
//! template = piece*                          exactly one [MASK]; none for a classifier
//! piece    = text                            `[[` is a `[`, `{{` a `{`; `]` and `}` alone are themselves
//!          | "{" field ("|" modifier)* "}"   modifiers: shorten, no_punct, lower_first
//!          | "[P*" count option* "]"         count: 1 to 1000; options: "initial words", @name
//!          | "[MASK]" | "[SEP]" | "[CLS]"
//! ```
//!
//! White space belongs to the piece behind it: before a text, a field or `[MASK]` it is the leading space of that text,
//! field or label word; before a pseudo or special token, and at the end, it is dropped.
//!
//! Pseudo tokens own *prompt rows*: the rows of the matrix that a prompt encoder computes, numbered in order of first
//! occurrence. Places of the same `@name` own the same rows.
//!
//! Nothing is evaluated, and no tokenizer is needed to parse: token ids are made in `data::encode`.

use crate::checkpoint::Glue;
use crate::{Error, Result};

/// The largest count of one `[P*n]`.
pub const MAX_PSEUDO_TOKENS: usize = 1000;
/// The longest row there can be: more pseudo tokens never fit.
const LONGEST_ROW: usize = 65_536;
/// Bytes; a row of the longest kind has no more tokens. The time of some checks grows with the square of the pieces.
const LONGEST_TEMPLATE: usize = 65_536;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    pieces: Vec<Piece>,
    pseudo_rows: usize,
}

/// One piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Byte offset of its first character in the template, for a caret.
    pub at: usize,
    /// Whether white space stands before it.
    pub space: bool,
    /// What it is.
    pub kind: PieceKind,
}

/// What a piece stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PieceKind {
    /// Discrete tokens, escapes resolved, without surrounding white space; never empty.
    Text(String),
    /// A field of the example.
    Field(Field),
    /// Pseudo tokens.
    Pseudo(Pseudo),
    /// The answer.
    Mask,
    /// `[SEP]`.
    Sep,
    /// `[CLS]`.
    Cls,
}

/// `{name|modifiers}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// The field's name in the data.
    pub name: String,
    /// The field may lose tokens from its end.
    pub shorten: bool,
    /// Punctuation at the end of the value is dropped.
    pub no_punct: bool,
    /// The first character of the value is lower-cased.
    pub lower_first: bool,
}

/// `[P*count "words" @name]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pseudo {
    /// The first of its prompt rows.
    pub first_row: usize,
    /// How many rows it has, one a token.
    pub count: usize,
    /// The words it starts from.
    pub words: Option<String>,
    /// The name under which its rows are shared.
    pub name: Option<String>,
}

impl Template {
    /// Parses a template. Errors carry the place of the offending character ([`Error::Template`]).
    pub fn parse(source: &str) -> Result<Template> {
        let template = Template::read(source)?;
        let fail = |at, message: &str| Err(Error::template(source, at, message));
        let mut masks = template.pieces.iter().filter(|piece| piece.kind == PieceKind::Mask);
        match (masks.next(), masks.next()) {
            (None, _) => fail(source.len(), "the template has no [MASK]: put it where the answer belongs"),
            (_, Some(second)) => fail(second.at, "a template has one [MASK], and this is the second"),
            _ => Ok(template),
        }
    }

    /// Parses the template of a classifier, which reads the whole text and has no `[MASK]`. Errors as
    /// [`Template::parse`].
    pub fn parse_whole(source: &str) -> Result<Template> {
        let template = Template::read(source)?;
        match template.pieces.iter().find(|piece| piece.kind == PieceKind::Mask) {
            Some(mask) => {
                let message = "a classifier reads the first token of a text (in a causal model the last) and fills no \
                               [MASK]: leave it out";
                Err(template.error(mask, message))
            }
            None => Ok(template),
        }
    }

    fn read(source: &str) -> Result<Template> {
        if source.len() > LONGEST_TEMPLATE {
            let message =
                format!("the template is {} bytes long; at most {LONGEST_TEMPLATE} can make a row", source.len());
            return Err(Error::request(message));
        }
        let mut parser = Parser { source, at: 0, pieces: Vec::new(), space: false, rows: 0, pseudo: 0 };
        parser.parse()?;
        let Parser { pieces, rows, .. } = parser;
        if pieces.is_empty() {
            let message = "the template is empty: write text around a [MASK], for example '{text} It was [MASK].'";
            return Err(Error::template(source, 0, message));
        }
        Ok(Template { source: source.to_string(), pieces, pseudo_rows: rows })
    }

    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The pieces in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The names of the fields, each once, in order of first occurrence.
    pub fn fields(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for piece in &self.pieces {
            if let PieceKind::Field(field) = &piece.kind
                && !names.contains(&field.name.as_str())
            {
                names.push(&field.name);
            }
        }
        names
    }

    /// The pieces of pseudo tokens, in order.
    pub fn pseudo(&self) -> impl Iterator<Item = (&Piece, &Pseudo)> {
        self.pieces.iter().filter_map(|piece| match &piece.kind {
            PieceKind::Pseudo(pseudo) => Some((piece, pseudo)),
            _ => None,
        })
    }

    /// How many distinct prompt rows the template has; a shared name counts once.
    pub fn pseudo_rows(&self) -> usize {
        self.pseudo_rows
    }

    /// Whether anything in the template can be trained; if not, it is a manual prompt.
    pub fn has_pseudo_tokens(&self) -> bool {
        self.pseudo_rows > 0
    }

    /// What stands before a label word: decides `word`, `Ġword` or `##word`. A field or a pseudo token in front counts
    /// as a word.
    pub fn answer_glue(&self) -> Glue {
        let mask = self.pieces.iter().position(|piece| piece.kind == PieceKind::Mask).unwrap_or(0);
        if self.pieces[mask].space {
            return Glue::Space;
        }
        match self.pieces[..mask].last().map(|piece| &piece.kind) {
            None | Some(PieceKind::Sep | PieceKind::Cls) => Glue::Start,
            Some(PieceKind::Text(text)) => text.chars().last().map_or(Glue::Start, Glue::Joined),
            Some(PieceKind::Field(_) | PieceKind::Pseudo(_) | PieceKind::Mask) => Glue::JOINED,
        }
    }

    /// The pieces before the first field and before `[MASK]`: every row of the task begins with the same tokens.
    pub fn leading(&self) -> &[Piece] {
        let end = self.pieces.iter().position(|piece| matches!(piece.kind, PieceKind::Field(_) | PieceKind::Mask));
        &self.pieces[..end.unwrap_or(self.pieces.len())]
    }

    /// Whether text that is not trained stands before the first pseudo token, more than what every row begins with.
    pub fn begins_with_frozen_text(&self) -> bool {
        let is_pseudo = |piece: &Piece| matches!(piece.kind, PieceKind::Pseudo(_));
        self.has_pseudo_tokens() && !self.leading().iter().any(is_pseudo)
    }

    /// The pieces behind `[MASK]`.
    pub fn tail(&self) -> &[Piece] {
        let mask = self.pieces.iter().position(|piece| piece.kind == PieceKind::Mask);
        &self.pieces[mask.map_or(self.pieces.len(), |mask| mask + 1)..]
    }

    /// The template up to its `[MASK]`. Pseudo tokens that stand behind it alone have no prompt rows any more; as rows
    /// are numbered in order of first occurrence, the others keep theirs.
    pub fn without_tail(mut self) -> Template {
        self.pieces.truncate(self.pieces.len() - self.tail().len());
        self.pseudo_rows = self.pseudo().map(|(_, pseudo)| pseudo.first_row + pseudo.count).max().unwrap_or(0);
        self
    }

    /// Checks that the data has every field that the template names.
    ///
    /// Errors: the first field that is missing, with a caret under it and the fields that the data has.
    pub fn check_fields(&self, available: &[&str]) -> Result<()> {
        for piece in &self.pieces {
            if let PieceKind::Field(field) = &piece.kind
                && !available.contains(&field.name.as_str())
            {
                let message = format!("the data has no field '{}'; its fields are {}", field.name, listed(available));
                return Err(self.error(piece, message));
            }
        }
        Ok(())
    }

    /// An error with the caret under `piece`.
    pub fn error(&self, piece: &Piece, message: impl Into<String>) -> Error {
        Error::template(&self.source, piece.at, message)
    }
}

/// `'a', 'b' and 'c'`, or `none`; of many names the first.
pub(crate) fn listed(names: &[&str]) -> String {
    const MOST: usize = 20;
    let quoted: Vec<String> = names.iter().take(MOST).map(|name| format!("'{name}'")).collect();
    match &quoted[..] {
        first if names.len() > MOST => format!("{} and {} more", first.join(", "), names.len() - MOST),
        [] => "none".to_string(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

struct Parser<'a> {
    source: &'a str,
    at: usize,
    pieces: Vec<Piece>,
    /// White space was seen since the last piece.
    space: bool,
    rows: usize,
    /// Pseudo tokens of all places; those of a shared name have the same rows.
    pseudo: usize,
}

impl Parser<'_> {
    fn parse(&mut self) -> Result<()> {
        while let Some(c) = self.rest().chars().next() {
            match c {
                '[' if !self.rest().starts_with("[[") => self.bracket()?,
                '{' if !self.rest().starts_with("{{") => self.field()?,
                _ => self.text(),
            }
        }
        Ok(())
    }

    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn fail<T>(&self, at: usize, message: impl Into<String>) -> Result<T> {
        Err(Error::template(self.source, at, message))
    }

    fn push(&mut self, at: usize, kind: PieceKind) {
        let space = std::mem::take(&mut self.space);
        self.pieces.push(Piece { at, space, kind });
    }

    fn text(&mut self) {
        let (start, mut text) = (self.at, String::new());
        while let Some(c) = self.rest().chars().next() {
            if c == '[' || c == '{' {
                if !self.rest()[1..].starts_with(c) {
                    break;
                }
                self.at += 1;
            }
            text.push(c);
            self.at += c.len_utf8();
        }
        let trimmed = text.trim();
        let leading = text.len() - text.trim_start().len();
        self.space |= leading > 0;
        if !trimmed.is_empty() {
            // White space is never escaped, so the offset of the first visible character is the same in both.
            self.push(start + leading, PieceKind::Text(trimmed.to_string()));
            self.space = text.ends_with(char::is_whitespace);
        }
    }

    fn field(&mut self) -> Result<()> {
        let start = self.at;
        let body_at = start + 1;
        let end = self.source[body_at..].find(['}', '{', '[']).map(|i| body_at + i);
        let Some(end) = end.filter(|end| self.source[*end..].starts_with('}')) else {
            return self.fail(start, "this '{' is not closed: a field is {name}; a plain brace is written '{{'");
        };
        let mut field = Field::default();
        let mut at = body_at;
        for (i, part) in self.source[body_at..end].split('|').enumerate() {
            let word = part.trim();
            let word_at = at + (part.len() - part.trim_start().len());
            match word {
                "" if i == 0 => return self.fail(at, "the field's name is missing between the braces"),
                name if i == 0 => field.name = name.to_string(),
                "shorten" => field.shorten = true,
                "no_punct" => field.no_punct = true,
                "lower_first" => field.lower_first = true,
                _ => {
                    let message =
                        format!("unknown modifier '{word}'; the modifiers are shorten, no_punct and lower_first");
                    return self.fail(word_at, message);
                }
            }
            at += part.len() + 1;
        }
        self.at = end + 1;
        self.push(start, PieceKind::Field(field));
        Ok(())
    }

    fn bracket(&mut self) -> Result<()> {
        let start = self.at;
        let Some(end) = self.closing_bracket(start) else {
            return self.fail(start, "this '[' is not closed; a plain bracket is written '[['");
        };
        let kind = match &self.source[start + 1..end] {
            "MASK" => PieceKind::Mask,
            "SEP" => PieceKind::Sep,
            "CLS" => PieceKind::Cls,
            body if body.starts_with("P*") => PieceKind::Pseudo(self.pseudo(start + 3, end)?),
            body if body == "P" || body.starts_with("P ") => {
                return self.fail(start, "the count is missing: one pseudo token is written [P*1]");
            }
            body => {
                let message = format!(
                    "unknown word '{body}' in brackets; known are [P*n], [MASK], [SEP] and [CLS], \
                     and a plain bracket is written '[['"
                );
                return self.fail(start, message);
            }
        };
        self.at = end + 1;
        self.push(start, kind);
        Ok(())
    }

    /// Byte offset of the `]` that closes the `[` at `start`; brackets between quotes do not count.
    fn closing_bracket(&self, start: usize) -> Option<usize> {
        let mut quoted = false;
        for (i, c) in self.source[start + 1..].char_indices() {
            match c {
                '"' => quoted = !quoted,
                ']' if !quoted => return Some(start + 1 + i),
                '[' if !quoted => return None,
                _ => {}
            }
        }
        None
    }

    /// `count option*` between `at` and `end`.
    fn pseudo(&mut self, at: usize, end: usize) -> Result<Pseudo> {
        let body = &self.source[at..end];
        let digits = body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len());
        let count = match body[..digits].parse::<usize>() {
            Ok(count @ 1..=MAX_PSEUDO_TOKENS) => count,
            _ if digits == 0 => return self.fail(at, "the count should be a number here: [P*3]"),
            _ => return self.fail(at, format!("the count should be 1 to {MAX_PSEUDO_TOKENS}")),
        };
        self.pseudo += count;
        if self.pseudo > LONGEST_ROW {
            return self.fail(at, format!("all pseudo tokens together are more than {LONGEST_ROW}, the longest row"));
        }
        let (mut words, mut name, mut at) = (None, None, at + digits);
        loop {
            let rest = &self.source[at..end];
            at += rest.len() - rest.trim_start().len();
            let rest = rest.trim_start();
            if let Some(quoted) = rest.strip_prefix('"') {
                let Some(length) = quoted.find('"') else { return self.fail(at, "this '\"' is not closed") };
                if words.is_some() {
                    return self.fail(at, "the initial words stand here a second time");
                }
                let text = quoted[..length].trim();
                if text.is_empty() {
                    return self.fail(at, "the initial words are empty: leave the quotes out, or write words");
                }
                words = Some(text.to_string());
                at += length + 2;
            } else if let Some(named) = rest.strip_prefix('@') {
                let length =
                    named.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).unwrap_or(named.len());
                if length == 0 {
                    return self.fail(at, "a name is '@' and letters, digits, '_' or '-'");
                }
                if name.is_some() {
                    return self.fail(at, "a second name stands here: pseudo tokens have one");
                }
                name = Some((named[..length].to_string(), at));
                at += length + 1;
            } else if rest.is_empty() {
                break;
            } else {
                return self.fail(at, "here only \"initial words\" or @name can stand: [P*3 \"the capital of\" @name]");
            }
        }
        self.place(count, words, name)
    }

    /// Gives the pseudo tokens their rows: those of an earlier place of the same name, or new ones.
    fn place(&mut self, count: usize, words: Option<String>, name: Option<(String, usize)>) -> Result<Pseudo> {
        if let Some((name, at)) = &name {
            let mut same = self.pieces.iter_mut().filter_map(|piece| match &mut piece.kind {
                PieceKind::Pseudo(pseudo) if pseudo.name.as_ref() == Some(name) => Some(pseudo),
                _ => None,
            });
            if let Some(first) = same.next() {
                let (first_row, expected) = (first.first_row, first.count);
                if count != expected {
                    let message = format!("@{name} has {expected} pseudo tokens elsewhere, so it cannot have {count}");
                    return Err(Error::template(self.source, *at, message));
                }
                if words.is_some() && first.words.is_some() && words != first.words {
                    let message = format!("@{name} starts from other words elsewhere: give them once");
                    return Err(Error::template(self.source, *at, message));
                }
                // Words given at a later place hold for the rows, so every place tells them.
                let words = first.words.clone().or(words);
                first.words = words.clone();
                same.for_each(|pseudo| pseudo.words = words.clone());
                return Ok(Pseudo { first_row, count, words, name: Some(name.clone()) });
            }
        }
        let first_row = self.rows;
        self.rows += count;
        Ok(Pseudo { first_row, count, words, name: name.map(|(name, _)| name) })
    }
}

#[cfg(test)]
mod tests;
