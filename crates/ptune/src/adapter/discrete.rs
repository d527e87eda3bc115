//! Prompts without vectors, as a search finds them: tokens in the places of pseudo tokens, or several prompts that answer
//! together.
//!
//! ```toml
//! [task.discrete]
//! tokens = [2003, 2284, 1999]              # a token for each prompt row, in order
//!
//! [[task.discrete.prompts]]                # or prompts with weights: task.template is the first of them
//! template = "{sub_label} is in [MASK] ."
//! weight = 0.75
//! ```
//! Tokens are kept as numbers, because a text of them would not always be cut into the same tokens again. What they mean
//! to a template and a model is checked where those are known.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Prompts that may answer together.
pub const MOST_PROMPTS: usize = 256;

/// What an adapter has in the place of vectors; empty for every other adapter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discrete {
    /// The token of each prompt row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<u32>,
    /// Prompts that answer together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<WeightedPrompt>,
}

/// One of several prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedPrompt {
    /// Its template, without pseudo tokens.
    pub template: String,
    /// What its log-probabilities are multiplied by.
    pub weight: f64,
}

impl Discrete {
    /// Whether there is none of it.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.prompts.is_empty()
    }

    /// What must hold whatever the model. `template` is that of the task.
    pub(super) fn check(&self, file: &Path, template: &str) -> Result<()> {
        let wrong = |key: &str, message: &str| Err(Error::key(file, format!("task.discrete.{key}"), message));
        let prompts = &self.prompts;
        if !prompts.is_empty() && !self.tokens.is_empty() {
            return wrong("prompts", "exclude tokens: prompts that answer together have none");
        }
        if prompts.len() > MOST_PROMPTS {
            return wrong("prompts", &format!("{} prompts; there can be {MOST_PROMPTS}", prompts.len()));
        }
        if prompts.first().is_some_and(|first| first.template != template) {
            return wrong("prompts", "the first of them must be task.template");
        }
        if prompts.iter().any(|prompt| !prompt.weight.is_finite() || prompt.weight < 0.0) {
            return wrong("prompts", "a weight must be a finite number, and not below 0");
        }
        Ok(())
    }
}
