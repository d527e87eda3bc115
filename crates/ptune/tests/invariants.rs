//! Invariants 6 and 7 of ARCHITECTURE.md on a whole model of each family: the same bits for any number of threads, and for
//! a row alone or among others; instruction sets agree up to rounding; a causal row sees nothing behind it.

use std::path::{Path, PathBuf};

use ptune::checkpoint::ModelDirectory;
use ptune::data::{Encoded, Token, pack};
use ptune::method::{Head, Prompt};
use ptune::model::{Gradients, Inject, Model};
use ptune::prompt::encoder::{EncoderKind, EncoderShape, PromptEncoder};
use ptune::rng::{Purpose, Rng};
use ptune::train::config::OptimizerKind;
use ptune::train::{Batch, GroupRecipe, Recipe, Trainer};
use ptune::{Device, Tensor};
use ptune_kernels::{Context, Isa};

#[path = "shared/families.rs"]
mod families;

use families::FAMILIES;

const PROMPT_ROWS: u32 = 6;

fn model_directory(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case).join("model")
}

fn load(case: &str, device: &Device) -> Model {
    let directory = ModelDirectory::open(&model_directory(case)).expect("a model directory");
    Model::load(&directory, &[], device, Gradients::Inputs, &mut |_, _| {}).expect("a model")
}

/// Texts of 3 to 40 tokens with pseudo tokens at places that differ from row to row.
fn examples() -> Vec<Encoded> {
    let mut rng = Rng::new(11, Purpose::Shuffle(0));
    let example = |i: usize| {
        let length = 3 + (i * 13) % 38;
        let mut tokens: Vec<Token> = (0..length).map(|_| Token::Id(5 + rng.below(80) as u32)).collect();
        for row in 0..PROMPT_ROWS.min(length as u32 - 2) {
            tokens[(row as usize * 5 + i) % length] = Token::Pseudo(row);
        }
        let answer = (i * 7) % tokens.len();
        Encoded::row(tokens, answer)
    };
    (0..9).map(example).collect()
}

fn prompt(device: &Device, model: &Model) -> Tensor {
    let mut rng = Rng::new(5, Purpose::PromptInitialisation);
    let width = model.embedding_width();
    let encoder =
        PromptEncoder::new(device, &EncoderShape::lama(EncoderKind::Mlp), PROMPT_ROWS as usize, width, 1.0, &mut rng);
    encoder.forward(device).0
}

/// Logits of the whole vocabulary and the prompt's gradient.
fn forward_backward(device: &Device, model: &mut Model, rows: &[Encoded]) -> (Vec<f32>, Vec<f32>) {
    let prompt = prompt(device, model);
    let layout = pack(rows);
    let inject = Inject { prompt_embeds: Some(&prompt), ..Inject::default() };
    let columns = model.columns(None, true);
    let (logits, saved) = model.forward(&layout, &inject, &columns);
    let head = Head::Vocabulary { candidates: None, restrict_loss: false };
    let targets: Vec<u32> = (0..rows.len() as u32).map(|i| 7 + i).collect();
    let loss = head.loss(device, &logits, &targets);
    let gradients = model.backward(&loss.d_logits, &saved, &layout, &inject, &columns);
    (logits.read().to_vec(), gradients.prompt_embeds.expect("a gradient").read().to_vec())
}

fn device(isa: Isa, threads: usize) -> Device {
    Device::with_context(Context::new(isa, threads))
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others() {
    for isa in Isa::available() {
        let device = device(isa, 2);
        for family in FAMILIES {
            let mut model = load(family, &device);
            let rows = examples();
            let (together, _) = forward_backward(&device, &mut model, &rows);
            let columns = together.len() / rows.len();
            for (i, row) in rows.iter().enumerate() {
                let (alone, _) = forward_backward(&device, &mut model, std::slice::from_ref(row));
                assert_eq!(alone, together[i * columns..(i + 1) * columns], "{family}, {}: example {i}", isa.name());
            }
        }
    }
}

fn recipe() -> Recipe {
    let group = GroupRecipe { learning_rate: 0.01, weight_decay: 0.01 };
    Recipe { kind: OptimizerKind::AdamW, clip_norm: 1.0, prompt: group, backbone: group, head: group }
}

#[test]
fn only_a_causal_row_is_blind_to_what_stands_behind_it() {
    let device = Device::processor(Some(2));
    for family in FAMILIES {
        let mut model = load(family, &device);
        let mut rows = examples();
        for row in &mut rows {
            row.answers[0] = row.answers[0].min(row.tokens.len() - 2);
        }
        let (first, _) = forward_backward(&device, &mut model, &rows);
        for row in &mut rows {
            for token in &mut row.tokens[row.answers[0] + 1..] {
                *token = Token::Id(84);
            }
        }
        let (second, _) = forward_backward(&device, &mut model, &rows);
        assert_eq!(first == second, model.spec().causal, "{family}");
    }
}

/// Five steps of training: encoder, model, loss, clipping and optimiser.
fn trained(family: &str, device: &Device) -> Vec<f32> {
    let model = load(family, device);
    let head = Head::Vocabulary { candidates: None, restrict_loss: false };
    let mut rng = Rng::new(5, Purpose::PromptInitialisation);
    let (rows, width) = (PROMPT_ROWS as usize, model.embedding_width());
    let encoder = PromptEncoder::new(device, &EncoderShape::lama(EncoderKind::Lstm), rows, width, 1.0, &mut rng);
    let (mut trainer, mut learners) = Trainer::new(model, vec![(Prompt::from(encoder), &head, recipe())], device);
    let learner = &mut learners[0];
    for _ in 0..5 {
        let batch = Batch { layout: pack(&examples()), targets: (7..16).collect(), share: 1.0 };
        trainer.step(&mut [&mut *learner], vec![batch], None);
    }
    learner.prompt.parameters().flat_map(|p| p.value.read().to_vec()).collect()
}

#[test]
fn training_has_the_same_bits_for_any_number_of_threads() {
    for isa in Isa::available() {
        for family in FAMILIES {
            let one = trained(family, &device(isa, 1));
            for threads in 2..=4 {
                let more = trained(family, &device(isa, threads));
                assert_eq!(more, one, "{family}, {} with {threads} threads", isa.name());
            }
        }
    }
}

#[test]
fn instruction_sets_agree_up_to_rounding() {
    for family in FAMILIES {
        let results: Vec<_> = Isa::available()
            .into_iter()
            .map(|isa| {
                let device = device(isa, 2);
                let mut model = load(family, &device);
                (isa.name(), forward_backward(&device, &mut model, &examples()))
            })
            .collect();
        let (_, (logits, gradient)) = &results[results.len() - 1];
        for (name, (other_logits, other_gradient)) in &results {
            for (a, b) in [(other_logits, logits), (other_gradient, gradient)] {
                let scale = b.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
                let worst = a.iter().zip(b).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
                assert!(worst <= 2e-5 * scale, "{family}, {name}: {worst:e} of {scale:e}");
            }
        }
    }
}
