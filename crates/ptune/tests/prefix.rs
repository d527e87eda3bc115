//! Prefix tuning: trained keys and values in every block, beside what PyTorch makes of them (PEFT itself for the causal
//! model; `reference/prefix.py` wrote the numbers), and the invariants that hold for every prompt.

use std::path::Path;

use ptune::checkpoint::{ModelDirectory, Tokenizer};
use ptune::data::{Encoded, Token, pack};
use ptune::generate::{Writer, Writing};
use ptune::method::{Head, Injection, Prompt};
use ptune::model::{Gradients, Inject, Model, ModelSaved};
use ptune::ops::Layout;
use ptune::parameter::Group;
use ptune::predict::Predictor;
use ptune::prompt::encoder::{EncoderKind, EncoderShape, PrefixShape, PromptEncoder};
use ptune::prompt::initial::PrefixInit;
use ptune::rng::{Purpose, Rng};
use ptune::tensor::Precision;
use ptune::train::config::OptimizerKind;
use ptune::train::{self, Batch, GroupRecipe, Recipe, RunConfig, Summary, Trainer};
use ptune::{Device, Tensor};
use ptune_kernels::{Context, Isa};
use safetensors::SafeTensors;
use serde_json::Value;

const LIMIT: f64 = 1e-4;
const EVERY_TOKEN: Head = Head::Vocabulary { candidates: None, restrict_loss: false };

fn golden() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn load(case: &str, device: &Device, gradients: Gradients) -> Model {
    let directory = ModelDirectory::open(&golden().join(case).join("model")).expect("a model directory");
    Model::load(&directory, &[], device, gradients, &mut |_, _| {}).expect("a model")
}

fn device(isa: Isa, threads: usize) -> Device {
    Device::with_context(Context::new(isa, threads))
}

fn assert_close(what: &str, got: &[f32], want: &[f32], limit: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(0.0_f64, |m, x| m.max(f64::from(*x).abs()));
    let worst = got.iter().zip(want).fold(0.0_f64, |m, (a, b)| m.max((f64::from(*a) - f64::from(*b)).abs()));
    assert!(worst <= limit * scale, "{what}: max difference {worst:e} of {scale:e} ({:e})", worst / scale);
}

fn prefix(model: &Model, device: &Device, rows: usize, hidden: Option<usize>, seed: u64) -> PromptEncoder {
    let attention = &model.spec().blocks[0].attention;
    let projected = hidden.map(|hidden| (attention.kv_heads * attention.head_dim, hidden));
    let shape = PrefixShape { rows, width: model.spec().past_width(), projected };
    PromptEncoder::prefix(device, &shape, PrefixInit::Random, &mut Rng::new(seed, Purpose::PromptInitialisation))
}

fn recipe(rate: f64) -> Recipe {
    let group = GroupRecipe { learning_rate: rate, weight_decay: 0.0 };
    Recipe { kind: OptimizerKind::AdamW, clip_norm: 0.0, prompt: group, backbone: group, head: group }
}

/// Five steps of PyTorch: the prefix, logits, every gradient, losses.
fn check(name: &str) {
    let directory = golden().join("prefix");
    let json = std::fs::read_to_string(directory.join(format!("{name}.json"))).expect("a case");
    let case: Value = serde_json::from_str(&json).expect("valid JSON");
    let bytes = std::fs::read(directory.join(format!("{name}.safetensors"))).expect("tensors");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensor = |name: &str| -> Vec<f32> {
        let view = file.tensor(name).unwrap_or_else(|_| panic!("golden tensor {name}"));
        view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let numbers = |list: &Value| -> Vec<f64> { list.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect() };
    let tokens = |list: &Value| -> Vec<Token> { numbers(list).into_iter().map(|id| Token::Id(id as u32)).collect() };
    let rows: Vec<Encoded> = case["ids"]
        .as_array()
        .unwrap()
        .iter()
        .zip(numbers(&case["answers"]))
        .map(|(ids, answer)| Encoded::row(tokens(ids), answer as usize))
        .collect();
    let targets: Vec<u32> = numbers(&case["targets"]).into_iter().map(|id| id as u32).collect();

    let device = Device::processor(Some(2));
    let norms = case["gradient_norms"].as_object();
    let gradients = if norms.is_some() { Gradients::Weights } else { Gradients::Inputs };
    let model = load(case["model"].as_str().unwrap(), &device, gradients);
    let count = case["rows"].as_u64().unwrap() as usize;
    let hidden = case["hidden"].as_u64().map(|hidden| hidden as usize);
    let mut encoder = prefix(&model, &device, count, hidden, 0);
    let python = |ours: &str| ours.strip_prefix("prefix.").expect("a prefix's parameter").to_owned();
    for parameter in encoder.parameters_mut() {
        let value = tensor(&format!("encoder.{}", python(&parameter.name)));
        parameter.value = device.upload(parameter.value.rows(), parameter.value.columns(), &value);
    }
    assert_close("prefix", encoder.forward(&device).0.read(), &tensor("prefix"), LIMIT);

    let prompt = Prompt { rows: None, prefix: Some(encoder) };
    let everything = model.columns(None, false);
    let injection = prompt.forward(&device, &model);
    let layout = pack(&rows).behind(count);
    let logits = model.logits(&layout, &injection.inject(), &everything);
    assert_close("logits", logits.read(), &tensor("logits"), LIMIT);

    let (mut trainer, mut learners) = Trainer::new(model, vec![(prompt, &EVERY_TOKEN, recipe(5e-3))], &device);
    let learner = &mut learners[0];
    for (step, want) in numbers(&case["losses"]).into_iter().enumerate() {
        let batch = Batch { layout: layout.clone(), targets: targets.clone(), share: 1.0 };
        let loss = trainer.step(&mut [&mut *learner], vec![batch], None)[0];
        assert!((loss - want).abs() <= LIMIT * want.abs(), "{name}: loss of step {step}: {loss}, PyTorch {want}");
        if step > 0 {
            continue;
        }
        for parameter in learner.prompt.parameters() {
            let want = tensor(&format!("encoder_grad.{}", python(&parameter.name)));
            assert_close(&format!("{name}: gradient of {}", parameter.name), parameter.gradient.read(), &want, LIMIT);
        }
        let Some(norms) = norms else { continue };
        let mut checked = 0;
        for tensor in [Group::Backbone, Group::Head].into_iter().flat_map(|group| trainer.model.trained_tensors(group))
        {
            let ours = tensor.name.to_owned();
            // The head of GPT-NeoX has another name in files.
            let ours = ours.replace("embed_out", "lm_head");
            let found = norms.iter().find(|(theirs, _)| theirs.ends_with(&ours));
            let want = found.unwrap_or_else(|| panic!("{name}: no gradient of {ours}")).1.as_f64().unwrap();
            let mut values = Vec::new();
            tensor.read_gradient_into(&mut values);
            let norm = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            // The gradient of a key's bias is nothing but rounding where nothing but keys of the text are seen.
            assert!(
                (norm - want).abs() <= LIMIT * want.max(1e-3),
                "{name}: gradient of {ours}: {norm}, PyTorch {want}"
            );
            checked += 1;
        }
        assert_eq!(checked, norms.len(), "{name}: tensors with a gradient");
    }
}

#[test]
fn bert_plain() {
    check("bert_plain");
}

#[test]
fn bert_projected() {
    check("bert_projected");
}

#[test]
fn bert_trained_too() {
    check("bert_full");
}

#[test]
fn roberta_plain() {
    check("roberta_plain");
}

#[test]
fn gpt2_plain() {
    check("gpt2_plain");
}

#[test]
fn gpt2_projected() {
    check("gpt2_projected");
}

#[test]
fn gpt2_trained_too() {
    check("gpt2_full");
}

// With windows, rows beyond them do not see the prefix.

#[test]
fn mistral_plain() {
    check("mistral_plain");
}

#[test]
fn qwen2_projected() {
    check("qwen2_projected");
}

#[test]
fn qwen3_plain() {
    check("qwen3_plain");
}

#[test]
fn neox_trained_too() {
    check("neox_full");
}

#[test]
fn modernbert_plain() {
    check("modernbert_plain");
}

/// Golden cases; the last three have windows shorter than the rows below.
const FAMILIES: [&str; 7] = [
    "lstm_uneven",
    "roberta_lstm",
    "gpt2_mlp",
    "neox_embedding",
    "mistral_embedding",
    "qwen2_embedding",
    "modernbert_embedding",
];
/// Of the template below.
const PROMPT_ROWS: usize = 2;

/// Uneven texts behind two pseudo tokens that a causal model computes once.
fn examples(causal: bool) -> Vec<Encoded> {
    let mut rng = Rng::new(11, Purpose::Shuffle(0));
    let example = |i: usize| {
        let mut tokens = vec![Token::Pseudo(0), Token::Id(9), Token::Pseudo(1)];
        tokens.extend((0..2 + (i * 13) % 24).map(|_| Token::Id(5 + rng.below(80) as u32)));
        let answer = tokens.len() - 1;
        Encoded { leading: if causal { 3 } else { 0 }, ..Encoded::row(tokens, answer) }
    };
    (0..9).map(example).collect()
}

/// The prompts that train together below: a prefix, plain and projected, of different sizes; with pseudo tokens and
/// without; pseudo tokens alone.
fn prompts(device: &Device, model: &Model) -> Vec<Prompt> {
    let rows = |seed| {
        let mut rng = Rng::new(seed, Purpose::PromptInitialisation);
        let shape = EncoderShape::lama(EncoderKind::Mlp);
        PromptEncoder::new(device, &shape, PROMPT_ROWS, model.embedding_width(), 1.0, &mut rng)
    };
    let prefix = |rows, hidden, seed| Some(prefix(model, device, rows, hidden, seed));
    vec![
        Prompt { rows: Some(rows(1)), prefix: prefix(3, None, 2) },
        Prompt { rows: Some(rows(3)), prefix: None },
        Prompt { rows: Some(rows(4)), prefix: prefix(5, Some(6), 5) },
        Prompt { rows: Some(rows(6)), prefix: prefix(3, None, 7) },
    ]
}

/// Four steps of some of these prompts together; the bits of the losses and of all parameters of each.
fn trained(family: &str, device: &Device, which: &[usize], dropout: f32) -> Vec<Vec<u64>> {
    let model = load(family, device, Gradients::Inputs);
    let causal = model.spec().causal;
    let all = prompts(device, &model).into_iter().enumerate().filter(|(i, _)| which.contains(i));
    let (mut trainer, mut learners) =
        Trainer::new(model, all.map(|(_, prompt)| (prompt, &EVERY_TOKEN, recipe(0.01))).collect(), device);
    let mut bits = vec![Vec::new(); which.len()];
    for step in 0..4 {
        let batch = |(prompt, i): (&Prompt, &usize)| {
            let rows = &examples(causal)[i % 3..];
            let layout =
                match dropout {
                    0.0 => pack(rows),
                    _ => ptune::data::pack_from(rows.iter().map(|row| (row, ptune::data::Beginning::Own)))
                        .with_dropout(dropout, 10 * *i as u64 + step, &(0..rows.len()).collect::<Vec<_>>()),
                };
            let layout = layout.behind(prompt.prefix_rows());
            Batch { layout, targets: (7..7 + rows.len() as u32).collect(), share: 1.0 }
        };
        let batches = learners.iter().map(|learner| &learner.prompt).zip(which).map(batch).collect();
        let losses = trainer.step(&mut learners.iter_mut().collect::<Vec<_>>(), batches, None);
        bits.iter_mut().zip(losses).for_each(|(bits, loss)| bits.push(loss.to_bits()));
    }
    for (bits, learner) in bits.iter_mut().zip(&learners) {
        let values = learner.prompt.parameters().flat_map(|parameter| parameter.value.read());
        bits.extend(values.map(|x| u64::from(x.to_bits())));
    }
    bits
}

#[test]
fn prefixes_of_several_prompts_come_to_the_same_bits_together_and_alone_with_any_threads() {
    for isa in Isa::available() {
        for family in FAMILIES.into_iter().filter(|family| !["neox_embedding", "qwen2_embedding"].contains(family)) {
            for dropout in [0.0, 0.1] {
                let together = trained(family, &device(isa, 3), &[0, 1, 2, 3], dropout);
                for (i, in_company) in together.iter().enumerate() {
                    let alone = trained(family, &device(isa, 1 + i % 2), &[i], dropout);
                    assert!(alone[0] == *in_company, "{family}, {}, dropout {dropout}: prompt {i}", isa.name());
                }
                assert!(together[0] != together[3], "{family}: two prompts are one");
            }
        }
    }
}

/// Loss and gradient of a prefix of f32 rows.
fn prefix_gradient(model: &mut Model, device: &Device, layout: &Layout, rows: &[f32], count: usize) -> (f64, Vec<f32>) {
    let columns = model.columns(None, true);
    let rows = device.upload(count, model.spec().past_width(), rows);
    let past = model.past_of_rows(&rows);
    let inject = Inject { past: Some(&past), past_gradient: true, ..Inject::default() };
    let (logits, saved): (Tensor, ModelSaved) = model.forward(layout, &inject, &columns);
    let targets: Vec<u32> = (0..layout.targets.len() as u32).map(|i| 7 + i).collect();
    let loss = EVERY_TOKEN.loss(device, &logits, &targets);
    let gradients = model.backward(&loss.d_logits, &saved, layout, &inject, &columns);
    assert!(gradients.prompt_embeds.is_none());
    (loss.mean, gradients.past.expect("a gradient").to_rows(device).read().to_vec())
}

/// Texts without pseudo tokens.
fn texts() -> Vec<Encoded> {
    let text = |row: Encoded| {
        let id = |token: &Token| if let Token::Id(id) = token { *id } else { 6 };
        Encoded::row(row.tokens.iter().map(|token| Token::Id(id(token))).collect(), row.answers[0])
    };
    examples(false).into_iter().map(text).collect()
}

fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed, Purpose::PromptInitialisation);
    (0..len).map(|_| rng.normal()).collect()
}

#[test]
fn the_gradient_of_a_prefix_is_a_central_difference() {
    const ROWS: usize = 4;
    for family in FAMILIES {
        let device = Device::processor(Some(2));
        let mut model = load(family, &device, Gradients::Inputs);
        let layout = pack(&texts()).behind(ROWS);
        let rows = random(ROWS * model.spec().past_width(), 3);
        let (_, gradient) = prefix_gradient(&mut model, &device, &layout, &rows, ROWS);
        for seed in 0..4 {
            let (way, step) = (random(rows.len(), 20 + seed), 2e-3_f32);
            let mut at = |step: f32| {
                let moved: Vec<f32> = rows.iter().zip(&way).map(|(x, w)| x + step * w).collect();
                prefix_gradient(&mut model, &device, &layout, &moved, ROWS).0
            };
            let want = (at(step) - at(-step)) / (2.0 * f64::from(step));
            let got: f64 = gradient.iter().zip(&way).map(|(g, w)| f64::from(*g) * f64::from(*w)).sum();
            let scale = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!((got - want).abs() <= 2e-3 * scale, "{family}: {got}, difference {want}, scale {scale}");
        }
    }
}

#[test]
fn the_gradient_in_bf16_is_that_of_f32_within_the_gates() {
    const ROWS: usize = 8;
    let directory =
        ModelDirectory::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tiny-mlm")).unwrap();
    let layout = pack(&texts()).behind(ROWS);
    for isa in Isa::available() {
        let [want, got] = Precision::ALL.map(|precision| {
            let device = device(isa, 2).with_precision(precision);
            let mut model = Model::load(&directory, &[], &device, Gradients::Inputs, &mut |_, _| {}).unwrap();
            let rows = random(ROWS * model.spec().past_width(), 3);
            prefix_gradient(&mut model, &device, &layout, &rows, ROWS).1
        });
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let pairs = || got.iter().zip(&want).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let (a, b) = (norm(&mut pairs().map(|(a, _)| a)), norm(&mut pairs().map(|(_, b)| b)));
        let error = norm(&mut pairs().map(|(a, b)| a - b)) / b;
        let cosine = pairs().map(|(a, b)| a * b).sum::<f64>() / (a * b);
        assert!(error > 1e-5, "{}: nothing was rounded to bf16", isa.name());
        assert!(error <= 0.02, "{}: relative error {error}", isa.name());
        assert!(1.0 - cosine <= 5e-4, "{}: 1 - cosine {}", isa.name(), 1.0 - cosine);
    }
}

/// Keys and values of a text are the text: an exact conversion for a causal model, where the text stands in front, also where
/// a window ends within it.
#[test]
fn a_prefix_of_a_texts_keys_and_values_is_that_text_in_front() {
    for case in ["gpt2_mlp", "neox_embedding", "mistral_embedding", "qwen2_embedding", "qwen3_embedding"] {
        let device = Device::processor(Some(2));
        let model = load(case, &device, Gradients::None);
        let front: Vec<Token> = [30, 41, 52, 63].map(Token::Id).to_vec();
        let columns = model.columns(None, false);
        let past = model.run_past(&pack([&Encoded::row(front.clone(), 0)]));
        let injection = Injection::new(&model, None, Some(past.to_rows(&device)));
        let behind = model.logits(&pack(&texts()).behind(front.len()), &injection.inject(), &columns);
        let with_front = |row: Encoded| {
            let tokens = [front.clone(), row.tokens].concat();
            let answer = tokens.len() - 1;
            Encoded::row(tokens, answer)
        };
        let joined: Vec<Encoded> = texts().into_iter().map(with_front).collect();
        let whole = model.logits(&pack(&joined), &Inject::default(), &columns);
        assert_close(&format!("{case}: logits"), behind.read(), whole.read(), 1e-5);

        // So is what is written behind it.
        let tokenizer = Tokenizer::open(&golden().join(case).join("model")).expect("a tokenizer");
        let write = |inject: Inject<'_>, rows: &[Encoded]| {
            let writer =
                Writer { device: &device, model: &model, columns: &columns, inject, tokenizer: &tokenizer, end: 0 };
            let (rows, mut texts): (Vec<&Encoded>, _) = (rows.iter().collect(), Vec::new());
            let writing = Writing { longest: 12, sampling: None, stops: Vec::new() };
            let written = writer.write(&rows, &[0; 9], &writing, &mut |_, _, _| (), |_, text| texts.push(text));
            written.expect("finite scores");
            texts
        };
        let texts = write(injection.inject(), &texts());
        assert_eq!(texts, write(Inject::default(), &joined), "{case}");
        assert!(texts.iter().any(|text| text.tokens == 12), "{case}: nothing was written");
    }
}

/// A run of the tree's small model whose template has no pseudo tokens.
fn run(out: &Path, more: &[(&str, &str)]) -> ptune::Result<Summary> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sentiment/run.toml");
    let pairs = [("task.template", "{text} it was [MASK]")];
    let pairs: Vec<_> = pairs.iter().chain(more).map(|(key, value)| (key.to_string(), value.to_string())).collect();
    train::run(&RunConfig::read(&file, &pairs)?, &file, out, &Device::processor(None), &mut |_| {})
}

/// Every start learns a task on which the template alone is at chance, and another process finds the same metrics. A plain
/// table needs a high rate: Adam moves a number by about the rate a step.
#[test]
fn a_prefix_learns_and_its_adapter_repeats_the_metrics_of_the_run() {
    for (key, start, rate) in [
        ("prompt.prefix_init", "random", "0.1"),
        ("prompt.prefix_init", "zero", "0.3"),
        ("prompt.prefix_text", "the film was good", "0.1"),
        ("prompt.prefix_hidden_size", "24", "0.03"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let more = [("prompt.prefix_tokens", "4"), (key, start), ("train.learning_rate", rate)];
        let test = run(directory.path(), &more).unwrap().test.expect("test metrics");
        assert!(test.get("accuracy").unwrap() >= 0.8, "{key} {start}: {test:?}");
        let adapter = directory.path().join("adapter");
        let predictor = Predictor::open(&adapter, None, &Device::processor(None), &mut |_, _| {}).unwrap();
        let rows = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sentiment/test.jsonl");
        assert_eq!(predictor.evaluate(&rows, &mut |_, _| {}).unwrap().metrics, test, "{key} {start}");
    }
}

#[test]
fn a_prefix_that_does_not_fit_is_refused_with_what_would() {
    let refused = |more: &[(&str, &str)]| {
        let directory = tempfile::tempdir().unwrap();
        run(directory.path(), more).map(|summary| summary.steps).unwrap_err().to_string()
    };
    let error = refused(&[("prompt.prefix_tokens", "3"), ("prompt.prefix_text", "the film was good")]);
    assert!(error.contains("prompt.prefix_text") && error.contains("should be 4, not 3"), "{error}");
    let error = refused(&[("prompt.prefix_tokens", "999")]);
    assert!(error.contains("prompt.prefix_tokens") && error.contains("positions"), "{error}");
    let error = refused(&[("prompt.prefix_tokens", "4"), ("data.max_tokens", "93")]);
    assert!(error.contains("data.max_tokens") && error.contains("behind a prefix of 4"), "{error}");
}

#[test]
fn in_the_steady_state_a_step_behind_a_prefix_makes_no_buffers() {
    let device = Device::processor(Some(1));
    let model = load("lstm_uneven", &device, Gradients::Inputs);
    let prompt = Prompt { rows: None, prefix: Some(prefix(&model, &device, 6, Some(8), 1)) };
    let (mut trainer, mut learners) = Trainer::new(model, vec![(prompt, &EVERY_TOKEN, recipe(0.01))], &device);
    let mut made = None;
    for step in 0..4 {
        let batch = Batch { layout: pack(&texts()).behind(6), targets: (7..16).collect(), share: 1.0 };
        trainer.step(&mut learners.iter_mut().collect::<Vec<_>>(), vec![batch], None);
        assert_eq!(*made.get_or_insert(device.buffers_made()), device.buffers_made(), "step {step}");
    }
}
