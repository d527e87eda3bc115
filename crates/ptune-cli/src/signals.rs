//! Ctrl-C and SIGTERM: the first asks a run to save and stop, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What the signals have said so far.
pub(crate) struct Signals {
    stop: Arc<AtomicBool>,
    /// Whether the next signal ends the process.
    at_once: Arc<AtomicBool>,
}

impl Signals {
    /// Begins to listen. Until [`Signals::wait_for_the_run`] a signal ends the process at once, as it would without.
    pub(crate) fn listen() -> std::io::Result<Signals> {
        let signals = Signals { stop: Arc::default(), at_once: Arc::new(AtomicBool::new(true)) };
        for signal in [SIGINT, SIGTERM] {
            // In this order: a signal first does what the one before it decided.
            flag::register_conditional_shutdown(signal, 1, Arc::clone(&signals.at_once))?;
            flag::register(signal, Arc::clone(&signals.at_once))?;
            flag::register(signal, Arc::clone(&signals.stop))?;
        }
        Ok(signals)
    }

    /// There is something to save now: the next signal lets the run do so.
    pub(crate) fn wait_for_the_run(&self) {
        self.at_once.store(self.stop.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// What a run watches.
    pub(crate) fn stop(&self) -> &AtomicBool {
        &self.stop
    }
}
