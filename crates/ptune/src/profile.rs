//! Where the time goes: seconds, calls and floating-point operations of each kind of operation on a device.
//!
//! A device has a profile only when it was asked for ([`Device::with_profile`](crate::Device::with_profile)); without
//! one an operation pays a branch. Every operation says its kind, because that is the only way to a kernel:
//! `Device::doing` gives the kernels' context and holds the clock for as long as it is borrowed.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ptune_kernels::Context;

/// The kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `y = x W^T + b` with a model's weight.
    Products,
    /// `d_x = d_y W` with a model's weight.
    ProductsBackward,
    /// `d_W = d_y^T x`, the gradient of a model's weight.
    ProductsWeight,
    /// Attention.
    Attention,
    /// The gradients of queries, keys and values.
    AttentionBackward,
    /// Norms, forward and backward.
    Norms,
    /// Queries and keys turned by their positions, forward and backward.
    Rotary,
    /// Activations and gates, forward and backward.
    Activations,
    /// Word, position and token-type embedding, forward and backward.
    Embedding,
    /// Dropout of rows, forward and backward.
    Dropout,
    /// Rows gathered, scattered, copied, added.
    Rows,
    /// Cross-entropy and log-probabilities, forward and backward.
    Loss,
    /// The linear layers and the LSTM of the prompt encoder, forward and backward.
    PromptEncoder,
    /// Clipping and the optimiser's step.
    Optimizer,
    /// Weights packed.
    Packing,
}

impl Operation {
    /// All kinds, in the order of a report.
    pub const ALL: [Operation; 15] = [
        Operation::Products,
        Operation::ProductsBackward,
        Operation::ProductsWeight,
        Operation::Attention,
        Operation::AttentionBackward,
        Operation::Norms,
        Operation::Rotary,
        Operation::Activations,
        Operation::Embedding,
        Operation::Dropout,
        Operation::Rows,
        Operation::Loss,
        Operation::PromptEncoder,
        Operation::Optimizer,
        Operation::Packing,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Products => "products",
            Operation::ProductsBackward => "products_backward",
            Operation::ProductsWeight => "products_weight",
            Operation::Attention => "attention",
            Operation::AttentionBackward => "attention_backward",
            Operation::Norms => "norms",
            Operation::Rotary => "rotary",
            Operation::Activations => "activations",
            Operation::Embedding => "embedding",
            Operation::Dropout => "dropout",
            Operation::Rows => "rows",
            Operation::Loss => "loss",
            Operation::PromptEncoder => "prompt_encoder",
            Operation::Optimizer => "optimizer",
            Operation::Packing => "packing",
        }
    }
}

/// Counters of each kind since the last reset. Operations of one device run one after another, so their times add up.
#[derive(Debug, Default)]
pub struct Profile {
    counters: [Counter; Operation::ALL.len()],
}

#[derive(Debug, Default)]
struct Counter {
    nanoseconds: AtomicU64,
    calls: AtomicU64,
    multiply_adds: AtomicU64,
}

/// What one kind of operation came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spent {
    /// The kind.
    pub operation: Operation,
    /// Seconds, all calls together.
    pub seconds: f64,
    /// Calls.
    pub calls: u64,
    /// Floating-point operations, a multiply-add counted as two; counted for products with a model's weights only.
    pub flops: f64,
}

impl Profile {
    /// Starts again from zero.
    pub fn reset(&self) {
        for counter in &self.counters {
            for count in [&counter.nanoseconds, &counter.calls, &counter.multiply_adds] {
                count.store(0, Ordering::Relaxed);
            }
        }
    }

    /// What each kind came to since the last reset, those that ran.
    pub fn spent(&self) -> Vec<Spent> {
        let read = |operation: Operation| {
            let counter = &self.counters[operation as usize];
            Spent {
                operation,
                seconds: counter.nanoseconds.load(Ordering::Relaxed) as f64 * 1e-9,
                calls: counter.calls.load(Ordering::Relaxed),
                flops: 2.0 * counter.multiply_adds.load(Ordering::Relaxed) as f64,
            }
        };
        Operation::ALL.into_iter().map(read).filter(|spent| spent.calls > 0).collect()
    }
}

/// The kernels' context, lent for one operation; the clock runs until it is dropped.
pub(crate) struct Doing<'a> {
    context: &'a Context,
    clock: Option<(Instant, &'a Counter)>,
}

impl<'a> Doing<'a> {
    pub(crate) fn begin(
        context: &'a Context,
        profile: Option<&'a Profile>,
        operation: Operation,
        multiply_adds: usize,
    ) -> Self {
        let clock = profile.map(|profile| {
            let counter = &profile.counters[operation as usize];
            counter.calls.fetch_add(1, Ordering::Relaxed);
            counter.multiply_adds.fetch_add(multiply_adds as u64, Ordering::Relaxed);
            (Instant::now(), counter)
        });
        Doing { context, clock }
    }
}

impl Deref for Doing<'_> {
    type Target = Context;

    fn deref(&self) -> &Context {
        self.context
    }
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        if let Some((start, counter)) = self.clock {
            counter.nanoseconds.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;

    #[test]
    fn every_kind_has_its_own_counter() {
        for (i, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, i, "{}", operation.name());
        }
    }

    #[test]
    fn operations_are_counted_on_every_clone_and_only_when_asked_for() {
        let plain = Device::processor(Some(1));
        assert!(plain.profile().is_none());
        let device = plain.with_profile();
        let clone = device.clone();
        let (x, w, b) = (clone.upload(2, 3, &[1.0; 6]), clone.zeros(4, 3), clone.zeros(1, 4));
        let layer = clone.pack_linear(w.data(), Some(b.data()), 4, 3, true);
        let profile = device.profile().expect("a profile");
        profile.reset();
        let y = clone.linear(&x, &layer);
        clone.linear_backward(&y, &layer);
        clone.linear_backward(&y, &layer);
        let counts: Vec<_> = profile.spent().into_iter().map(|s| (s.operation, s.calls, s.flops)).collect();
        let wanted = [(Operation::Products, 1, 48.0), (Operation::ProductsBackward, 2, 96.0)];
        assert_eq!(counts, wanted);
        profile.reset();
        assert!(profile.spent().is_empty());
    }
}
