//! What a task asks of the model: the template around an example, the label words, the candidate answers, and the
//! encoder that computes the vectors of the pseudo tokens.

pub mod answer;
pub mod encoder;
pub mod initial;
pub mod nearest;
pub mod template;
pub mod verbalizer;
pub mod vocabulary;

pub use answer::{AnswerForm, AnswerKind, CausalTail};
pub use template::{Piece, PieceKind, Template};
pub use verbalizer::Verbalizer;
pub use vocabulary::Vocabulary;
pub(crate) use vocabulary::read_words;
