//! Parameter counts and the numbers that PyTorch's default initialisation gives (spec: P-tuning section 2.6).

use super::*;
use crate::rng::Purpose;

fn encoder(kind: EncoderKind, rows: usize, width: usize, seed: u64) -> (Device, PromptEncoder) {
    let device = Device::processor(Some(2));
    let mut rng = Rng::new(seed, Purpose::PromptInitialisation);
    let encoder = PromptEncoder::new(&device, kind, rows, width, 0.05, &mut rng);
    (device, encoder)
}

fn count(kind: EncoderKind, width: usize) -> usize {
    encoder(kind, 9, width, 0).1.parameters().iter().map(Parameter::count).sum()
}

/// 9 pseudo tokens; the LSTM's counts are those of the paper's code with its table.
#[test]
fn trainable_parameters() {
    assert_eq!(count(EncoderKind::Lstm, 384), 2_074_752);
    assert_eq!(count(EncoderKind::Lstm, 768), 8_278_272);
    assert_eq!(count(EncoderKind::Mlp, 384), 9 * 384 + 2 * (384 * 384 + 384));
    assert_eq!(count(EncoderKind::Embedding, 384), 9 * 384);
}

/// Standard deviation of the outputs, mean row norm, mean cosine of two different rows.
fn output_statistics(width: usize, seed: u64) -> (f64, f64, f64) {
    let (device, encoder) = encoder(EncoderKind::Lstm, 9, width, seed);
    let (prompt, _) = encoder.forward(&device);
    let rows: Vec<&[f32]> = prompt.read().chunks_exact(width).collect();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let norms: Vec<f64> = rows.iter().map(|row| dot(row, row).sqrt()).collect();
    let n = (rows.len() * width) as f64;
    let mean = prompt.read().iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let deviation = (norms.iter().map(|norm| norm * norm).sum::<f64>() / n - mean * mean).sqrt();
    let pairs = (0..rows.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
    let cosines: Vec<f64> = pairs.map(|(i, j)| dot(rows[i], rows[j]) / (norms[i] * norms[j])).collect();
    let average = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    (deviation, average(&norms), average(&cosines))
}

#[test]
fn initial_prompts_are_short_and_nearly_equal_as_in_pytorch() {
    for (width, deviation, norm, cosine) in [(768, 0.025, 0.70, 0.90), (1024, 0.022, 0.72, 0.88)] {
        for seed in 0..3 {
            let (d, n, c) = output_statistics(width, seed);
            let what = format!("width {width}, seed {seed}: deviation {d:.4}, norm {n:.3}, cosine {c:.3}");
            assert!((d / deviation - 1.0).abs() < 0.08 && (n / norm - 1.0).abs() < 0.08, "{what}");
            assert!((c - cosine).abs() < 0.04, "{what}");
        }
    }
}

/// The table of a bare embedding is the prompt itself, at the scale of the word embeddings it was given.
#[test]
fn a_bare_embedding_starts_at_the_scale_of_words() {
    let (device, encoder) = encoder(EncoderKind::Embedding, 9, 384, 1);
    let (prompt, _) = encoder.forward(&device);
    let square = prompt.read().iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / prompt.read().len() as f64;
    assert!((square.sqrt() / 0.05 - 1.0).abs() < 0.05, "deviation {}", square.sqrt());
}
