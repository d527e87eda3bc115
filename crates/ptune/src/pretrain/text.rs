//! Plain text as lines, and which of them are held out.
//!
//! A line is a sentence or a document of its own; white space at its ends and empty lines do not count. What is held out
//! is a share of the *distinct* lines, and all copies of such a line leave the training text: a line that was trained
//! on measures nothing. Lines are chosen by the seed; their order stays that of the files.

use std::collections::HashMap;
use std::path::PathBuf;

use super::config::DataConfig;
use crate::rng::{Purpose, Rng};
use crate::{Error, Result, files};

/// Text is held in memory, with its tokens beside it.
const LARGEST_FILE: u64 = 1 << 30;
/// A megabyte: nobody writes a longer sentence, and a file of one line is a mistake that should be told.
const LONGEST_LINE: usize = 1 << 20;

/// The lines of a run.
#[derive(Hash)]
pub(super) struct Text {
    /// Trained on, with repetitions.
    pub(super) train: Vec<String>,
    /// Measured, each once.
    pub(super) held_out: Vec<String>,
}

impl Text {
    /// Reads the text files of a run.
    ///
    /// # Errors
    /// A file that cannot be read or is no UTF-8; a line that is too long; no line to train on.
    pub(super) fn read(config: &DataConfig, seed: u64) -> Result<Text> {
        let mut lines = Vec::new();
        for file in &config.text {
            let text = files::read_text(file, LARGEST_FILE)?;
            for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
                if line.len() > LONGEST_LINE {
                    let message = "longer than a megabyte; a sentence or a document a line was expected";
                    return Err(Error::line(file, number + 1, message));
                }
                let line = line.trim();
                if !line.is_empty() {
                    lines.push(line.to_owned());
                }
            }
        }
        if lines.is_empty() {
            return Err(Error::request(format!("data.text: there is no text in {}", listed(&config.text))));
        }
        Text::split(lines, config.held_out, seed)
    }

    /// Holds out a share of the distinct lines: at least one, unless the share is 0.
    fn split(lines: Vec<String>, share: f64, seed: u64) -> Result<Text> {
        let mut number: HashMap<&str, usize> = HashMap::new();
        for line in &lines {
            let next = number.len();
            number.entry(line).or_insert(next);
        }
        let distinct = number.len();
        let count = if share == 0.0 { 0 } else { ((share * distinct as f64).round() as usize).max(1) };
        if count >= distinct {
            let message = "data.text: one distinct line is left, and data.held_out takes it; give more text, or set \
                           data.held_out = 0";
            return Err(Error::request(message));
        }
        let mut order: Vec<usize> = (0..distinct).collect();
        Rng::new(seed, Purpose::HeldOut).shuffle(&mut order);
        let mut is_held_out = vec![false; distinct];
        order[..count].iter().for_each(|&line| is_held_out[line] = true);

        let numbers: Vec<usize> = lines.iter().map(|line| number[line.as_str()]).collect();
        let (mut train, mut held_out, mut seen) = (Vec::new(), Vec::new(), vec![false; distinct]);
        for (line, number) in lines.into_iter().zip(numbers) {
            if !is_held_out[number] {
                train.push(line);
            } else if !std::mem::replace(&mut seen[number], true) {
                held_out.push(line);
            }
        }
        Ok(Text { train, held_out })
    }
}

fn listed(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> Vec<String> {
        // Every line twice.
        (0..2 * count).map(|i| format!("line {}", i % count)).collect()
    }

    #[test]
    fn a_line_held_out_is_never_trained_on() {
        let text = Text::split(lines(40), 0.1, 3).unwrap();
        assert_eq!((text.train.len(), text.held_out.len()), (72, 4));
        assert!(text.held_out.iter().all(|line| !text.train.contains(line)));
        let other = Text::split(lines(40), 0.1, 4).unwrap();
        assert_ne!(text.held_out, other.held_out, "the seed chooses");
        assert_eq!(Text::split(lines(40), 0.0, 3).unwrap().train, lines(40));
        assert_eq!(Text::split(lines(40), 1e-9, 3).unwrap().held_out.len(), 1);
    }

    #[test]
    fn what_would_leave_nothing_is_told() {
        let message = Text::split(vec!["one".into(), "one".into()], 0.01, 0).err().unwrap().to_string();
        assert!(message.contains("data.held_out = 0"), "{message}");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("empty.txt");
        std::fs::write(&file, "\u{feff}\n  \n\n").unwrap();
        let config = DataConfig { text: vec![file], ..DataConfig::default() };
        let message = Text::read(&config, 0).err().unwrap().to_string();
        assert!(message.contains("no text in") && message.contains("empty.txt"), "{message}");
    }
}
