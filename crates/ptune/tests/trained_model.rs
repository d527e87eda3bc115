//! A model whose weights are trained, and dropout: gradients against differences of the loss, the same bits for any
//! number of threads, and masks that go with an example and not with its batch.

use std::path::Path;

use ptune::checkpoint::ModelDirectory;
use ptune::data::{Encoded, Token, pack};
use ptune::method::{Head, Prompt};
use ptune::model::{Columns, Gradients, Inject, Model};
use ptune::ops::Layout;
use ptune::parameter::{Group, Parameter};
use ptune::prompt::Vocabulary;
use ptune::prompt::encoder::{EncoderKind, EncoderShape, PromptEncoder};
use ptune::rng::{Purpose, Rng};
use ptune::train::config::OptimizerKind;
use ptune::train::{Batch, GroupRecipe, Recipe, Trainer};
use ptune::{Device, Tensor};
use ptune_kernels::{Context, Isa};

#[path = "shared/families.rs"]
mod families;
#[path = "shared/slope.rs"]
mod slope;

use families::FAMILIES;
use slope::{check_slope, moved, unit};

const PROMPT_ROWS: usize = 4;
const HEAD: Head = Head::Vocabulary { candidates: None, restrict_loss: false };
/// How the names of the tensors begin that only a language-model head has.
const HEADS: [&str; 8] = ["cls.", "lm_head", "predictions.", "generator_", "vocab_", "embed_out", "head.", "decoder."];

fn load(family: &str, device: &Device, gradients: Gradients) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family).join("model");
    let directory = ModelDirectory::open(&path).expect("a model directory");
    Model::load(&directory, &[], device, gradients, &mut |_, _| {}).expect("a model")
}

/// Texts of 6 to 30 tokens with pseudo tokens in between.
fn examples() -> Vec<Encoded> {
    let mut rng = Rng::new(11, Purpose::Shuffle(0));
    let example = |i: usize| {
        let length = 6 + (i * 11) % 25;
        let mut tokens: Vec<Token> = (0..length).map(|_| Token::Id(5 + rng.below(60) as u32)).collect();
        (0..PROMPT_ROWS).for_each(|row| tokens[(row * 5 + i) % length] = Token::Pseudo(row as u32));
        Encoded::row(tokens, (i * 7) % length)
    };
    (0..5).map(example).collect()
}

fn prompt(device: &Device, width: usize) -> Tensor {
    let mut rng = Rng::new(5, Purpose::PromptInitialisation);
    let numbers: Vec<f32> = (0..PROMPT_ROWS * width).map(|_| rng.symmetric(0.5)).collect();
    device.upload(PROMPT_ROWS, width, &numbers)
}

fn targets(examples: usize) -> Vec<u32> {
    (0..examples as u32).map(|i| 7 + i).collect()
}

fn loss(device: &Device, model: &Model, columns: &Columns, layout: &Layout, prompt: &Tensor) -> f64 {
    let (logits, _) = model.forward(layout, &Inject { prompt_embeds: Some(prompt), ..Inject::default() }, columns);
    HEAD.loss(device, &logits, &targets(layout.targets.len())).mean
}

/// Writes the gradients of the weights; that of the prompt.
fn backward(device: &Device, model: &mut Model, columns: &Columns, layout: &Layout, prompt: &Tensor) -> Vec<f32> {
    let inject = Inject { prompt_embeds: Some(prompt), ..Inject::default() };
    let (logits, saved) = model.forward(layout, &inject, columns);
    let loss = HEAD.loss(device, &logits, &targets(layout.targets.len()));
    let gradients = model.backward(&loss.d_logits, &saved, layout, &inject, columns);
    gradients.prompt_embeds.expect("a gradient").read().to_vec()
}

/// With a fixed seed dropout is a function like any other, so its gradient is that of the loss: of every weight, and of
/// the prompt, of a trained model and of a frozen one.
#[test]
fn gradients_are_slopes_of_the_loss_with_and_without_dropout() {
    let device = Device::processor(Some(2));
    for (family, dropout) in FAMILIES.into_iter().flat_map(|family| [(family, 0.0), (family, 0.3)]) {
        let layout = pack(&examples()).with_dropout(dropout, 77, &[4, 0, 3, 9, 2]);
        let mut model = load(family, &device, Gradients::Weights);
        let mut columns = model.columns(None, true);
        let prompt = prompt(&device, model.embedding_width());
        let d_prompt = backward(&device, &mut model, &columns, &layout, &prompt);
        let mut frozen = load(family, &device, Gradients::Inputs);
        assert_eq!(backward(&device, &mut frozen, &columns, &layout, &prompt), d_prompt, "{family}, {dropout}: frozen");

        let (norm, direction) = unit(&d_prompt);
        check_slope(&format!("{family}, {dropout}: prompt"), norm, |step| {
            loss(&device, &model, &columns, &layout, &moved(&device, &prompt, &direction, step))
        });
        for i in 0..model.parameters().len() {
            let parameter = &model.parameters()[i];
            let name = format!("{family}, {dropout}: {}", parameter.name);
            let (norm, direction) = unit(parameter.gradient.read());
            let start = moved(&device, &parameter.value, &direction, 0.0);
            check_slope(&name, norm, |step| {
                model.parameters_mut()[i].value = moved(&device, &start, &direction, step);
                model.repack(&mut columns);
                loss(&device, &model, &columns, &layout, &prompt)
            });
            model.parameters_mut()[i].value = start;
            model.repack(&mut columns);
        }
    }
}

#[test]
fn an_example_drops_the_same_numbers_alone_and_in_any_batch() {
    let device = Device::processor(Some(2));
    for family in FAMILIES {
        let model = load(family, &device, Gradients::Inputs);
        let columns = model.columns(None, false);
        let (rows, prompt) = (examples(), prompt(&device, model.embedding_width()));
        let logits = |numbers: &[usize], seed: u64| {
            let batch = pack(numbers.iter().map(|&number| &rows[number])).with_dropout(0.3, seed, numbers);
            let (logits, _) =
                model.forward(&batch, &Inject { prompt_embeds: Some(&prompt), ..Inject::default() }, &columns);
            logits.read().chunks_exact(logits.columns()).map(<[f32]>::to_vec).collect::<Vec<_>>()
        };
        let (batch, other, alone) = (logits(&[0, 1, 2, 3, 4], 1), logits(&[3, 1], 1), logits(&[3], 1));
        assert_eq!(batch[3], alone[0], "{family}");
        assert_eq!([&batch[3], &batch[1]], [&other[0], &other[1]], "{family}");
        // Without these, a dropout that drops nothing would pass.
        assert_ne!(logits(&[3], 2), alone, "{family}: another step");
        let twin = pack([&rows[3]]).with_dropout(0.3, 1, &[8]);
        let (twin, _) = model.forward(&twin, &Inject { prompt_embeds: Some(&prompt), ..Inject::default() }, &columns);
        assert_ne!(twin.read(), alone[0], "{family}: another example with the same text");
    }
}

fn trained(family: &str, device: &Device) -> Vec<f32> {
    let model = load(family, device, Gradients::Weights);
    let mut rng = Rng::new(5, Purpose::PromptInitialisation);
    let shape = EncoderShape::lama(EncoderKind::Lstm);
    let encoder = PromptEncoder::new(device, &shape, PROMPT_ROWS, model.embedding_width(), 1.0, &mut rng);
    let group = |learning_rate| GroupRecipe { learning_rate, weight_decay: 0.1 };
    let kind = OptimizerKind::AdamWHf;
    let recipe = Recipe { kind, clip_norm: 1.0, prompt: group(1e-2), backbone: group(1e-3), head: group(2e-3) };
    // Three columns, so that packing them anew is seen.
    let candidates = Some(Vocabulary::from_tokens(vec![7, 9, 30]));
    let head = Head::Vocabulary { candidates, restrict_loss: true };
    let (mut trainer, mut learners) = Trainer::new(model, vec![(Prompt::from(encoder), &head, recipe)], device);
    let learner = &mut learners[0];
    let mut made = None;
    for step in 0..4 {
        let layout = pack(&examples()).with_dropout(0.1, step, &[0, 1, 2, 3, 4]);
        trainer.step(&mut [&mut *learner], vec![Batch { layout, targets: vec![9, 7, 30, 7, 9], share: 1.0 }], None);
        // In the steady state a step makes no buffers.
        assert_eq!(*made.get_or_insert(device.buffers_made()), device.buffers_made(), "{family}, step {step}");
    }
    learner.parameters(&trainer.model).flat_map(|p| p.value.read().to_vec()).collect()
}

#[test]
fn training_the_weights_gives_the_same_bits_for_any_number_of_threads() {
    for isa in Isa::available() {
        for family in FAMILIES {
            let with = |threads| trained(family, &Device::with_context(Context::new(isa, threads)));
            let one = with(1);
            for threads in 2..=4 {
                assert!(with(threads) == one, "{family}, {} with {threads} threads", isa.name());
            }
        }
    }
}

/// The golden models have no tensors that are not used.
#[test]
fn a_frozen_model_has_no_parameters_and_a_trained_one_has_them_all() {
    let device = Device::processor(Some(2));
    for family in FAMILIES {
        assert!(load(family, &device, Gradients::Inputs).parameters().is_empty());
        let model = load(family, &device, Gradients::Weights);
        let count = model.parameters().iter().map(Parameter::count).sum::<usize>();
        assert_eq!(count, model.count(), "{family}");
        let names = |group| model.trained_tensors(group).iter().map(|t| t.name.to_owned()).collect::<Vec<_>>();
        let in_head = |name: &String| HEADS.iter().any(|head| name.starts_with(head));
        assert!(!names(Group::Backbone).iter().any(in_head), "{family}");
        assert!(names(Group::Head).iter().all(in_head), "{family}");
    }
}
