//! A gradient against differences of the loss: along its own direction the slope is its length.

use ptune::{Device, Tensor};

/// `x + step * direction`
pub(crate) fn moved(device: &Device, x: &Tensor, direction: &[f32], step: f64) -> Tensor {
    let numbers: Vec<f32> = x.read().iter().zip(direction).map(|(x, d)| x + step as f32 * d).collect();
    device.upload(x.rows(), x.columns(), &numbers)
}

/// The slope of the loss along a gradient of length `norm` is that length; `loss_at(step)` moves by `step` along the unit
/// vector.
pub(crate) fn check_slope(what: &str, norm: f64, mut loss_at: impl FnMut(f64) -> f64) {
    let step = 5e-3;
    let slope = (loss_at(step) - loss_at(-step)) / (2.0 * step);
    assert!((slope - norm).abs() <= 0.02 * norm + 3e-4, "{what}: slope {slope}, gradient of length {norm}");
}

pub(crate) fn unit(gradient: &[f32]) -> (f64, Vec<f32>) {
    let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    (norm, gradient.iter().map(|g| (f64::from(*g) / norm.max(1e-30)) as f32).collect())
}
