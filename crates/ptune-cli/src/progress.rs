//! Progress on standard error: bars on a terminal, a plain line now and then without one.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::visible;

/// How often a plain line is printed.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// One bar at a time, each for a phase of the work.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    phase: &'static str,
    terminal: bool,
    last_line: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Progress { bar: None, phase: "", terminal, last_line: Instant::now() }
    }

    /// `done` of `total` in a phase of the work, with a few words beside the bar. A new phase starts a new bar.
    pub(crate) fn update(&mut self, phase: &'static str, done: usize, total: usize, beside: &str) {
        if !self.terminal {
            return self.plain(phase, done, total, beside);
        }
        if self.phase != phase || self.bar.is_none() {
            self.clear();
            self.phase = phase;
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            let style = "{prefix:>10} [{bar:30}] {pos}/{len} {eta} left  {msg}";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(phase);
            // A phase that goes on after another one begins in the middle: that jump says nothing about the time left.
            bar.set_position(done as u64);
            bar.tick();
            bar.reset_eta();
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.set_message(beside.to_owned());
        }
    }

    /// A line that stays.
    pub(crate) fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn plain(&mut self, phase: &'static str, done: usize, total: usize, beside: &str) {
        if self.phase != phase {
            self.phase = phase;
            self.last_line = Instant::now();
        } else if self.last_line.elapsed() >= PLAIN_EVERY {
            self.last_line = Instant::now();
            say(&format!("{phase} {done}/{total}  {beside}"));
        }
    }
}

/// A line on standard error; a closed one is nobody's loss.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", visible(text));
}
