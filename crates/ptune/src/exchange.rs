//! Adapters on their way: to and from PEFT, and in bundles (`golden.rs`). Of PEFT the files are [`adapter::peft`](crate::adapter::peft)'s business, here stand the task and the
//! model beside them. Both directions write a new directory or nothing.

mod export;
pub mod golden;
mod import;

use std::path::Path;

pub use export::export_peft;
pub use import::import_peft;

use crate::adapter::peft::PeftSize;
use crate::model::spec::ModelSpec;
use crate::train::{RunConfig, Task};
use crate::{Error, Result};

/// What was written for PEFT.
#[derive(Debug, PartialEq)]
pub struct PeftExport {
    /// PEFT's name of the method.
    pub method: &'static str,
    /// Virtual tokens or rank.
    pub size: PeftSize,
    /// Bytes of the directory.
    pub bytes: u64,
}

/// What was made of PEFT's files.
#[derive(Debug, PartialEq)]
pub struct PeftImport {
    /// PEFT's name of the method.
    pub method: String,
    /// Virtual tokens or rank.
    pub size: PeftSize,
    /// The template that the adapter has now.
    pub template: String,
}

/// Where the task of an imported adapter comes from: PEFT's files have none.
#[derive(Clone, Copy, Debug)]
pub enum TaskFrom<'a> {
    /// From `ptune.json`, which [`export_peft`] put beside PEFT's files.
    Beside,
    /// From a run file, which has this path.
    Run(&'a RunConfig, &'a Path),
}

/// PEFT puts a prompt before everything, the family's start token included; ptune puts it behind that.
fn check_start(task: &Task, spec: &ModelSpec) -> Result<()> {
    if spec.causal && task.has_start_token() {
        let message = "this model begins every row with a token of its own, before the prompt; PEFT puts the prompt before \
                       that token, so the two do not mean the same";
        return Err(Error::request(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
