//! How a model gives its answer: at a mask, or behind what it has read.
//!
//! | model | the answer is read |
//! |---|---|
//! | masked | at the row of the mask token |
//! | causal | at the row before the answer; the answer itself takes no row, and nothing can stand behind it |

use serde::{Deserialize, Serialize};

/// Where the rows of an example give its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerForm {
    /// At the mask token.
    Mask,
    /// At the last row.
    Next,
}

impl AnswerForm {
    /// The form of an answer of one token.
    pub fn one_token(causal: bool) -> AnswerForm {
        if causal { AnswerForm::Next } else { AnswerForm::Mask }
    }
}

/// What happens to the pieces behind `[MASK]` in a causal model, which could not see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CausalTail {
    /// They are an error.
    #[default]
    Error,
    /// They are left out.
    Drop,
}

impl CausalTail {
    /// Whether it is the default, which an adapter does not write down.
    pub fn is_error(&self) -> bool {
        *self == CausalTail::Error
    }
}
