//! Progress on standard error: bars on a terminal, a plain line now and then without one.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::visible;

/// How often a plain line is printed.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// One bar a phase of the work; a phase within another (an evaluation during training) stands below it.
pub(crate) struct Progress {
    bars: MultiProgress,
    phases: Vec<Phase>,
    terminal: bool,
    last_line: Instant,
}

struct Phase {
    name: &'static str,
    bar: ProgressBar,
    start: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Progress {
            bars: MultiProgress::with_draw_target(target),
            phases: Vec::new(),
            terminal,
            last_line: Instant::now(),
        }
    }

    /// `done` of `total` in a phase of the work, with a few words beside the bar. A finished phase's bar goes away.
    pub(crate) fn update(&mut self, name: &'static str, done: usize, total: usize, beside: &str) {
        let at = match self.phases.iter().position(|phase| phase.name == name) {
            Some(at) => at,
            None => {
                let bar = self.bars.add(ProgressBar::new(total as u64));
                let style = "{prefix:>10} [{bar:30}] {pos}/{len}  {eta} left  {msg}";
                if let Ok(style) = ProgressStyle::with_template(style) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_prefix(name);
                self.phases.push(Phase { name, bar, start: Instant::now() });
                self.phases.len() - 1
            }
        };
        let phase = &self.phases[at];
        phase.bar.set_message(beside.to_owned());
        phase.bar.set_position(done as u64);
        if !self.terminal && self.last_line.elapsed() >= PLAIN_EVERY && done > 0 {
            self.last_line = Instant::now();
            let left = phase.start.elapsed().as_secs_f64() * total.saturating_sub(done) as f64 / done as f64;
            say(&format!("{name} {done}/{total}  {left:.0} s left  {beside}"));
        }
        if done >= total {
            self.phases.remove(at).bar.finish_and_clear();
        }
    }

    /// A line that stays.
    pub(crate) fn line(&mut self, text: &str) {
        self.bars.suspend(|| say(text));
    }

    /// Takes the bars away.
    pub(crate) fn clear(&mut self) {
        for phase in self.phases.drain(..) {
            phase.bar.finish_and_clear();
        }
    }
}

/// A line on standard error; a closed one is nobody's loss.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", visible(text));
}
