//! LoRA: the numbers of PEFT, slopes of the loss, the same bits for any number of threads, and a frozen model that stays.

use std::path::{Path, PathBuf};

use ptune::checkpoint::{ModelDirectory, Weights};
use ptune::data::{Encoded, Token, pack};
use ptune::method::{Head, Prompt, Trained};
use ptune::model::{Additions, Columns, Gradients, Inject, Lora, Model, Projection};
use ptune::ops::Layout;
use ptune::parameter::Group;
use ptune::rng::{Purpose, Rng};
use ptune::tensor::Precision;
use ptune::train::config::OptimizerKind;
use ptune::train::{Batch, GroupRecipe, Recipe, Trainer};
use ptune::{Device, Tensor};
use ptune_kernels::{Context, Isa};
use serde_json::Value;

#[path = "shared/slope.rs"]
mod slope;

use slope::{check_slope, moved, unit};

const HEAD: Head = Head::Vocabulary { candidates: None, restrict_loss: false };
/// Golden cases with models of every kind: norms behind and in front, shared layers, fused and gated ones, turned and
/// normed heads.
const FAMILIES: [&str; 8] = [
    "lstm_uneven",
    "roberta_lstm",
    "gpt2_lstm",
    "albert_lstm",
    "llama_mlp",
    "neox_mlp",
    "qwen3_embedding",
    "modernbert_mlp",
];
/// As in `golden.rs`.
const LIMIT: f64 = 1e-4;

fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
}

fn load(model: &str, device: &Device) -> Model {
    let directory = ModelDirectory::open(&golden(model).join("model")).expect("a model directory");
    Model::load(&directory, &[], device, Gradients::Inputs, &mut |_, _| {}).expect("a model")
}

/// LoRA on every projection, with a B that is not zero.
fn with_lora(model: &str, device: &Device) -> (Model, Additions) {
    let model = load(model, device);
    let mut rng = Rng::new(3, Purpose::LoraInitialisation);
    let lora = Lora { rank: 3, alpha: 5.0, rslora: false, targets: Projection::ALL.to_vec() };
    let mut additions = Additions::new(&model, &lora, &mut rng);
    for parameter in additions.parameters_mut() {
        let numbers: Vec<f32> = (0..parameter.count()).map(|_| rng.symmetric(0.4)).collect();
        parameter.value = device.upload(parameter.value.rows(), parameter.value.columns(), &numbers);
    }
    additions.repack();
    (model, additions)
}

/// Texts of 6 to 30 tokens with `pseudo` pseudo tokens in between.
fn examples(pseudo: usize) -> Vec<Encoded> {
    let mut rng = Rng::new(11, Purpose::Shuffle(0));
    let example = |i: usize| {
        let length = 6 + (i * 11) % 25;
        let mut tokens: Vec<Token> = (0..length).map(|_| Token::Id(5 + rng.below(60) as u32)).collect();
        (0..pseudo).for_each(|row| tokens[(row * 5 + i) % length] = Token::Pseudo(row as u32));
        Encoded::row(tokens, (i * 7) % length)
    };
    (0..5).map(example).collect()
}

fn prompt(device: &Device, rows: usize, width: usize) -> Option<Tensor> {
    let mut rng = Rng::new(5, Purpose::PromptInitialisation);
    let numbers: Vec<f32> = (0..rows * width).map(|_| rng.symmetric(0.5)).collect();
    (rows > 0).then(|| device.upload(rows, width, &numbers))
}

fn targets(layout: &Layout) -> Vec<u32> {
    (0..layout.targets.len() as u32).map(|i| 7 + i).collect()
}

fn inject<'a>(prompt: Option<&'a Tensor>, additions: &'a Additions) -> Inject<'a> {
    Inject { prompt_embeds: prompt, ..Inject::default() }.with_lora(Some(additions))
}

fn loss(device: &Device, model: &Model, columns: &Columns, layout: &Layout, inject: &Inject<'_>) -> f64 {
    HEAD.loss(device, &model.logits(layout, inject, columns), &targets(layout)).mean
}

/// The gradient of the prompt and those of the additions.
fn backward(
    device: &Device,
    model: &mut Model,
    columns: &Columns,
    layout: &Layout,
    inject: &Inject<'_>,
) -> (Vec<f32>, Vec<Vec<f32>>) {
    let (logits, saved) = model.forward(layout, inject, columns);
    let loss = HEAD.loss(device, &logits, &targets(layout));
    let gradients = model.backward(&loss.d_logits, &saved, layout, inject, columns);
    let prompt = gradients.prompt_embeds.map_or(Vec::new(), |d| d.read().to_vec());
    (prompt, gradients.lora.iter().flatten().map(|d| d.read().to_vec()).collect())
}

/// With pseudo tokens and without, where nothing below the first block is wanted.
#[test]
fn gradients_are_slopes_of_the_loss_with_and_without_prompt_and_dropout() {
    let device = Device::processor(Some(2));
    for (family, (pseudo, dropout)) in FAMILIES.into_iter().flat_map(|f| [(f, (0, 0.0)), (f, (4, 0.0)), (f, (4, 0.3))])
    {
        let layout = pack(&examples(pseudo)).with_dropout(dropout, 77, &[4, 0, 3, 9, 2]);
        let (mut model, mut additions) = with_lora(family, &device);
        let columns = model.columns(None, true);
        let prompt = prompt(&device, pseudo, model.embedding_width());
        let (d_prompt, gradients) =
            backward(&device, &mut model, &columns, &layout, &inject(prompt.as_ref(), &additions));
        if let Some(prompt) = &prompt {
            let (norm, direction) = unit(&d_prompt);
            check_slope(&format!("{family}, {dropout}: prompt"), norm, |step| {
                let prompt = moved(&device, prompt, &direction, step);
                loss(&device, &model, &columns, &layout, &inject(Some(&prompt), &additions))
            });
        }
        assert_eq!(gradients.len(), additions.parameters().len());
        for (i, gradient) in gradients.iter().enumerate() {
            let parameter = &additions.parameters()[i];
            let name = format!("{family}, {pseudo} pseudo tokens, {dropout}: {}", parameter.name);
            let (norm, direction) = unit(gradient);
            assert!(norm > 0.0, "{name}: no gradient");
            let start = moved(&device, &parameter.value, &direction, 0.0);
            check_slope(&name, norm, |step| {
                additions.parameters_mut()[i].value = moved(&device, &start, &direction, step);
                additions.repack();
                loss(&device, &model, &columns, &layout, &inject(prompt.as_ref(), &additions))
            });
            additions.parameters_mut()[i].value = start;
            additions.repack();
        }
    }
}

/// B is zero at first. So is what is added, and the model's own numbers never move.
#[test]
fn a_new_addition_changes_no_bit_and_a_trained_one_leaves_the_model_as_it_was() {
    for precision in [Precision::F32, Precision::Bf16] {
        let device = Device::processor(Some(2)).with_precision(precision);
        for family in FAMILIES {
            let layout = pack(&examples(0));
            let logits = |model: &Model, additions: Option<&Additions>| {
                let inject = Inject::default().with_lora(additions);
                model.logits(&layout, &inject, &model.columns(None, false)).read().to_vec()
            };
            let model = load(family, &device);
            let (before, digest) = (logits(&model, None), model.frozen_digest());
            let lora = Lora { rank: 4, alpha: 8.0, rslora: true, targets: vec![Projection::Value, Projection::Down] };
            let additions = Additions::new(&model, &lora, &mut Rng::new(1, Purpose::LoraInitialisation));
            assert_eq!(logits(&model, Some(&additions)), before, "{family}");
            let a = &additions.parameters()[0];
            let bound = 1.0 / (a.value.columns() as f32).sqrt();
            let largest = a.value.read().iter().fold(0.0_f32, |m, x| m.max(x.abs()));
            assert!(largest <= bound && largest > 0.8 * bound, "{family}: {largest} of {bound}");
            let (model, additions) = train(model, additions, &device);
            assert_ne!(logits(&model, Some(&additions)), before, "{family}");
            assert_eq!((logits(&model, None), model.frozen_digest()), (before, digest), "{family}: the model changed");
        }
    }
}

/// Five steps without a prompt.
fn train(model: Model, additions: Additions, device: &Device) -> (Model, Additions) {
    let group = GroupRecipe { learning_rate: 1e-2, weight_decay: 0.1 };
    let recipe = Recipe { kind: OptimizerKind::AdamW, clip_norm: 1.0, prompt: group, backbone: group, head: group };
    let (mut trainer, mut learners) = Trainer::new(model, vec![(trained(additions), &HEAD, recipe)], device);
    for _ in 0..5 {
        let layout = pack(&examples(0));
        let batch = Batch { targets: targets(&layout), layout, share: 1.0 };
        trainer.step(&mut [&mut learners[0]], vec![batch], None);
    }
    (trainer.model, learners.remove(0).additions.expect("additions"))
}

/// Additions alone.
fn trained(additions: Additions) -> Trained {
    Trained { additions: Some(additions), ..Prompt::manual().into() }
}

#[test]
fn training_has_the_same_bits_for_any_number_of_threads() {
    for precision in [Precision::F32, Precision::Bf16] {
        for isa in Isa::available() {
            for family in FAMILIES {
                let trained = |threads| {
                    let device = Device::with_context(Context::new(isa, threads)).with_precision(precision);
                    let (model, additions) = with_lora(family, &device);
                    let (_, additions) = train(model, additions, &device);
                    additions.parameters().iter().flat_map(|p| p.value.read().to_vec()).collect::<Vec<f32>>()
                };
                let one = trained(1);
                for threads in 2..=4 {
                    assert_eq!(trained(threads), one, "{family}, {} with {threads} threads", isa.name());
                }
            }
        }
    }
}

/// Over rounded weights the gradients are those of f32 but for rounding.
#[test]
fn gradients_over_bf16_are_close_to_those_over_f32() {
    let layout = pack(&examples(4));
    for family in FAMILIES {
        let [exact, rounded] = [Precision::F32, Precision::Bf16].map(|precision| {
            let device = Device::processor(Some(2)).with_precision(precision);
            let (mut model, additions) = with_lora(family, &device);
            let (columns, prompt) = (model.columns(None, true), prompt(&device, 4, model.embedding_width()));
            backward(&device, &mut model, &columns, &layout, &inject(prompt.as_ref(), &additions)).1.concat()
        });
        let length = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let off = length(&mut exact.iter().zip(&rounded).map(|(a, b)| a - b));
        let share = off / length(&mut exact.iter().copied());
        assert!(share > 0.0 && share < 0.03, "{family}: off by {share}");
    }
}

/// A case of `reference/lora.py`.
struct Case {
    about: Value,
    weights: Weights,
    model: Model,
    additions: Additions,
    layout: Layout,
    gold: Vec<u32>,
}

impl Case {
    fn read(name: &str, device: &Device) -> Case {
        let directory = golden(name);
        let text = std::fs::read_to_string(directory.join("case.json")).expect("case.json");
        let about: Value = serde_json::from_str(&text).expect("JSON");
        let weights = Weights::open_file(&directory.join("golden.safetensors")).expect("golden numbers");
        let whole = |key: &str| -> Vec<u32> { serde_json::from_value(about[key].clone()).expect("a list") };
        let ids: Vec<Vec<u32>> = serde_json::from_value(about["ids"].clone()).expect("ids");
        let rows = ids.into_iter().zip(whole("answers"));
        let rows: Vec<Encoded> =
            rows.map(|(ids, at)| Encoded::row(ids.into_iter().map(Token::Id).collect(), at as usize)).collect();
        let lora = Lora {
            rank: about["rank"].as_u64().expect("a rank") as usize,
            alpha: about["alpha"].as_f64().expect("alpha"),
            rslora: about["rslora"].as_bool().expect("rslora"),
            targets: serde_json::from_value(about["targets"].clone()).expect("targets"),
        };
        let model = load(about["model"].as_str().expect("a model"), device);
        let additions = Additions::load(&model, &lora, &weights).expect("the matrices of PEFT");
        Case { gold: whole("gold"), layout: pack(&rows), weights, model, additions, about }
    }

    fn tensor(&self, name: &str) -> Vec<f32> {
        let shape = self.weights.shape(name).unwrap_or_else(|| panic!("no {name}")).to_vec();
        let mut numbers = Vec::new();
        self.weights.read_into(name, &shape, &mut numbers).expect(name);
        numbers
    }
}

fn assert_close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(0.0_f64, |m, x| m.max(f64::from(*x).abs()));
    let worst = got.iter().zip(want).fold(0.0_f64, |m, (a, b)| m.max((f64::from(*a) - f64::from(*b)).abs()));
    assert!(worst <= LIMIT * scale, "{what}: max difference {worst:e} of {scale:e}");
}

#[test]
fn logits_gradients_and_losses_are_those_of_peft() {
    let device = Device::processor(Some(2));
    for name in ["lora_bert", "lora_gpt2", "lora_gpt2_fused"] {
        let mut case = Case::read(name, &device);
        let columns = case.model.columns(None, true);
        let inject = Inject::default().with_lora(Some(&case.additions));
        let (logits, saved) = case.model.forward(&case.layout, &inject, &columns);
        assert_close(&format!("{name}: logits"), logits.read(), &case.tensor("logits"));
        let loss = HEAD.loss(&device, &logits, &case.gold);
        let gradients = case.model.backward(&loss.d_logits, &saved, &case.layout, &inject, &columns).lora.remove(0);
        // The parts of a tensor that PEFT gives one A: their gradients of it add up to PEFT's.
        let mut sums: Vec<(String, Vec<f32>)> = Vec::new();
        for (parameter, gradient) in case.additions.parameters().iter().zip(&gradients) {
            let got = gradient.read();
            let part = ["query", "key", "value"].iter().find(|part| parameter.name.contains(&format!("c_attn.{part}")));
            let Some(part) = part.filter(|_| parameter.name.contains("lora_A")) else {
                let want = format!("grad.{}", parameter.name);
                assert_close(&format!("{name}: {want}"), got, &case.tensor(&want));
                continue;
            };
            let shared = parameter.name.replace(&format!(".{part}."), ".");
            match sums.iter_mut().find(|(name, _)| *name == shared) {
                Some((_, sum)) => sum.iter_mut().zip(got).for_each(|(sum, d)| *sum += d),
                None => sums.push((shared, got.to_vec())),
            }
        }
        for (shared, sum) in sums {
            assert_close(&format!("{name}: {shared}"), &sum, &case.tensor(&format!("grad.{shared}")));
        }
        drop(inject);
        check_losses(name, case, &device);
    }
}

fn check_losses(name: &str, case: Case, device: &Device) {
    let about = case.about;
    let number = |key: &str| about[key].as_f64().expect("a number");
    let group = GroupRecipe { learning_rate: number("learning_rate"), weight_decay: number("weight_decay") };
    let recipe = Recipe { kind: OptimizerKind::AdamW, clip_norm: 0.0, prompt: group, backbone: group, head: group };
    let (mut trainer, mut learners) = Trainer::new(case.model, vec![(trained(case.additions), &HEAD, recipe)], device);
    for (step, want) in about["losses"].as_array().expect("losses").iter().enumerate() {
        let want = want.as_f64().expect("a loss");
        let batch = Batch { layout: case.layout.clone(), targets: case.gold.clone(), share: 1.0 };
        let loss = trainer.step(&mut [&mut learners[0]], vec![batch], None)[0];
        assert!((loss - want).abs() <= LIMIT * want, "{name}: loss of step {step}: {loss}, PEFT {want}");
    }
    assert!(trainer.model.trained_tensors(Group::Head).is_empty());
}
