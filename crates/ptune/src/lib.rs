//! P-tuning: teach a *frozen* language model many small tasks, each task a few kilobytes.

pub mod adapter;
pub mod checkpoint;
pub mod data;
pub mod error;
pub mod files;
pub mod prompt;
mod spelling;
pub mod train;

pub use error::{Error, Result};
