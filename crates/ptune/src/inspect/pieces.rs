//! A template or a row of data as people can read it: each piece with its tokens.

use serde::Serialize;

use crate::Result;
use crate::checkpoint::Tokenizer;
use crate::data::{Example, Token};
use crate::prompt::template::{Field, PieceKind, Pseudo};
use crate::train::Task;

/// A piece of a template with its tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PieceFacts {
    /// `text`, `field`, `pseudo`, `mask`, `sep`, `cls`; `start` and `end` are the tokens that the family puts around.
    pub kind: &'static str,
    /// The piece as the template has it; empty for `start` and `end`.
    pub source: String,
    /// Its tokens; pseudo tokens are `P1`, `P2`, ... by their prompt rows. None for a field without an example.
    pub tokens: Vec<String>,
}

/// The pieces of a task's template, with the tokens of an example where there is one; else without those of fields.
///
/// # Errors
/// An example that does not fit the template.
pub(crate) fn pieces(task: &Task, example: Option<&Example>) -> Result<Vec<PieceFacts>> {
    // A letter stands for a field's text, because what follows a field is glued to it or not.
    let letters = || task.template.fields().into_iter().map(|name| (name.to_owned(), "x".to_owned()));
    let parts = match example {
        Some(example) => task.encoder()?.parts(example)?,
        None => task.encoder()?.parts(&Example::from_fields(letters()))?,
    };
    let mut kinds = vec![("start", String::new())];
    kinds.extend(task.template.pieces().iter().map(|piece| described(&piece.kind)));
    kinds.push(("end", String::new()));
    let piece = |((kind, source), tokens): ((&'static str, String), Vec<Token>)| {
        let unknown = kind == "field" && example.is_none();
        let tokens = if unknown { Vec::new() } else { tokens.iter().map(|t| shown(&task.tokenizer, *t)).collect() };
        PieceFacts { kind, source, tokens }
    };
    let all = kinds.into_iter().zip(parts).map(piece);
    Ok(all.filter(|piece| !(piece.source.is_empty() && piece.tokens.is_empty())).collect())
}

/// A token for people.
fn shown(tokenizer: &Tokenizer, token: Token) -> String {
    match token {
        Token::Id(id) => tokenizer.token(id),
        Token::Pseudo(row) => format!("P{}", row + 1),
    }
}

/// The kind of a piece, and the piece as a template would have it.
fn described(piece: &PieceKind) -> (&'static str, String) {
    match piece {
        PieceKind::Text(text) => ("text", text.clone()),
        PieceKind::Field(field) => ("field", field_source(field)),
        PieceKind::Pseudo(pseudo) => ("pseudo", pseudo_source(pseudo)),
        PieceKind::Mask => ("mask", "[MASK]".into()),
        PieceKind::Sep => ("sep", "[SEP]".into()),
        PieceKind::Cls => ("cls", "[CLS]".into()),
    }
}

fn field_source(field: &Field) -> String {
    let modifiers = [("shorten", field.shorten), ("no_punct", field.no_punct), ("lower_first", field.lower_first)];
    let named = modifiers.iter().filter(|(_, set)| *set).map(|(name, _)| format!("|{name}"));
    format!("{{{}{}}}", field.name, named.collect::<String>())
}

fn pseudo_source(pseudo: &Pseudo) -> String {
    let words = pseudo.words.as_ref().map_or(String::new(), |words| format!(" \"{words}\""));
    let name = pseudo.name.as_ref().map_or(String::new(), |name| format!(" @{name}"));
    format!("[P*{}{words}{name}]", pseudo.count)
}
