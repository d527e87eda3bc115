//! Adam and AdamW against a naive twin in f64.

use super::*;
use crate::testing::{assert_close, numbers, on_every_isa, wide};

const STEP: AdamStep = AdamStep {
    learning_rate: 0.01,
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-6,
    weight_decay: 0.1,
    step: 1,
    coupled: false,
    gradient_scale: 1.0,
};

/// The naive twin of a step.
fn reference(p: &mut [f64], gradient: &[f64], m: &mut [f64], v: &mut [f64], step: &AdamStep) {
    let count = step.step as f64;
    for i in 0..p.len() {
        let mut g = gradient[i] * step.gradient_scale;
        if step.coupled {
            g += step.weight_decay * p[i];
        } else {
            p[i] *= 1.0 - step.learning_rate * step.weight_decay;
        }
        m[i] = step.beta1 * m[i] + (1.0 - step.beta1) * g;
        v[i] = step.beta2 * v[i] + (1.0 - step.beta2) * g * g;
        let root = (v[i] / (1.0 - step.beta2.powf(count))).sqrt() + step.eps;
        p[i] -= step.learning_rate * m[i] / (1.0 - step.beta1.powf(count)) / root;
    }
}

#[test]
fn three_steps_are_the_twins_for_every_length() {
    for len in [0, 1, 7, 8, 9, 15, 16, 17, 26, 50, 40_000] {
        for coupled in [false, true] {
            let steps = (1..=3).map(|step| AdamStep { step, coupled, gradient_scale: 0.3, ..STEP });
            let p = numbers(len, 1);
            let (mut want, mut m, mut v) = (wide(&p), vec![0.0; len], vec![0.0; len]);
            for step in steps.clone() {
                reference(&mut want, &wide(&numbers(len, 10 + step.step as u32)), &mut m, &mut v, &step);
            }
            let want = [want, m, v].concat();
            on_every_isa(
                |ctx| {
                    let (mut p, mut m, mut v) = (p.clone(), vec![0.0; len], vec![0.0; len]);
                    for step in steps.clone() {
                        adam(ctx, &mut p, &numbers(len, 10 + step.step as u32), &mut m, &mut v, &step);
                    }
                    [p, m, v].concat()
                },
                |isa, got| assert_close(&format!("{isa}, {len} numbers, coupled {coupled}"), got, &want, 5e-6),
            );
        }
    }
}

/// PyTorch 2 in f64: three steps from p[i] = sin(i) with the gradients 0.1 cos(t (i + 1)).
#[test]
fn pytorch_has_the_same_numbers() {
    let adamw = [-0.005828941, 0.858604845, 0.919462346, 0.157756295, -0.752597179];
    let adam_l2 = [-0.005681160, 0.814499836, 0.906636604, 0.154402986, -0.728320289];
    for (coupled, want) in [(false, adamw), (true, adam_l2)] {
        on_every_isa(
            |ctx| {
                let mut p: Vec<f32> = (0..5).map(|i| f64::from(i).sin() as f32).collect();
                let (mut m, mut v) = ([0.0; 5], [0.0; 5]);
                for step in 1..=3 {
                    let g: Vec<f32> = (1..=5).map(|i| (0.1 * (step as f64 * f64::from(i)).cos()) as f32).collect();
                    adam(ctx, &mut p, &g, &mut m, &mut v, &AdamStep { step, coupled, ..STEP });
                }
                p
            },
            |isa, p| assert_close(&format!("{isa}, coupled {coupled}"), p, &want, 1e-6),
        );
    }
}

#[test]
fn the_squared_norm_is_exact_enough_and_the_same_everywhere() {
    for len in [0, 1, 15, 16, 17, 50, 5_000_000] {
        let x = numbers(len, 1);
        let want: f64 = wide(&x).iter().map(|x| x * x).sum();
        let first = squared_norm(&Context::detect(), &x);
        assert!((first - want).abs() <= 1e-11 * want, "{len} numbers: {first}, want {want}");
        on_every_isa(
            |ctx| {
                assert_eq!(squared_norm(ctx, &x).to_bits(), first.to_bits(), "{len} numbers");
                Vec::new()
            },
            |_, _| {},
        );
    }
}
