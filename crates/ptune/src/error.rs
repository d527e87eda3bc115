//! Everything that can go wrong, each variant carrying the file, line, key or tensor it happened at.
//!
//! The messages are sentences for the person who wrote the file: they say what is wrong and what would be right.

use std::path::{Path, PathBuf};

/// The result of everything in this crate that reads a file or a request.
pub type Result<T> = std::result::Result<T, Error>;

/// An error with its place. [`Error::is_request`] tells a wrong request (exit status 2) from failed work (1).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request itself: a flag, a combination of keys, an argument.
    #[error("{0}")]
    Request(String),
    /// A key of a configuration file (run file, `config.json`, `adapter.toml`).
    #[error("{}: {key}: {message}", file.display())]
    Key {
        /// The configuration file.
        file: PathBuf,
        /// The dotted key, `train.steps`.
        key: String,
        /// What is wrong with it and what would be right.
        message: String,
    },
    /// A template, with a caret under the offending character.
    #[error("{message}\n  {}\n  {}^", one_line(template), caret_padding(template, *at))]
    Template {
        /// The whole template.
        template: String,
        /// Byte offset of the offending character.
        at: usize,
        /// What is wrong.
        message: String,
    },
    /// A line of a data file.
    #[error("{}:{line}: {message}", file.display())]
    Line {
        /// The data file.
        file: PathBuf,
        /// Line number, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A whole file that cannot be used.
    #[error("{}: {message}", file.display())]
    File {
        /// The file or directory.
        file: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A tensor of a weights file.
    #[error("{}: tensor '{tensor}': {message}", file.display())]
    Tensor {
        /// The weights file.
        file: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// What is wrong.
        message: String,
    },
    /// A file that could not be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file that could not be written (a full disk, a missing permission).
    #[error("cannot write {}: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The work itself failed: a loss that is not a number.
    #[error("{0}")]
    Failed(String),
    /// A run was asked to stop, and has saved its state.
    #[error("stopped at step {step}")]
    Stopped {
        /// Steps made; 0 before the first step, when nothing is saved yet.
        step: usize,
    },
}

impl Error {
    /// Whether the request was wrong (a file, a flag, a key: exit status 2) rather than the work failed (1).
    pub fn is_request(&self) -> bool {
        !matches!(self, Error::Write { .. } | Error::Failed(_) | Error::Stopped { .. })
    }

    /// A wrong request.
    pub fn request(message: impl Into<String>) -> Self {
        Error::Request(message.into())
    }

    /// A key of a configuration file.
    pub fn key(file: &Path, key: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Key { file: file.into(), key: key.into(), message: message.into() }
    }

    /// A template, with the byte offset of the offending character.
    pub fn template(template: &str, at: usize, message: impl Into<String>) -> Self {
        Error::Template { template: template.into(), at, message: message.into() }
    }

    /// A line of a data file, counted from 1.
    pub fn line(file: &Path, line: usize, message: impl Into<String>) -> Self {
        Error::Line { file: file.into(), line, message: message.into() }
    }

    /// A whole file.
    pub fn file(file: &Path, message: impl Into<String>) -> Self {
        Error::File { file: file.into(), message: message.into() }
    }

    /// A tensor of a weights file.
    pub fn tensor(file: &Path, tensor: &str, message: impl Into<String>) -> Self {
        Error::Tensor { file: file.into(), tensor: tensor.into(), message: message.into() }
    }

    /// A failed read of `file`.
    pub fn read(file: &Path, source: std::io::Error) -> Self {
        Error::Read { file: file.into(), source }
    }

    /// A failed write of `file`.
    pub fn write(file: &Path, source: std::io::Error) -> Self {
        Error::Write { file: file.into(), source }
    }
}

/// The template with a space for each character that takes no column of its own (line ends, tabs).
fn one_line(template: &str) -> String {
    template.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Spaces up to the caret. Hangul, Han and Kana fill two columns of a terminal, so they count twice.
fn caret_padding(template: &str, at: usize) -> String {
    let wide = |c: char| matches!(c as u32, 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xff00..=0xff60);
    let columns: usize =
        template.char_indices().take_while(|(i, _)| *i < at).map(|(_, c)| if wide(c) { 2 } else { 1 }).sum();
    " ".repeat(columns)
}
