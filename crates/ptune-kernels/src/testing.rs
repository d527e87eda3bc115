//! What the kernel tests share: every instruction set in turn, the same bits for 1 to 4 threads, numbers, limits.

use crate::{Context, Isa, philox, unit_f32};

#[allow(clippy::print_stdout)] // a test that skips says so
/// Runs `kernel` on every instruction set of this processor with 1 to 4 threads, checks that its output has the same
/// bits for every number of threads, and hands one output per instruction set to `check`. Says which sets it skipped.
pub(crate) fn on_every_isa(kernel: impl Fn(&Context) -> Vec<f32>, check: impl Fn(&str, &[f32])) {
    for name in Isa::NAMES {
        let Some(isa) = Isa::named(name) else {
            println!("skipped: this processor has no {name}");
            continue;
        };
        let one = kernel(&Context::new(isa, 1));
        for threads in 2..=4 {
            let many = kernel(&Context::new(isa, threads));
            let same = one.len() == many.len() && one.iter().zip(&many).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{name}: {threads} threads give other bits than one");
        }
        check(name, &one);
    }
}

/// `len` numbers, evenly spread over -1..1, the same for the same seed.
pub(crate) fn numbers(len: usize, seed: u32) -> Vec<f32> {
    (0..len).map(|i| unit_f32(philox([i as u32, 0, 0, 0], [seed, 7])[0]) * 2.0 - 1.0).collect()
}

/// `max |got - want| <= limit * max(|want|, floor)`, with the place of the worst number in the message.
pub(crate) fn assert_close(what: &str, got: &[f32], want: &[f64], limit: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(1e-3_f64, |m, x| m.max(x.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*g) - w).abs();
        assert!(error <= limit * scale, "{what}[{i}]: got {g}, want {w}, error {error:e} > {limit:e} x {scale}");
    }
}

/// f32 numbers as f64, for the naive twins.
pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// The gradient of `f` at `x` by central differences in f64.
pub(crate) fn central_differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut x = x.to_vec();
    (0..x.len())
        .map(|i| {
            let (at, h) = (x[i], 1e-5);
            x[i] = at + h;
            let above = f(&x);
            x[i] = at - h;
            let below = f(&x);
            x[i] = at;
            (above - below) / (2.0 * h)
        })
        .collect()
}
