//! Parameter counts and the numbers that PyTorch's default initialisation gives (spec: P-tuning section 2.6).

use super::*;
use crate::rng::Purpose;

fn encoder(shape: EncoderShape, rows: usize, width: usize, seed: u64) -> (Device, PromptEncoder) {
    let device = Device::processor(Some(2));
    let mut rng = Rng::new(seed, Purpose::PromptInitialisation);
    let encoder = PromptEncoder::new(&device, &shape, rows, width, 0.05, &mut rng);
    (device, encoder)
}

fn superglue(kind: EncoderKind) -> EncoderShape {
    EncoderShape { shapes: Shapes::Superglue, ..EncoderShape::lama(kind) }
}

fn peft(kind: EncoderKind, hidden_size: Option<usize>, layers: Option<usize>) -> EncoderShape {
    EncoderShape { kind, shapes: Shapes::Peft, hidden_size, layers }
}

fn count(shape: EncoderShape, rows: usize, width: usize) -> usize {
    encoder(shape, rows, width, 0).1.parameters().iter().map(Parameter::count).sum()
}

/// The counts of the authors' code (spec: P-tuning sections 2.1 and 2.2), each with its table.
#[test]
fn trainable_parameters() {
    let lama = EncoderShape::lama;
    assert_eq!(count(lama(EncoderKind::Lstm), 9, 384), 2_074_752);
    assert_eq!(count(lama(EncoderKind::Lstm), 9, 768), 7_090_176 + 1_181_184 + 9 * 768);
    assert_eq!(count(lama(EncoderKind::Mlp), 9, 384), 9 * 384 + 2 * (384 * 384 + 384));
    assert_eq!(count(lama(EncoderKind::Embedding), 9, 384), 9 * 384);
    assert_eq!(count(superglue(EncoderKind::Lstm), 5, 128), 659_456 + 49_408 + 5 * 128);
    assert_eq!(count(superglue(EncoderKind::Mlp), 5, 128), count(lama(EncoderKind::Mlp), 5, 128));
    assert_eq!(count(peft(EncoderKind::Embedding, None, None), 5, 128), 5 * 128);
}

/// `name [rows, columns]` of every parameter.
fn listed(shape: EncoderShape, rows: usize, width: usize) -> Vec<String> {
    let (_, encoder) = encoder(shape, rows, width, 0);
    let list = |p: &Parameter| format!("{} [{}, {}]", p.name, p.value.rows(), p.value.columns());
    encoder.parameters().iter().map(list).collect()
}

/// PEFT 0.21 with token_dim 16, encoder_hidden_size 8, encoder_num_layers 2, 4 virtual tokens.
#[test]
fn the_parameters_of_peft_have_its_names_and_sizes() {
    let mlp = listed(peft(EncoderKind::Mlp, Some(8), None), 4, 16);
    let table = "embedding.weight [4, 16]";
    let wanted = ["mlp_head.0.weight [8, 16]", "mlp_head.0.bias [1, 8]", "mlp_head.2.weight [8, 8]"];
    assert_eq!(mlp[..4], [&[table], &wanted[..]].concat());
    assert_eq!(mlp[4..], ["mlp_head.2.bias [1, 8]", "mlp_head.4.weight [16, 8]", "mlp_head.4.bias [1, 16]"]);

    let lstm = listed(peft(EncoderKind::Lstm, Some(8), None), 4, 16);
    let mut wanted = vec![table.to_owned()];
    for (layer, input) in [(0, 16), (1, 16)] {
        for end in [format!("l{layer}"), format!("l{layer}_reverse")] {
            wanted.push(format!("lstm_head.weight_ih_{end} [32, {input}]"));
            wanted.push(format!("lstm_head.weight_hh_{end} [32, 8]"));
            wanted.extend(["ih", "hh"].map(|bias| format!("lstm_head.bias_{bias}_{end} [1, 32]")));
        }
    }
    wanted.extend(["mlp_head.0.weight [16, 16]", "mlp_head.0.bias [1, 16]"].map(String::from));
    wanted.extend(["mlp_head.2.weight [16, 16]", "mlp_head.2.bias [1, 16]"].map(String::from));
    assert_eq!(lstm, wanted);

    let sizes = |shape| listed(shape, 4, 16);
    assert_eq!(sizes(peft(EncoderKind::Lstm, None, None)), sizes(peft(EncoderKind::Lstm, Some(16), Some(2))));
    assert_eq!(sizes(peft(EncoderKind::Lstm, Some(8), Some(1))).len(), wanted.len() - 8);
}

#[test]
fn only_the_lama_lstm_needs_an_even_width() {
    for kind in [EncoderKind::Embedding, EncoderKind::Mlp, EncoderKind::Lstm] {
        assert_eq!(EncoderShape::lama(kind).fits(27), kind != EncoderKind::Lstm);
        for shape in [superglue(kind), peft(kind, Some(5), None)] {
            assert!(shape.fits(27));
            let (device, mut encoder) = encoder(shape, 3, 27, 0);
            let (prompt, saved) = encoder.forward(&device);
            assert_eq!((prompt.rows(), prompt.columns()), (3, 27));
            encoder.backward(&device, &prompt, saved);
            assert!(encoder.parameters().iter().all(|p| p.gradient.read().iter().any(|d| *d != 0.0)));
        }
    }
}

/// Standard deviation of the outputs, mean row norm, mean cosine of two different rows.
fn output_statistics(shape: EncoderShape, width: usize, seed: u64) -> (f64, f64, f64) {
    let (device, encoder) = encoder(shape, 9, width, seed);
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
    let (lama, superglue) = (EncoderShape::lama(EncoderKind::Lstm), superglue(EncoderKind::Lstm));
    for (shape, width, deviation, norm, cosine) in
        [(lama, 768, 0.025, 0.70, 0.90), (lama, 1024, 0.022, 0.72, 0.88), (superglue, 128, 0.055, 0.63, 0.98)]
    {
        for seed in 0..3 {
            let (d, n, c) = output_statistics(shape, width, seed);
            let what = format!("width {width}, seed {seed}: deviation {d:.4}, norm {n:.3}, cosine {c:.3}");
            // At 128 numbers a row one draw differs more from the next.
            let limit = if width == 128 { 0.15 } else { 0.08 };
            assert!((d / deviation - 1.0).abs() < limit && (n / norm - 1.0).abs() < limit, "{what}");
            assert!((c - cosine).abs() < 0.04, "{what}");
        }
    }
}

/// The table of a bare embedding is the prompt itself, at the scale of the word embeddings it was given.
#[test]
fn a_bare_embedding_starts_at_the_scale_of_words() {
    let (device, encoder) = encoder(EncoderShape::lama(EncoderKind::Embedding), 9, 384, 1);
    let (prompt, _) = encoder.forward(&device);
    let square = prompt.read().iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / prompt.read().len() as f64;
    assert!((square.sqrt() / 0.05 - 1.0).abs() < 0.05, "deviation {}", square.sqrt());
}
