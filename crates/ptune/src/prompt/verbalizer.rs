//! The verbalizer: labels and the words that stand for them at the answer.
//!
//! The score of a label is the mean over its words; the loss is the cross-entropy over the label scores. The score of a
//! word is the sum of its tokens' log-probabilities, each at its answer row ([`AnswerForm`]):
//!
//! ```text
//! score[l] = 1/|W_l| * sum over w in W_l, over the tokens t of w, of log softmax(logits[row of t])[t]
//! ```
//! Where every word is one token, all are read at the same row, and the log-sum-exp of that row is the same for all
//! labels: softmax and cross-entropy over labels do not see it. Then the raw logits are taken instead, for which the
//! head needs the columns of the label words only. As soon as one word has more tokens, all words are scored by
//! log-probabilities: the sum of a long word's and the raw logit of a short one have no common scale.
//!
//! A word makes one *read* for each of its tokens; reads are ordered by label, word and token.

use std::path::Path;

use super::answer::AnswerForm;
use super::template::listed;
use crate::checkpoint::{Glue, Tokenizer};
use crate::{Error, Result};

/// Labels in order, each with its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verbalizer {
    labels: Vec<Label>,
    form: AnswerForm,
    reads: Vec<Read>,
    /// The tokens of the reads where every word is one token; `None` where one is longer.
    columns: Option<Vec<u32>>,
}

/// One number of the model that a label's score is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Which of the example's answer rows.
    pub row: u32,
    /// The token.
    pub token: u32,
}

/// One label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The text of the JSON value in the data: `entailment`, `true`, `0`.
    pub name: String,
    /// Its words, at least one.
    pub words: Vec<LabelWord>,
}

/// One word of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelWord {
    /// The word as it was written.
    pub word: String,
    /// Its tokens, at least one.
    pub tokens: Vec<u32>,
}

impl Verbalizer {
    /// Looks the words up in the vocabulary. `labels` keeps its order; `glue` is [`super::Template::answer_glue`];
    /// `causal` is the model's; `file` is the file that the labels were read from, for messages.
    ///
    /// Errors, each naming the key `task.verbalizer.LABEL`: fewer than two labels, a label without words, a label given
    /// twice, a word without tokens or with one that the tokenizer does not know, two words of the same tokens.
    pub fn new(
        file: &Path,
        labels: &[(String, Vec<String>)],
        tokenizer: &Tokenizer,
        glue: Glue,
        causal: bool,
    ) -> Result<Verbalizer> {
        if labels.len() < 2 {
            return Err(Error::key(file, "task.verbalizer", "a verbalizer needs at least two labels"));
        }
        let mut found: Vec<Label> = Vec::new();
        for (name, words) in labels {
            let fail = |message: String| Err(Error::key(file, format!("task.verbalizer.{name}"), message));
            if found.iter().any(|label| label.name == *name) {
                return fail("this label stands here a second time".to_string());
            }
            if words.is_empty() {
                return fail("this label has no word: give it at least one, [\"yes\"]".to_string());
            }
            let mut label = Label { name: name.clone(), words: Vec::new() };
            for word in words {
                let tokens = tokenizer.encode(word, glue)?;
                if let Some(reason) = unusable(word, &tokens, tokenizer, glue)? {
                    return fail(reason);
                }
                let all = || found.iter().chain([&label]);
                let seen = all().find_map(|other| Some((other, other.words.iter().find(|w| w.tokens == tokens)?)));
                if let Some((other, known)) = seen {
                    let what = if tokens.len() == 1 { "is the same token" } else { "makes the same tokens" };
                    return fail(format!(
                        "'{word}' {what} as '{}' of the label '{}': each word can stand only once",
                        known.word, other.name
                    ));
                }
                label.words.push(LabelWord { word: word.clone(), tokens });
            }
            found.push(label);
        }
        Ok(Verbalizer::of_labels(found, causal))
    }

    fn of_labels(labels: Vec<Label>, causal: bool) -> Verbalizer {
        let words: Vec<&[u32]> = labels.iter().flat_map(|label| &label.words).map(|word| &word.tokens[..]).collect();
        let (form, rows) = AnswerForm::of_words(&words, causal);
        let tokens = words.iter().flat_map(|word| word.iter().copied());
        let reads: Vec<Read> = rows.concat().into_iter().zip(tokens).map(|(row, token)| Read { row, token }).collect();
        let columns = (form == AnswerForm::one_token(causal)).then(|| reads.iter().map(|read| read.token).collect());
        Verbalizer { labels, form, reads, columns }
    }

    /// The labels in order; a target is an index into them.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// The rows of an answer.
    pub fn form(&self) -> &AnswerForm {
        &self.form
    }

    /// The numbers that the scores are made of, labels, words and tokens in order.
    pub fn reads(&self) -> &[Read] {
        &self.reads
    }

    /// The token ids whose logits are needed, one a read, where every word is one token. `None`: log-probabilities
    /// are needed, and for them all columns.
    pub fn columns(&self) -> Option<&[u32]> {
        self.columns.as_deref()
    }

    /// The index of the label whose name is `text`, the text of a JSON value.
    ///
    /// Errors: a sentence that lists the labels.
    pub fn target(&self, text: &str) -> std::result::Result<u32, String> {
        match self.labels.iter().position(|label| label.name == text) {
            Some(index) => Ok(index as u32),
            None => {
                let known: Vec<&str> = self.labels.iter().map(|label| label.name.as_str()).collect();
                Err(format!("the label '{text}' is missing from the verbalizer, which has {}", listed(&known)))
            }
        }
    }

    /// Label scores `[examples, labels]` from what was read, `[examples, reads]`.
    ///
    /// Panics when the sizes do not fit each other.
    pub fn label_scores(&self, scores: &mut [f32], read: &[f32]) {
        assert_eq!(scores.len() * self.reads.len(), read.len() * self.labels.len());
        let examples = read.chunks_exact(self.reads.len());
        for (scores, mut read) in scores.chunks_exact_mut(self.labels.len()).zip(examples) {
            for (score, label) in scores.iter_mut().zip(&self.labels) {
                let (tokens, rest) = read.split_at(label.tokens());
                *score = tokens.iter().sum::<f32>() / label.words.len() as f32;
                read = rest;
            }
        }
    }

    /// The gradient of [`Verbalizer::label_scores`]: `d_read` `[examples, reads]` is overwritten from `d_scores`
    /// `[examples, labels]`.
    ///
    /// Panics when the sizes do not fit each other.
    pub fn label_scores_backward(&self, d_read: &mut [f32], d_scores: &[f32]) {
        assert_eq!(d_scores.len() * self.reads.len(), d_read.len() * self.labels.len());
        let examples = d_read.chunks_exact_mut(self.reads.len());
        for (mut d_read, d_scores) in examples.zip(d_scores.chunks_exact(self.labels.len())) {
            for (d_score, label) in d_scores.iter().zip(&self.labels) {
                let (d_tokens, rest) = d_read.split_at_mut(label.tokens());
                d_tokens.fill(d_score / label.words.len() as f32);
                d_read = rest;
            }
        }
    }
}

impl Label {
    /// Tokens of all its words.
    fn tokens(&self) -> usize {
        self.words.iter().map(|word| word.tokens.len()).sum()
    }
}

/// Why a label word cannot be used, and what would help.
fn unusable(word: &str, tokens: &[u32], tokenizer: &Tokenizer, glue: Glue) -> Result<Option<String>> {
    let unknown = tokens.iter().any(|token| Some(*token) == tokenizer.unk_id());
    let what = match tokens.len() {
        0 => format!("the label word '{word}' makes no token"),
        1 if unknown => format!("the label word '{word}' is unknown to this tokenizer"),
        _ if unknown => format!(
            "a part of the label word '{word}' is unknown to this tokenizer ({})",
            tokenizer.shown_tokens(tokens)
        ),
        _ => return Ok(None),
    };
    let hint = if glue != Glue::Space && tokenizer.single_token(word, Glue::Space)?.is_some() {
        "put a space before [MASK] in the template: then it is one token"
    } else {
        "choose another word"
    };
    Ok(Some(format!("{what}; {hint}")))
}

#[cfg(test)]
mod tests;
