//! P-tuning: teach a *frozen* language model many small tasks, each task a few kilobytes.
//!
//! A task is a template with pseudo tokens (`"[P*3] {text} It was [MASK]."`), a few labelled rows and a model in Hugging
//! Face layout. [`train::run`](train::run()) finds vectors for the pseudo tokens and leaves the model alone; the result is an
//! [`adapter`], which [`predict::Predictor`] evaluates and asks.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use ptune::data::Example;
//! use ptune::predict::Predictor;
//! use ptune::train::RunConfig;
//! use ptune::{Device, train};
//!
//! # fn main() -> ptune::Result<()> {
//! let device = Device::processor(None);
//! let file = Path::new("run.toml"); // docs/train.md is its manual; RunConfig::checked takes one made in a program
//! let config = RunConfig::read(file, &[])?;
//! train::run(&config, file, Path::new("runs/first"), &device, &mut |_| {})?;
//!
//! let predictor = Predictor::open(Path::new("runs/first/adapter"), None, &device, &mut |_, _| {})?;
//! let example = Example::from_fields([("text", "the soup was cold")]);
//! println!("{:?}", predictor.predict(&[example], 5));
//! # Ok(())
//! # }
//! ```
//!
//! Everything is f32 on the processor; results have the same bits for any number of threads. Errors are sentences with
//! their place ([`Error`]); nothing is printed. The method is that of "GPT Understands, Too" (Liu et al., 2021). The
//! modules from low to high: [`tensor`] and [`ops`]; [`checkpoint`]; [`model`] and [`prompt`]; [`method`]; [`data`];
//! [`adapter`]; [`train`], whose first page shows a step; [`generate`]; [`predict`].

pub mod adapter;
pub mod checkpoint;
pub mod data;
pub mod demo;
pub mod error;
pub mod exchange;
pub mod files;
pub mod generate;
pub mod inspect;
mod keys;
pub mod merge;
pub mod method;
pub mod model;
pub mod ops;
pub mod parameter;
pub mod predict;
pub mod pretrain;
pub mod profile;
pub mod prompt;
pub mod report;
pub mod rng;
pub mod search;
pub mod sensitivity;
mod spelling;
pub mod tensor;
pub mod train;
pub mod world;

pub use error::{Error, Result};
pub use tensor::{Device, Tensor};
