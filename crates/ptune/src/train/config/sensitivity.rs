//! `[sensitivity]`: which prompts are compared. `ptune sensitivity` alone reads it.

use serde::{Deserialize, Serialize};

use crate::keys::{Checked, check, within};

/// `[sensitivity]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SensitivityConfig {
    /// Prompts that a person would think equal; where there is none, the template of the task.
    pub prompts: Vec<String>,
    /// Whether small edits of each are compared too.
    pub edits: bool,
    /// Pseudo tokens that P-tuning puts in front of the words, and as many before the answer.
    pub tokens: usize,
}

impl Default for SensitivityConfig {
    fn default() -> Self {
        SensitivityConfig { prompts: Vec::new(), edits: false, tokens: 3 }
    }
}

impl SensitivityConfig {
    /// Whether the run file says nothing about it; then nothing is written either.
    pub(super) fn is_default(&self) -> bool {
        *self == SensitivityConfig::default()
    }

    /// With every key set, none to its default: a table of defaults is not written.
    pub(super) fn with_every_key() -> SensitivityConfig {
        SensitivityConfig { edits: true, ..SensitivityConfig::default() }
    }

    pub(super) fn check(&self) -> Checked {
        let empty = self.prompts.iter().any(|prompt| prompt.trim().is_empty());
        check(!empty, "sensitivity.prompts", "has an empty prompt")?;
        within("sensitivity.tokens", self.tokens, 1, 100)
    }
}
