//! The three Adams against a naive twin in f64.

use super::*;
use crate::testing::{assert_close, numbers, on_every_isa, wide};

const STEP: AdamStep = AdamStep {
    learning_rate: 0.01,
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-6,
    weight_decay: 0.1,
    step: 1,
    decay: Decay::Before,
    gradient_scale: 1.0,
};

/// The naive twin of a step.
fn reference(p: &mut [f64], gradient: &[f64], m: &mut [f64], v: &mut [f64], step: &AdamStep) {
    let count = step.step as f64;
    for i in 0..p.len() {
        let mut g = gradient[i] * step.gradient_scale;
        let kept = 1.0 - step.learning_rate * step.weight_decay;
        match step.decay {
            Decay::Coupled => g += step.weight_decay * p[i],
            Decay::Before => p[i] *= kept,
            Decay::After => {}
        }
        m[i] = step.beta1 * m[i] + (1.0 - step.beta1) * g;
        v[i] = step.beta2 * v[i] + (1.0 - step.beta2) * g * g;
        let size = step.learning_rate / (1.0 - step.beta1.powf(count));
        if step.decay == Decay::After {
            p[i] -= size * (1.0 - step.beta2.powf(count)).sqrt() * m[i] / (v[i].sqrt() + step.eps);
            p[i] *= kept;
        } else {
            p[i] -= size * m[i] / ((v[i] / (1.0 - step.beta2.powf(count))).sqrt() + step.eps);
        }
    }
}

#[test]
fn three_steps_are_the_twins_for_every_length() {
    for len in [0, 1, 7, 8, 9, 15, 16, 17, 26, 50, 40_000] {
        for decay in [Decay::Coupled, Decay::Before, Decay::After] {
            let steps = (1..=3).map(|step| AdamStep { step, decay, gradient_scale: 0.3, ..STEP });
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
                |isa, got| assert_close(&format!("{isa}, {len} numbers, {decay:?}"), got, &want, 5e-6),
            );
        }
    }
}

/// PyTorch 2 in f64, and the update of transformers 4 (`adamw_hf`) in its order: three steps from p[i] = sin(i) with the gradients 0.1 cos(t (i + 1)).
#[test]
fn pytorch_has_the_same_numbers() {
    let adamw = [-0.005828941, 0.858604845, 0.919462346, 0.157756295, -0.752597179];
    let adamw_hf = [-0.005821694, 0.858581953, 0.919448408, 0.157736895, -0.752596928];
    let adam_l2 = [-0.005681160, 0.814499836, 0.906636604, 0.154402986, -0.728320289];
    for (decay, want) in [(Decay::Before, adamw), (Decay::Coupled, adam_l2), (Decay::After, adamw_hf)] {
        on_every_isa(
            |ctx| {
                let mut p: Vec<f32> = (0..5).map(|i| f64::from(i).sin() as f32).collect();
                let (mut m, mut v) = ([0.0; 5], [0.0; 5]);
                for step in 1..=3 {
                    let g: Vec<f32> = (1..=5).map(|i| (0.1 * (step as f64 * f64::from(i)).cos()) as f32).collect();
                    adam(ctx, &mut p, &g, &mut m, &mut v, &AdamStep { step, decay, ..STEP });
                }
                p
            },
            |isa, p| assert_close(&format!("{isa}, {decay:?}"), p, &want, 1e-6),
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
