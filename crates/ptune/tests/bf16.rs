//! bf16 on a whole model: the gradient that trains a prompt stays close to that of f32, also where two channels are 300
//! times as large as the others; the same bits for any number of threads and for a row alone.
//!
//! `reference/bf16_gradient.py` holds the same gates against PyTorch, with any model.

use std::path::{Path, PathBuf};

use ptune::Device;
use ptune::checkpoint::ModelDirectory;
use ptune::data::{Encoded, Token, pack};
use ptune::method::Head;
use ptune::model::{Gradients, Inject, Model};
use ptune::rng::{Purpose, Rng};
use ptune::tensor::Precision;
use ptune_kernels::{Context, Isa};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

#[path = "shared/families.rs"]
mod families;

use families::FAMILIES;

const PROMPT_ROWS: u32 = 9;
const OUTLIERS: [usize; 2] = [7, 42];
const FACTOR: f32 = 300.0;
/// The gates of a trained model.
const ERROR: f64 = 0.02;
const COSINE: f64 = 5e-4;
/// Entries of the small model's word table that are used.
const TINY_WORDS: u32 = 695;

fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tiny-mlm")
}

/// The gates of small models with random weights; wider, for a width of 16 averages less.
const SMALL_ERROR: f64 = 0.06;
const SMALL_COSINE: f64 = 2e-3;

/// Eight rows of 12 to 40 tokens, pseudo tokens in front, and before and behind the answer; ids below `words`.
fn examples(words: u32) -> Vec<Encoded> {
    let mut rng = Rng::new(11, Purpose::Shuffle(0));
    let example = |i: usize| {
        let length = 12 + 4 * i;
        let answer = 4 + (i * 7) % (length - 8);
        let mut tokens: Vec<Token> = (0..length).map(|_| Token::Id(5 + rng.below(words as usize - 5) as u32)).collect();
        tokens[answer] = Token::Id(4);
        let places = (0..3).chain(answer - 1..answer).chain(answer + 1..answer + 3);
        for (row, place) in places.enumerate() {
            tokens[place] = Token::Pseudo((row + i) as u32 % PROMPT_ROWS);
        }
        Encoded::row(tokens, answer)
    };
    (0..8).map(example).collect()
}

/// The logits of all tokens, and the gradient of a prompt of word embeddings.
fn forward_backward(model: &Path, device: &Device, rows: &[Encoded]) -> (Vec<f32>, Vec<f32>) {
    let directory = ModelDirectory::open(model).expect("a model directory");
    let mut model = Model::load(&directory, &[], device, Gradients::Inputs, &mut |_, _| {}).expect("a model");
    let (width, table) = (model.embedding_width(), model.word_table().read());
    let prompt: Vec<f32> =
        (0..PROMPT_ROWS as usize).flat_map(|k| table[(5 + 9 * k) * width..][..width].to_vec()).collect();
    let prompt = device.upload(PROMPT_ROWS as usize, width, &prompt);
    let (layout, columns, inject) =
        (pack(rows), model.columns(None, true), Inject { prompt_embeds: Some(&prompt), ..Inject::default() });
    let (logits, saved) = model.forward(&layout, &inject, &columns);
    let targets: Vec<u32> = (0..rows.len() as u32).map(|i| 10 + 9 * i).collect();
    let loss = Head::Vocabulary { candidates: None, restrict_loss: false }.loss(device, &logits, &targets);
    let gradients = model.backward(&loss.d_logits, &saved, &layout, &inject, &columns);
    (logits.read().to_vec(), gradients.prompt_embeds.expect("a gradient").read().to_vec())
}

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

/// The gates: the relative error of the gradient and one minus its cosine.
fn assert_gates(what: &str, model: &Path, rows: &[Encoded], (most, least): (f64, f64)) {
    for isa in Isa::available() {
        let device = Device::with_context(Context::new(isa, 2));
        let (_, want) = forward_backward(model, &device, rows);
        let (_, got) = forward_backward(model, &device.with_precision(Precision::Bf16), rows);
        let pairs = || got.iter().zip(&want).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let (a, b) = (norm(pairs().map(|(a, _)| a)), norm(pairs().map(|(_, b)| b)));
        let error = norm(pairs().map(|(a, b)| a - b)) / b;
        let cosine = pairs().map(|(a, b)| a * b).sum::<f64>() / (a * b);
        assert!(error > 1e-5, "{what}, {}: nothing was rounded to bf16", isa.name());
        assert!(error <= most, "{what}, {}: relative error {error}", isa.name());
        assert!(1.0 - cosine <= least, "{what}, {}: 1 - cosine {}", isa.name(), 1.0 - cosine);
    }
}

/// A copy of the model in `to` that computes the same with two channels [`FACTOR`] times as large: between values and
/// attention output in every block, and between the last norm and the head.
fn with_outliers(to: &Path) {
    for name in ["config.json", "vocab.txt", "tokenizer_config.json"] {
        std::fs::copy(tiny_model().join(name), to.join(name)).expect("a copy");
    }
    let bytes = std::fs::read(tiny_model().join("model.safetensors")).expect("a checkpoint");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        assert_eq!(view.dtype(), Dtype::F16);
        let mut values: Vec<f32> =
            view.data().as_chunks().0.iter().map(|two| half::f16::from_le_bytes(*two).to_f32()).collect();
        let columns = *view.shape().last().expect("a shape");
        if name.contains("self.value.") || name.contains("layer.2.output.LayerNorm") {
            let row = if view.shape().len() == 1 { 1 } else { columns };
            for channel in OUTLIERS {
                values[channel * row..(channel + 1) * row].iter_mut().for_each(|x| *x *= FACTOR);
            }
        }
        if name.ends_with("attention.output.dense.weight") || name.ends_with("transform.dense.weight") {
            values
                .iter_mut()
                .enumerate()
                .filter(|(i, _)| OUTLIERS.contains(&(i % columns)))
                .for_each(|(_, x)| *x /= FACTOR);
        }
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensors.push((name.to_owned(), view.shape().to_vec(), bytes));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor"))
    });
    std::fs::write(to.join("model.safetensors"), safetensors::serialize(views, None).expect("bytes")).expect("a file");
}

#[test]
fn the_gradient_in_bf16_is_that_of_f32_within_the_gates() {
    assert_gates("tiny-mlm", &tiny_model(), &examples(TINY_WORDS), (ERROR, COSINE));
}

#[test]
fn models_of_every_family_compute_in_bf16() {
    for family in FAMILIES {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family).join("model");
        let rows = examples(84);
        assert_gates(family, &model, &rows, (SMALL_ERROR, SMALL_COSINE));
        for isa in Isa::available() {
            let device = |threads| Device::with_context(Context::new(isa, threads)).with_precision(Precision::Bf16);
            let one = forward_backward(&model, &device(1), &rows);
            assert!(one == forward_backward(&model, &device(3), &rows), "{family}, {}: threads", isa.name());
        }
    }
}

#[test]
fn two_channels_three_hundred_times_as_large_do_no_harm() {
    let directory = tempfile::tempdir().expect("a directory");
    with_outliers(directory.path());
    let device = Device::with_context(Context::new(Isa::detect(), 2));
    let (plain, same) = (tiny_model(), directory.path());
    let rows = examples(TINY_WORDS);
    let [plain, same] = [plain.as_path(), same].map(|model| forward_backward(model, &device, &rows).0);
    assert!(plain.iter().zip(&same).all(|(a, b)| (a - b).abs() < 1e-3), "the copy computes something else");
    assert_gates("with outliers", directory.path(), &rows, (ERROR, COSINE));
}

#[test]
fn bits_depend_neither_on_threads_nor_on_neighbours() {
    let rows = examples(TINY_WORDS);
    for isa in Isa::available() {
        let device = |threads| Device::with_context(Context::new(isa, threads)).with_precision(Precision::Bf16);
        let bits = |(logits, gradient): (Vec<f32>, Vec<f32>)| -> Vec<u32> {
            logits.iter().chain(&gradient).map(|x| x.to_bits()).collect()
        };
        let all = bits(forward_backward(&tiny_model(), &device(1), &rows));
        assert_eq!(all, bits(forward_backward(&tiny_model(), &device(3), &rows)), "{}: threads", isa.name());
        let alone = forward_backward(&tiny_model(), &device(2), &rows[..1]).0;
        let alone: Vec<u32> = alone.iter().map(|x| x.to_bits()).collect();
        assert_eq!(alone, all[..alone.len()], "{}: the first row alone", isa.name());
    }
}
