//! What the commands that ask a run file's question in other words share, `search` and `sensitivity`: arguments, Ctrl-C, progress.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use ptune::train::{Event, RunConfig};

use crate::progress::Progress;
use crate::report::metrics_line;
use crate::run_file::{RunFile, default_out};
use crate::signals::Signals;

/// A run file, its prompts, and where the result goes.
#[derive(clap::Args)]
pub(crate) struct Asking {
    #[command(flatten)]
    file: RunFile,
    /// A file of prompts: a template a line, or JSON lines with "template", in which [X] and [Y] stand for the only field
    /// and for [MASK]
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: Option<PathBuf>,
    /// The directory to write [default: runs/, with the run file's directory and name]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

impl Asking {
    /// The run file with its changes and these, and the directory to write.
    pub(crate) fn read(&self, more: Option<(String, String)>) -> Result<(RunConfig, PathBuf)> {
        self.file.refuse_directory()?;
        let set: Vec<_> = self.file.set.iter().cloned().chain(more).collect();
        let out = self.out.clone().unwrap_or_else(|| default_out(&self.file.run, false));
        Ok((self.file.read_with(&set)?, out))
    }

    /// Does the work with the path of its run file and what Ctrl-C sets, and shows its events.
    pub(crate) fn watch<T>(
        &self,
        work: impl FnOnce(&Path, &AtomicBool, &mut dyn FnMut(Event<'_>)) -> ptune::Result<T>,
    ) -> Result<ptune::Result<T>> {
        let signals = Signals::listen().context("cannot listen to Ctrl-C")?;
        let mut progress = Progress::new();
        let done = work(&self.file.run, signals.stop(), &mut |event| {
            if let Event::Evaluating { .. } | Event::Step { .. } = event {
                signals.wait_for_the_run();
            }
            show(&mut progress, event);
        });
        progress.clear();
        Ok(done)
    }
}

fn show(progress: &mut Progress, event: Event<'_>) {
    match event {
        Event::Loading { done, total } => progress.update("loading", done, total, ""),
        Event::Note(text) => progress.line(text),
        Event::Step { step, steps, loss, dev, .. } => {
            let dev = dev.map_or(String::new(), |(name, value)| format!("  best {name} {value:.4}"));
            let loss = if loss > 0.0 { format!("loss {loss:.4}") } else { String::new() };
            progress.update("working", step, steps, &format!("{loss}{dev}"));
        }
        Event::Trained { .. } => {}
        Event::Evaluating { done, total } => progress.update("evaluating", done, total, ""),
        Event::Evaluated { step, metrics, best, .. } => {
            let mark = if best { "  *" } else { "" };
            progress.line(&format!("step {step:>5}  dev  {}{mark}", metrics_line(metrics)));
        }
    }
}
