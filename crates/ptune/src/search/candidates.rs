//! Which tokens may stand in a prompt, and which of them promise the smallest loss in a place.
//!
//! With `g` the gradient of the loss with respect to the word embedding in that place and `e_w` the embedding of the word
//! w, the loss with w there is, to first order, `loss + (e_w - e_now) . g` (HotFlip). `e_now . g` is common to all w, so those
//! with the smallest `e_w . g` promise most.

use crate::checkpoint::Tokenizer;
use crate::data::Labelled;
use crate::method::Head;
use crate::model::Model;
use crate::prompt::PieceKind;
use crate::tensor::{Device, Tensor};
use crate::train::Task;
use crate::train::config::SearchConfig;

/// For each token id of the model whether a search may put it into a prompt: no special token, nothing that cannot be
/// read, and as the run file says no answer and no word with a capital.
pub(super) fn allowed<'a>(
    task: &Task,
    vocabulary: usize,
    config: &SearchConfig,
    rows: impl Iterator<Item = &'a Labelled>,
) -> Vec<bool> {
    let tokenizer = &task.tokenizer;
    let may =
        |id: u32| is_word(tokenizer, id) && !(config.exclude_capitals && begins_with_capital(&tokenizer.token(id)));
    let known = tokenizer.vocab_size() as u32;
    let mut allowed: Vec<bool> = (0..vocabulary as u32).map(|id| id < known && may(id)).collect();
    if config.exclude_answers {
        let answers: Vec<u32> = match &task.head {
            Head::Verbalizer(verbalizer) => {
                verbalizer.labels().iter().flat_map(|label| &label.words).flat_map(|word| word.tokens.clone()).collect()
            }
            _ => rows.map(|row| row.targets[0]).collect(),
        };
        answers.into_iter().for_each(|id| allowed[id as usize] = false);
    }
    allowed
}

/// Whether a token is a word or a part of one, for people: not special, and readable.
pub(super) fn is_word(tokenizer: &Tokenizer, id: u32) -> bool {
    !tokenizer.special().roles().iter().any(|(_, special)| *special == Some(id)) && is_readable(&tokenizer.token(id))
}

/// Whether a token is a text: not a part of a character, no control character, no name in brackets such as `[unused7]`.
fn is_readable(text: &str) -> bool {
    let wrapped = |open, close| text.len() > 2 && text.starts_with(open) && text.ends_with(close);
    let broken = text.contains(char::REPLACEMENT_CHARACTER) || text.chars().any(char::is_control);
    !text.trim().is_empty() && !broken && !wrapped('[', ']') && !wrapped('<', '>')
}

/// Whether a token begins a word and the word begins with a capital: `##Ab` begins none.
fn begins_with_capital(text: &str) -> bool {
    text.chars().next().is_some_and(char::is_uppercase)
}

/// The first-order change of the loss for every word in one place: `e_w . g` for the gradient `g [1, width]`.
pub(super) fn changes(device: &Device, model: &Model, gradient: &Tensor) -> Tensor {
    let words = model.word_table();
    device.dense(gradient, words, None)
}

/// The `count` allowed tokens other than `now` with the smallest changes, the smallest first; of equal ones the first id.
pub(super) fn most_promising(changes: &[f32], allowed: &[bool], now: u32, count: usize) -> Vec<u32> {
    let may = |(id, _): &(usize, &f32)| allowed[*id] && *id != now as usize;
    let mut all: Vec<(f32, u32)> =
        changes.iter().enumerate().filter(may).map(|(id, change)| (*change, id as u32)).collect();
    let order = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if count < all.len() {
        all.select_nth_unstable_by(count, order);
        all.truncate(count);
    }
    all.sort_unstable_by(order);
    all.into_iter().map(|(_, id)| id).collect()
}

/// The template with these tokens in the places of its pseudo tokens, for people: `{sub_label} is in [MASK] .`
pub(super) fn in_words(task: &Task, tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    let source = task.template.source();
    let mut pieces = task.template.pieces().iter().map(|piece| piece.at).skip(1).chain([source.len()]);
    let mut words = String::new();
    for piece in task.template.pieces() {
        let end = pieces.next().unwrap_or(source.len());
        match &piece.kind {
            PieceKind::Pseudo(pseudo) => {
                let ids = &tokens[pseudo.first_row..pseudo.first_row + pseudo.count];
                let space = |text: &str| !text.is_empty() && !text.ends_with(' ');
                words += if space(&words) { " " } else { "" };
                words += &ids.iter().map(|id| tokenizer.token(*id)).collect::<Vec<_>>().join(" ");
                words += " ";
            }
            _ => words += &source[piece.at..end],
        }
    }
    words.trim().replace(" ##", "")
}
