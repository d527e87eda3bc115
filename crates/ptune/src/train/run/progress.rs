//! What a run has come to beside its parameters: counts, sums, the best so far, and the lines of `metrics.jsonl`.

use std::cmp::Ordering;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::train::Event;
use crate::train::config::Metric;
use crate::train::events;
use crate::train::metrics::Metrics;
use crate::{Result, files};

/// What `train.batch_size` may be at most.
const MOST_EXAMPLES_A_STEP: usize = 65_536;

/// How far a run is. All but the times follows from the run file, so it is the same in every repetition.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// Steps made.
    pub(crate) step: usize,
    /// The step of the last evaluation; none before the one at step 0.
    pub(crate) evaluated: Option<usize>,
    /// `metrics.jsonl` so far.
    pub(crate) log: String,
    /// Metrics on dev of the kept prompt, which itself is the adapter on disk; none before the first evaluation, and
    /// without dev.
    pub(crate) kept: Option<Metrics>,
    /// Evaluations since the last that was better than all before it.
    pub(crate) idle: usize,
    /// Sum of the losses since the last line of the log.
    pub(crate) loss: f64,
    /// Steps since the last line of the log.
    pub(crate) loss_steps: usize,
    /// Examples trained on.
    pub(crate) examples: usize,
    /// Time in training steps.
    pub(crate) stepping: Duration,
    /// Time in training and evaluation before the run was last resumed.
    pub(crate) earlier: Duration,
}

impl Progress {
    /// Whether these are counts of a run of so many steps, whoever wrote them: nothing computed from them overflows.
    pub(crate) fn is_sound(&self, steps: usize) -> bool {
        let counts = [self.loss_steps, self.idle, self.evaluated.unwrap_or(0)];
        let longest = Duration::from_secs(1 << 32); // a century
        self.step <= steps
            && counts.iter().all(|count| *count <= steps)
            && self.examples <= steps.saturating_mul(MOST_EXAMPLES_A_STEP)
            && self.stepping.max(self.earlier) < longest
    }

    /// The steps made, and the last evaluation: two states of a run that agree in these are the same.
    pub(crate) fn done(&self) -> (usize, Option<usize>) {
        (self.step, self.evaluated)
    }

    /// Counts a training step.
    pub(crate) fn count_step(&mut self, loss: f64, examples: usize, time: Duration) {
        self.step += 1;
        self.loss += loss;
        self.loss_steps += 1;
        self.examples += examples;
        self.stepping += time;
    }

    /// The mean loss since the last call, and a new count.
    pub(crate) fn take_mean_loss(&mut self) -> f64 {
        let mean = self.loss / self.loss_steps.max(1) as f64;
        (self.loss, self.loss_steps) = (0.0, 0);
        mean
    }

    /// Whether metrics are to be kept, by the metric `select`. Ties keep the later, but only a better one resets the
    /// patience.
    pub(crate) fn is_best(&mut self, metrics: &Metrics, select: Metric) -> bool {
        let so_far = self.kept.as_ref().and_then(|kept| kept.get(select.name()));
        let order = match (metrics.get(select.name()), so_far) {
            (Some(now), Some(best)) if select.is_better_small() => best.partial_cmp(&now),
            (Some(now), Some(best)) => now.partial_cmp(&best),
            _ => Some(Ordering::Greater), // the first
        };
        self.idle = if order == Some(Ordering::Greater) { 0 } else { self.idle + 1 };
        order.is_some_and(Ordering::is_ge)
    }

    /// What the observer hears of a step.
    pub(crate) fn event<'a>(&self, seed: u64, steps: usize, loss: f64, select: &'a str) -> Event<'a> {
        let dev = self.kept.as_ref().and_then(|kept| kept.get(select));
        let examples_per_s = self.examples_per_s();
        Event::Step { seed, step: self.step, steps, loss, examples_per_s, dev: dev.map(|value| (select, value)) }
    }

    /// Training examples a second; 0 before the first step.
    pub(crate) fn examples_per_s(&self) -> f64 {
        self.examples as f64 / self.stepping.as_secs_f64().max(1e-9)
    }

    /// Adds a line to `metrics.jsonl` in the run directory `out`.
    pub(crate) fn write_line(&mut self, line: &serde_json::Value, out: &Path) -> Result<()> {
        self.log += &line.to_string();
        self.log.push('\n');
        self.write_log(out)
    }

    /// Writes `metrics.jsonl` as a whole, and what TensorBoard reads after it.
    pub(crate) fn write_log(&self, out: &Path) -> Result<()> {
        files::write_atomically(&out.join("metrics.jsonl"), self.log.as_bytes())?;
        events::update(out, &self.log, self.examples_per_s())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_has_the_largest_metric_or_the_smallest_perplexity() {
        for (metric, values) in [(Metric::Mrr, [0.5, 0.7, 0.6, 0.7]), (Metric::Perplexity, [9.0, 7.0, 8.0, 7.0])] {
            let mut progress = Progress::default();
            let found = values.map(|value| {
                let metrics = Metrics::from([(metric.name(), value)]);
                let best = progress.is_best(&metrics, metric);
                progress.kept = if best { Some(metrics) } else { progress.kept.take() };
                (best, progress.idle)
            });
            // Ties keep the later, and are no improvement.
            assert_eq!(found, [(true, 0), (true, 0), (false, 1), (true, 2)], "{}", metric.name());
        }
    }

    /// A state file carries its own digest, so whoever edits its counts can make it agree.
    #[test]
    fn counts_that_would_overflow_are_no_counts_of_a_run() {
        let sound = Progress { step: 7, evaluated: Some(7), examples: 56, loss_steps: 3, ..Progress::default() };
        assert!(sound.is_sound(7) && !sound.is_sound(6));
        let long = Duration::from_secs(u64::MAX);
        for hostile in [
            Progress { step: usize::MAX, ..sound.clone() },
            Progress { evaluated: Some(usize::MAX), ..sound.clone() },
            Progress { idle: usize::MAX, ..sound.clone() },
            Progress { loss_steps: usize::MAX, ..sound.clone() },
            Progress { examples: usize::MAX, ..sound.clone() },
            Progress { stepping: long, ..sound.clone() },
            Progress { earlier: long, ..sound.clone() },
        ] {
            assert!(!hostile.is_sound(7));
        }
    }
}
