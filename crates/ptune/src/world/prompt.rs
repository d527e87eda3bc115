//! Prompts written by hand: for each relation some that a person would think equal.
//!
//! Each is either a phrasing of the corpus or one edit (a word more, less or other; a mark counts as a word) from one.
//! Which, is computed and not claimed.

use super::phrasing::Phrasing;

/// A manual prompt for the facts of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// In the template language: `The capital of {sub_label} is [MASK].`
    pub template: String,
    /// How near it is to the corpus.
    pub kind: Kind,
    /// The phrasing that it is, or is nearest to (the most frequent one), in the template language.
    pub of: String,
}

/// How near a prompt is to what the corpus says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is a phrasing of the corpus.
    Phrasing,
    /// It is one word away from one.
    Edit,
}

impl Kind {
    /// `phrasing` or `edit`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Phrasing => "phrasing",
            Kind::Edit => "edit",
        }
    }
}

/// Particles behind a subject, and the field of a row that holds the one its subject takes.
pub(super) const FIELDS: [(&str, (&str, &str)); 4] =
    [("topic", ("은", "는")), ("subject", ("이", "가")), ("object", ("을", "를")), ("with", ("과", "와"))];

impl Prompt {
    /// The prompt that `sentence` (with `{x}` and `{y}`) is, among the phrasings of its relation and language.
    ///
    /// Errors: what is wrong with the sentence.
    pub(super) fn new(sentence: &str, phrasings: &[Phrasing]) -> Result<Prompt, &'static str> {
        match (sentence.find("{x}"), sentence.find("{y}")) {
            (Some(x), Some(y)) if x < y => {}
            _ => return Err("needs {x}, and {y} behind it: a causal model reads only what stands before the answer"),
        }
        let template = template(sentence);
        if template.contains('(') {
            return Err("has a particle that depends on the answer");
        }
        if let Some(same) = phrasings.iter().find(|phrasing| phrasing.1 == sentence) {
            return Ok(Prompt { template, kind: Kind::Phrasing, of: self::template(&same.1) });
        }
        let words = words(sentence);
        let near = phrasings.iter().filter(|phrasing| one_edit(&words, &self::words(&phrasing.1)));
        match near.max_by_key(|phrasing| phrasing.0) {
            Some(near) => Ok(Prompt { template, kind: Kind::Edit, of: self::template(&near.1) }),
            None => Err("is more than one word away from every phrasing"),
        }
    }
}

/// A sentence with `{x}` and `{y}` in the template language; particles of the subject become fields.
fn template(sentence: &str) -> String {
    let mut template = sentence.to_string();
    for (field, (consonant, vowel)) in FIELDS {
        template = template.replace(&format!("{{x}}{consonant}({vowel})"), &format!("{{x}}{{{field}}}"));
    }
    template.replace("{x}", "{sub_label}").replace("{y}", "[MASK]")
}

/// The words of a sentence, its marks as words of their own.
fn words(sentence: &str) -> Vec<&str> {
    let marks = [',', '.', '?'];
    let parts = |word| -> Vec<&str> {
        let bare = str::trim_end_matches(word, marks);
        let (bare, marks) = word.split_at(bare.len());
        [bare, marks].into_iter().filter(|part| !part.is_empty()).collect()
    };
    sentence.split_whitespace().flat_map(parts).collect()
}

/// Whether one word more, less or other makes `a` of `b`.
fn one_edit(a: &[&str], b: &[&str]) -> bool {
    let front = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[front..], &b[front..]);
    let back = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    a.len() - back <= 1 && b.len() - back <= 1
}
