//! The verbalizer: labels and the words that stand for them at the answer.
//!
//! The score of a word is its raw logit at the answer; the score of a label is the mean over its words,
//! `score[l] = 1/|W_l| * sum over w in W_l of logit[w]`; the loss is the cross-entropy over the label scores. Only the
//! columns of the label words are needed of the head, so everything here works on `[rows, columns]`.
//!
//! A word is kept as a list of tokens. This release scores words of one token; longer ones are refused by name.

use std::path::Path;

use super::template::listed;
use crate::checkpoint::{Glue, Tokenizer};
use crate::{Error, Result};

/// Labels in order, each with its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verbalizer {
    labels: Vec<Label>,
    columns: Vec<u32>,
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
    /// Its tokens; one in this release.
    pub tokens: Vec<u32>,
}

impl Verbalizer {
    /// Looks the words up in the vocabulary. `labels` keeps its order; `glue` is [`super::Template::answer_glue`];
    /// `file` is the file that the labels were read from, for messages.
    ///
    /// Errors, each naming the key `task.verbalizer.LABEL`: fewer than two labels, a label without words, a label given
    /// twice, a word that is not one token, a token that stands for two words.
    pub fn new(file: &Path, labels: &[(String, Vec<String>)], tokenizer: &Tokenizer, glue: Glue) -> Result<Verbalizer> {
        if labels.len() < 2 {
            return Err(Error::key(file, "task.verbalizer", "a verbalizer needs at least two labels"));
        }
        let mut verbalizer = Verbalizer { labels: Vec::new(), columns: Vec::new() };
        for (name, words) in labels {
            let fail = |message: String| Err(Error::key(file, format!("task.verbalizer.{name}"), message));
            if verbalizer.labels.iter().any(|label| label.name == *name) {
                return fail("this label stands here a second time".to_string());
            }
            if words.is_empty() {
                return fail("this label has no word: give it at least one, [\"yes\"]".to_string());
            }
            let mut label = Label { name: name.clone(), words: Vec::new() };
            for word in words {
                let tokens = match tokenizer.single_token(word, glue)? {
                    Some(token) => vec![token],
                    None => return fail(not_one_token(word, tokenizer, glue)?),
                };
                let seen =
                    verbalizer.labels.iter().chain([&label]).find_map(|other| {
                        Some((&other.name, other.words.iter().find(|known| known.tokens == tokens)?))
                    });
                if let Some((other, known)) = seen {
                    return fail(format!(
                        "'{word}' is the same token as '{}' of the label '{other}': each word can stand only once",
                        known.word
                    ));
                }
                verbalizer.columns.extend(&tokens);
                label.words.push(LabelWord { word: word.clone(), tokens });
            }
            verbalizer.labels.push(label);
        }
        Ok(verbalizer)
    }

    /// The labels in order; a target is an index into them.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// The distinct token ids whose logits are needed, labels and their words in order.
    pub fn columns(&self) -> &[u32] {
        &self.columns
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

    /// Label scores `[rows, labels]` from the logits of [`Verbalizer::columns`], `[rows, columns]`.
    ///
    /// Panics when the sizes do not fit each other.
    pub fn label_scores(&self, scores: &mut [f32], logits: &[f32]) {
        assert_eq!(scores.len() * self.columns.len(), logits.len() * self.labels.len());
        let rows = logits.chunks_exact(self.columns.len());
        for (scores, mut logits) in scores.chunks_exact_mut(self.labels.len()).zip(rows) {
            for (score, label) in scores.iter_mut().zip(&self.labels) {
                let (words, rest) = logits.split_at(label.words.len());
                *score = words.iter().sum::<f32>() / words.len() as f32;
                logits = rest;
            }
        }
    }

    /// The gradient of [`Verbalizer::label_scores`]: `d_logits` `[rows, columns]` is overwritten from `d_scores`
    /// `[rows, labels]`.
    ///
    /// Panics when the sizes do not fit each other.
    pub fn label_scores_backward(&self, d_logits: &mut [f32], d_scores: &[f32]) {
        assert_eq!(d_scores.len() * self.columns.len(), d_logits.len() * self.labels.len());
        let rows = d_logits.chunks_exact_mut(self.columns.len());
        for (mut d_logits, d_scores) in rows.zip(d_scores.chunks_exact(self.labels.len())) {
            for (d_score, label) in d_scores.iter().zip(&self.labels) {
                let (d_words, rest) = d_logits.split_at_mut(label.words.len());
                d_words.fill(d_score / label.words.len() as f32);
                d_logits = rest;
            }
        }
    }
}

/// Why a label word cannot be used, and what would help.
fn not_one_token(word: &str, tokenizer: &Tokenizer, glue: Glue) -> Result<String> {
    let tokens = tokenizer.encode(word, glue)?;
    let what = match tokens.len() {
        0 => format!("the label word '{word}' makes no token"),
        1 => format!("the label word '{word}' is unknown to this tokenizer"),
        n => format!("the label word '{word}' is {n} tokens here ({})", tokenizer.shown_tokens(&tokens)),
    };
    let hint = if glue != Glue::Space && tokenizer.single_token(word, Glue::Space)?.is_some() {
        "put a space before [MASK] in the template: then it is one token".to_string()
    } else {
        "this release scores words of one token, so choose a shorter or a more frequent word".to_string()
    };
    Ok(format!("{what}; {hint}"))
}

#[cfg(test)]
mod tests;
