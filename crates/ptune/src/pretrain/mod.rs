//! Pre-training: a tokenizer and a small language model from plain text.
//!
//! ```text
//! text files ──> lines ──> tokenizer ──> rows of token ids ──> packed batches, words masked or all rows predicted
//!                                                                      │
//! random weights, or a checkpoint ──> model ──> logits ──> loss ──> backward ──> AdamW ──> model/, a Hugging Face directory
//! ```
//! | file | part |
//! |---|---|
//! | `config.rs` | the run file; docs/pretrain.md is its manual |
//! | `text.rs` | lines of text, and which of them are held out |
//! | `tokenizer.rs`, `tokenizer/` | a WordPiece or byte-level BPE tokenizer from lines |
//! | `initial.rs`, `initial/` | a checkpoint with random weights: how BERT and GPT-2 look on disk |
//! | `rows.rs` | lines as token ids with the words they belong to |
//! | `batch.rs` | packed batches and what is to be predicted: whole-word masking, or the next token |
//! | `order.rs` | which rows make the batches of an epoch |
//! | `run.rs`, `run/` | a whole run: begin or go on, the loop, evaluation, the end |
//! | `saved.rs` | the trained model as a directory |
//!
//! The initial model is written as an ordinary directory first and then loaded like any other, so there is one way into
//! training: a directory. What is trained, saved for `--resume` and told to TensorBoard goes through the parts of
//! [`crate::train`]; a step here has no prompt and no template, so it is shorter than the one there.

mod batch;
mod config;
mod initial;
mod order;
mod rows;
mod run;
mod saved;
mod text;
mod tokenizer;

pub(crate) use initial::write_untrained;

pub use config::{Dtype, Layout, PretrainConfig, TokenizerKind};
pub use run::{Options, Summary, run};

/// What a run tells while it works; the library itself prints nothing.
pub enum Event<'a> {
    /// Something the user should know.
    Note(&'a str),
    /// A part of the work before or between steps: reading, evaluating.
    Working {
        /// What is done, a verb: `loading`.
        what: &'static str,
        /// How much is done.
        done: usize,
        /// Of how much.
        total: usize,
    },
    /// A training step was made.
    Step {
        /// Steps made.
        step: usize,
        /// Steps of the run.
        steps: usize,
        /// Mean loss of the batch.
        loss: f64,
        /// Rows trained on a second, evaluations not counted.
        tokens_per_s: f64,
        /// The last perplexity of the lines held out.
        perplexity: Option<f64>,
    },
    /// An evaluation on the lines held out ended.
    Evaluated {
        /// Steps made.
        step: usize,
        /// Mean training loss since the evaluation before; none at step 0.
        loss: Option<f64>,
        /// `e` to the mean loss of what is predicted.
        perplexity: f64,
    },
}
