//! What the prompt's table starts from: random numbers, rows of the vocabulary, or words.
//!
//! A pseudo-token piece with words, `[P*3 "the capital of"]`, always starts from those words' embeddings: one token a
//! row, from the start again where there are fewer tokens than rows. `init` decides for the others.

use std::collections::BTreeSet;

use crate::Result;
use crate::checkpoint::{Glue, Tokenizer};
use crate::prompt::template::Template;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// How pseudo tokens without words of their own start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// Random, as the encoder's other parameters.
    Random,
    /// Each row a word embedding, drawn uniformly from the whole vocabulary.
    Vocabulary,
    /// Every piece must give its words.
    Words,
}

/// Puts the starting rows into `table [prompt rows, width]`, which holds random ones. `words [vocabulary, width]` is the
/// model's word table.
///
/// # Errors
/// A piece without words where `init` is `words`, or whose words make no token.
pub fn fill_table(
    table: &mut [f32],
    init: Init,
    template: &Template,
    tokenizer: &Tokenizer,
    words: &Tensor,
    rng: &mut Rng,
) -> Result<()> {
    let width = words.columns();
    // Pieces that share rows by `@name` have one start: the words of whichever gives some.
    let (with, without): (Vec<_>, Vec<_>) = template.pseudo().partition(|(_, pseudo)| pseudo.words.is_some());
    let mut started = BTreeSet::new();
    for (piece, pseudo) in with.into_iter().chain(without) {
        if !started.insert(pseudo.first_row) {
            continue;
        }
        let tokens = match (&pseudo.words, init) {
            (Some(text), _) => tokenizer.encode(text, Glue::Space)?,
            (None, Init::Words) => {
                let message = "prompt.init = \"words\" needs words here, as in [P*3 \"the capital of\"]";
                return Err(template.error(piece, message));
            }
            (None, Init::Vocabulary) => (0..pseudo.count).map(|_| rng.below(words.rows()) as u32).collect(),
            (None, Init::Random) => continue,
        };
        if tokens.is_empty() {
            return Err(template.error(piece, "these words make no token"));
        }
        for i in 0..pseudo.count {
            let token = tokens[i % tokens.len()] as usize;
            let row = pseudo.first_row + i;
            table[row * width..(row + 1) * width].copy_from_slice(&words.read()[token * width..(token + 1) * width]);
        }
    }
    Ok(())
}
