//! P-tuning: teach a *frozen* language model many small tasks, each task a few kilobytes.

pub mod adapter;
pub mod checkpoint;
pub mod data;
pub mod error;
pub mod files;
pub mod inspect;
pub mod method;
pub mod model;
pub mod ops;
pub mod parameter;
pub mod predict;
pub mod profile;
pub mod prompt;
pub mod report;
pub mod rng;
mod spelling;
pub mod tensor;
pub mod train;

pub use error::{Error, Result};
pub use tensor::{Device, Tensor};
