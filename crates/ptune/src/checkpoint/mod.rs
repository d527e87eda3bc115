//! A Hugging Face directory: the tokenizer.

pub mod special_tokens;
pub mod tokenizer;

pub use tokenizer::{Glue, Tokenizer};
