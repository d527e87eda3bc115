//! What the commands share when they tell results: standard output, metrics as a table, peak memory.

use std::io::Write;

use ptune::train::metrics::Metrics;
use serde_json::{Map, Value};

/// A line on standard output. A reader that went away (`| head`) ends the program quietly.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(anyhow::anyhow!("cannot write to standard output: {e}")),
        Ok(()) => Ok(()),
    }
}

/// A text for a terminal: without control characters and without the marks that turn the direction of what follows,
/// which file names, labels and templates may carry.
pub(crate) fn visible(text: &str) -> String {
    let acts = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if acts(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// An error for a terminal; of one beyond all reason, which repeats megabytes of a file, the beginning.
pub(crate) fn error_text(message: &str) -> String {
    const LONGEST: usize = 4000;
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => {
            let left = message[end..].chars().count();
            format!("{} ... ({left} more characters)", visible(&message[..end]))
        }
        None => visible(message),
    }
}

/// Metrics as a JSON object, in their own order.
pub(crate) fn metrics_json(metrics: &Metrics) -> Value {
    Value::Object(metrics.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect::<Map<_, _>>())
}

/// `accuracy 0.9350   macro_f1 0.9349   majority 0.5000`
pub(crate) fn metrics_line(metrics: &Metrics) -> String {
    let cells = metrics.iter().map(|(name, value)| match value.as_f64() {
        Some(number) if !value.is_u64() => format!("{name} {number:.4}"),
        _ => format!("{name} {value}"),
    });
    cells.collect::<Vec<_>>().join("   ")
}

/// The most memory this process has held so far, in MB; `None` where the system does not say.
pub(crate) fn peak_rss_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024)
}

/// A number of a JSON object: three digits behind the point say all that a clock does.
pub(crate) fn round(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}
