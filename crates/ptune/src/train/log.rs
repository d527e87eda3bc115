//! `metrics.jsonl` read back: a line an evaluation, and one for the test at the end.
//!
//! ```text
//! {"step":49,"loss":3.42,"learning_rate":0.001,"dev":{"p_at_1":0.31,...},"best":true}
//! {"test":{"p_at_1":0.33,...}}
//! ```
//! The line of step 0 has no loss, one of a run without dev examples no `dev` and no `best`. Nothing is written here.

use std::path::Path;

use serde::Deserialize;

use crate::train::metrics::Metrics;
use crate::{Error, Result, files};

/// A million evaluations.
const LARGEST_FILE: u64 = 256 << 20;

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Line {
    /// Steps made; none in the line of the test.
    pub step: Option<usize>,
    /// The mean loss since the line before.
    pub loss: Option<f64>,
    /// The learning rate of the last step.
    pub learning_rate: Option<f64>,
    /// Metrics on dev.
    pub dev: Option<Metrics>,
    /// Whether they were the best so far, so that the prompt was kept.
    #[serde(default)]
    pub best: bool,
    /// Metrics of the kept prompt on test.
    pub test: Option<Metrics>,
}

/// Reads a `metrics.jsonl`.
///
/// # Errors
/// A file that cannot be read, or a line that is not one of these, with its number.
pub fn read(file: &Path) -> Result<Vec<Line>> {
    parse(file, &files::read_text(file, LARGEST_FILE)?)
}

/// Parses the text of a `metrics.jsonl`; `file` is for messages.
///
/// # Errors
/// A line that is not one of these, with its number.
pub fn parse(file: &Path, text: &str) -> Result<Vec<Line>> {
    let line = |(i, line)| {
        serde_json::from_str(line).map_err(|wrong| Error::line(file, i + 1, format!("not a line of metrics: {wrong}")))
    };
    text.lines().enumerate().map(line).collect()
}

/// The last line whose prompt was kept: where the adapter comes from, when there are dev examples.
pub fn best(lines: &[Line]) -> Option<&Line> {
    lines.iter().rfind(|line| line.best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_kind() {
        let text = "{\"step\":0,\"dev\":{\"accuracy\":0.5},\"best\":true}\n\
                    {\"step\":9,\"loss\":1.5,\"learning_rate\":0.001,\"dev\":{\"accuracy\":0.5},\"best\":true}\n\
                    {\"step\":18,\"loss\":1.0,\"learning_rate\":0.001,\"dev\":{\"accuracy\":0.25},\"best\":false}\n\
                    {\"test\":{\"accuracy\":0.75}}\n";
        let lines = parse(Path::new("m"), text).unwrap();
        assert_eq!(lines.len(), 4);
        assert_eq!(best(&lines).unwrap().step, Some(9), "of equal ones the later is kept");
        assert_eq!((lines[0].loss, lines[1].loss, lines[3].step), (None, Some(1.5), None));
        assert_eq!(lines[3].test.as_ref().unwrap().get("accuracy"), Some(0.75));
    }

    #[test]
    fn a_damaged_line_is_named() {
        let message = parse(Path::new("m.jsonl"), "{\"step\":0}\n{\"step\":\n").unwrap_err().to_string();
        assert!(message.starts_with("m.jsonl:2: not a line of metrics: "), "{message}");
    }
}
