//! What the prompt's table starts from: random numbers, rows of the vocabulary, or words.
//!
//! A pseudo-token piece with words, `[P*3 "the capital of"]`, always starts from those words' embeddings. `init` decides
//! for the others.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::prompt::template::Template;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// How pseudo tokens without words of their own start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// Random, as the encoder's other parameters.
    Random,
    /// Each row a word embedding, drawn uniformly from the whole vocabulary.
    Vocabulary,
    /// Every piece of the template must give its words.
    Words,
}

/// How a prefix starts where it is not started from a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrefixInit {
    /// Random.
    #[default]
    Random,
    /// Keys and values of zero, as PEFT's `init_weights = "zero"`.
    Zero,
}

impl Init {
    /// Refuses a template that does not give what this start needs: nothing, or words in every piece.
    ///
    /// # Errors
    /// A pseudo-token piece without words where `init` is `words`.
    pub fn check(self, template: &Template, initial_words: &[Option<u32>]) -> Result<()> {
        let wordless = template.pseudo().find(|(_, pseudo)| initial_words[pseudo.first_row].is_none());
        match (self, wordless) {
            (Init::Words, Some((piece, _))) => {
                let message = "prompt.init = \"words\" needs words here, as in [P*3 \"the capital of\"]";
                Err(template.error(piece, message))
            }
            _ => Ok(()),
        }
    }

    /// Puts the starting rows into `table [prompt rows, width]`, which holds random ones. `initial_words` is the token
    /// of each prompt row for which the template gives a word, `words [vocabulary, width]` the model's word table.
    pub fn fill(self, table: &mut [f32], initial_words: &[Option<u32>], words: &Tensor, rng: &mut Rng) {
        let width = words.columns();
        for (row, word) in table.chunks_exact_mut(width).zip(initial_words) {
            let token = match (self, word) {
                (_, Some(token)) => *token as usize,
                (Init::Vocabulary, None) => rng.below(words.rows()),
                (Init::Random | Init::Words, None) => continue,
            };
            row.copy_from_slice(&words.read()[token * width..(token + 1) * width]);
        }
    }
}
