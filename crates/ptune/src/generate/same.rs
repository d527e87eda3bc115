//! Whether a model writes a text as it is, in whatever tokens. A text has more than one way into tokens (` Seoul` is a token, and
//! ` S` `eoul` are two), and a model may write another one than the tokenizer's: the text is the same.
//!
//! A labelled row shows where the likeliest token is first another one than the text's. Only where that one may still
//! begin the same text is the rest written, and no further than it may.

use super::Writer;
use super::sampling::likeliest;
use super::steps::{Asked, write_tokens};
use crate::Result;
use crate::checkpoint::Tokenizer;
use crate::data::{Encoded, pack};
use crate::model::Past;

/// A labelled row whose text the model does not write in the text's own tokens.
pub struct Sought<'a> {
    /// The row: what was asked, and the tokens of the text behind it.
    pub row: &'a Encoded,
    /// The tokens of the text, and the end token.
    pub targets: &'a [u32],
    /// How many of them are the likeliest.
    pub agreed: usize,
    /// The likeliest in the place of the next.
    pub other: u32,
}

impl Writer<'_> {
    /// Which of these texts are written all the same, with an end, in at most `longest` tokens.
    ///
    /// # Errors
    /// Scores that are not finite numbers.
    pub fn write_the_same(&self, sought: &[Sought<'_>], longest: usize) -> Result<Vec<bool>> {
        let mut same = vec![false; sought.len()];
        let mut growing: Vec<(usize, Growing)> = Vec::new();
        for (i, one) in sought.iter().enumerate() {
            let (tokens, mut text) = (&one.targets[..one.agreed], Growing::new(self.tokenizer, one.targets));
            tokens.iter().for_each(|token| text.push(self.tokenizer, *token));
            if one.other == self.end {
                same[i] = text.is_whole();
            } else if one.row.spans.len() == 1 && text.may_take(self.tokenizer, one.other) {
                growing.push((i, text));
            }
        }
        let rows: Vec<Encoded> = growing.iter().map(|(i, _)| asked(&sought[*i])).collect();
        // The end is a token more; what becomes too long is no match below.
        let Some(left) = growing.iter().map(|(i, _)| (longest + 1).saturating_sub(sought[*i].agreed)).max() else {
            return Ok(same);
        };
        let layout = pack(&rows).behind(self.inject.past.map_or(0, Past::rows));
        let asked = Asked { layout: &layout, inject: &self.inject, longest: left };
        write_tokens(self.device, self.model, self.columns, asked, |row, scores| {
            let (i, text) = &mut growing[row];
            let token = likeliest(scores);
            if token == self.end {
                same[*i] = text.is_whole() && text.tokens <= longest;
                return None;
            }
            let may = text.may_take(self.tokenizer, token);
            text.push(self.tokenizer, token);
            may.then_some(token)
        })?;
        Ok(same)
    }
}

/// The row up to the token behind which it differs.
fn asked(sought: &Sought<'_>) -> Encoded {
    let last = sought.row.answers[sought.agreed];
    Encoded::row(sought.row.tokens[..=last].to_vec(), last)
}

/// A text that may become another.
struct Growing {
    wanted: Vec<u8>,
    written: Vec<u8>,
    tokens: usize,
}

impl Growing {
    /// Of the text of these tokens, the last of which is its end.
    fn new(tokenizer: &Tokenizer, targets: &[u32]) -> Growing {
        let wanted = targets[..targets.len() - 1].iter().flat_map(|token| tokenizer.bytes(*token)).collect();
        Growing { wanted, written: Vec::new(), tokens: 0 }
    }

    fn push(&mut self, tokenizer: &Tokenizer, token: u32) {
        self.written.extend(tokenizer.bytes(token));
        self.tokens += 1;
    }

    /// Whether it is the text, white space around it aside.
    fn is_whole(&self) -> bool {
        trimmed(&self.written) == trimmed(&self.wanted)
    }

    /// Whether it may still become the text behind this token: it begins like it, or only white space follows it.
    fn may_take(&self, tokenizer: &Tokenizer, token: u32) -> bool {
        let written = [&self.written[..], &tokenizer.bytes(token)].concat();
        let (written, wanted) = (written.trim_ascii_start(), trimmed(&self.wanted));
        wanted.starts_with(written) || trimmed(written) == wanted
    }
}

/// Without ASCII white space around it.
fn trimmed(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use super::*;
    use crate::checkpoint::{Glue, ModelDirectory};
    use crate::data::Token;
    use crate::files::built_in;
    use crate::generate::Writing;
    use crate::model::{Gradients, Inject, Model};
    use crate::tensor::Device;

    /// A row with these tokens behind a question.
    fn labelled(question: &[u32], answer: &[u32]) -> Encoded {
        let tokens = question.iter().chain(answer).map(|id| Token::Id(*id)).collect();
        let mut row = Encoded::row(tokens, 0);
        row.answers = (question.len() - 1..question.len() + answer.len()).collect();
        row
    }

    /// What the model writes is cut in another place: as tokens that is another answer, as a text the same one.
    #[test]
    fn a_text_in_other_tokens_is_the_same() {
        let directory = built_in::directory(Path::new("world-gpt")).unwrap();
        let (device, tokenizer) = (Device::processor(Some(1)), Tokenizer::open(&directory).unwrap());
        let opened = ModelDirectory::open(&directory).unwrap();
        let model = Model::load(&opened, &[], &device, Gradients::None, &mut |_, _| {}).unwrap();
        let columns = model.columns(None, false);
        let question = tokenizer.encode("The capital of Iceland", Glue::Start).unwrap();
        let layout = pack([&labelled(&question, &[])]);
        let mut written = Vec::new();
        let asked = Asked { layout: &layout, inject: &Inject::default(), longest: 12 };
        write_tokens(&device, &model, &columns, asked, |_, scores| {
            written.push(likeliest(scores));
            written.last().copied()
        })
        .unwrap();
        // The first token that comes for the first time behind a few others may as well be the end.
        let length = (2..12).find(|at| !written[..*at].contains(&written[*at])).unwrap();
        let (text, end) = (&written[..length], written[length]);
        let bytes: Vec<u8> = text.iter().flat_map(|token| tokenizer.bytes(*token)).collect();
        // One of its tokens cut in two.
        let ids: HashMap<Vec<u8>, u32> =
            (0..tokenizer.vocab_size() as u32).map(|id| (tokenizer.bytes(id), id)).collect();
        let two = |token: u32| {
            let bytes = tokenizer.bytes(token);
            (1..bytes.len()).find_map(|at| Some([*ids.get(&bytes[..at])?, *ids.get(&bytes[at..])?]))
        };
        let (at, two) = (0..length).find_map(|at| Some((at, two(text[at])?))).unwrap();
        let apart = [&text[..at], &two, &text[at + 1..]].concat();
        let agreed = at;
        let writer = Writer {
            device: &device,
            model: &model,
            columns: &columns,
            inject: Inject::default(),
            tokenizer: &tokenizer,
            end,
        };
        let same = |answer: &[u32], longest| {
            let targets = [answer, &[end]].concat();
            let row = labelled(&question, answer);
            let sought = Sought { row: &row, targets: &targets, agreed, other: text[agreed] };
            writer.write_the_same(&[sought], longest).unwrap()[0]
        };
        assert!(same(&apart, length) && same(&apart, 50));
        assert!(!same(&apart, length - 1), "it is longer than it may be");
        assert!(!same(&apart[..apart.len() - 1], 50), "it goes on");
        assert!(!same(&[&apart[..], &two].concat(), 50), "it ends early");
        // And `generate` writes that text.
        let writing = Writing { longest: 50, sampling: None, stops: Vec::new() };
        let mut texts = Vec::new();
        writer
            .write(&[&labelled(&question, &[])], &[0], &writing, &mut |_, _, _| {}, |_, text| texts.push(text))
            .unwrap();
        assert_eq!(texts[0].text, String::from_utf8_lossy(&bytes).trim());
    }
}
