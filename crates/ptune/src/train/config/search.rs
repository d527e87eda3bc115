//! `[search]`: how a discrete prompt is looked for. `ptune search` alone reads it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::keys::{Checked, check, optionally_within, within};

const MOST_STEPS: usize = 1_000_000;
const MOST_EXAMPLES: usize = 65_536;
const MOST_CANDIDATES: usize = 10_000;
const MOST_LABEL_WORDS: usize = 100;
/// More than any vocabulary.
const MOST_LABEL_POOL: usize = 1 << 24;

/// `[search]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchConfig {
    /// Iterations; each may change one token.
    pub steps: usize,
    /// Examples of the gradient, and as many others to compare candidates with.
    pub batch_size: usize,
    /// Candidates that are compared for the place of an iteration.
    pub candidates: usize,
    /// Whether the answers of the task may not stand in the prompt.
    pub exclude_answers: bool,
    /// Whether words that begin with a capital may not.
    pub exclude_capitals: bool,
    /// How many label words are looked for, for each label, in the place of those of `task.verbalizer`; without it, these stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_words: Option<usize>,
    /// Label words are chosen among so many of the likeliest words of each label; 0 is the whole vocabulary.
    pub label_pool: usize,
    /// A file of prompts to choose among, in place of tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PathBuf>,
    /// What is made of the prompts.
    pub combine: Combine,
    /// How many of the prompts, the best ones; without it, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<usize>,
}

/// What is made of several prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    /// The best one is taken.
    Best,
    /// All answer together, with equal weights.
    Mean,
    /// All answer together, with weights learned from the training rows.
    Weighted,
}

impl Default for SearchConfig {
    fn default() -> Self {
        SearchConfig {
            steps: 300,
            batch_size: 56,
            candidates: 10,
            exclude_answers: true,
            exclude_capitals: true,
            label_words: None,
            label_pool: 100,
            prompts: None,
            combine: Combine::Best,
            top: None,
        }
    }
}

impl SearchConfig {
    /// Whether the run file says nothing about it; then nothing is written either.
    pub(super) fn is_default(&self) -> bool {
        *self == SearchConfig::default()
    }

    /// With every key set.
    pub(super) fn with_every_key() -> SearchConfig {
        SearchConfig {
            prompts: Some(PathBuf::new()),
            label_words: Some(1),
            top: Some(1),
            steps: 1,
            ..SearchConfig::default()
        }
    }

    pub(super) fn check(&self) -> Checked {
        within("search.steps", self.steps, 1, MOST_STEPS)?;
        within("search.batch_size", self.batch_size, 1, MOST_EXAMPLES)?;
        within("search.candidates", self.candidates, 1, MOST_CANDIDATES)?;
        optionally_within("search.label_words", self.label_words, MOST_LABEL_WORDS)?;
        within("search.label_pool", self.label_pool, 0, MOST_LABEL_POOL)?;
        let empty = self.prompts.as_ref().is_some_and(|path| path.as_os_str().is_empty());
        check(!empty, "search.prompts", "is empty; name a file or remove the key")?;
        optionally_within("search.top", self.top, crate::adapter::MOST_PROMPTS)?;
        let alone = self.combine == Combine::Best && self.top.is_some_and(|top| top > 1);
        check(!alone, "search.top", "is for prompts that answer together; set search.combine to mean or weighted")
    }
}
