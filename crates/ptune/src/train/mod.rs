//! Training and evaluation: the metrics.

pub mod metrics;
