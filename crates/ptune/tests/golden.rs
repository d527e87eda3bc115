//! Whole-model truth from PyTorch: ids, prompt, logits, every gradient, ten losses, the trained parameters.
//!
//! `reference/golden.py` wrote the cases; each is a random tiny model of a family with texts, a template and an encoder. Limit per
//! tensor: `max |a - b| <= 1e-4 * max |b|`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ptune::checkpoint::{ModelDirectory, Tokenizer};
use ptune::data::{Beginning, Encoded, Encoder, Example, RowForm, Token, pack, pack_from};
use ptune::method::{Head, Prompt};
use ptune::model::spec::ModelSpec;
use ptune::model::{Columns, Gradients, Inject, Model};
use ptune::ops::Layout;
use ptune::parameter::Group;
use ptune::prompt::encoder::{EncoderKind, EncoderShape, PromptEncoder, Shapes};
use ptune::prompt::template::Template;
use ptune::prompt::verbalizer::Verbalizer;
use ptune::rng::{Purpose, Rng};
use ptune::train::config::{OptimizerKind, ScheduleKind};
use ptune::train::{Batch, GroupRecipe, Recipe, Schedule, Trainer};
use ptune::{Device, Tensor};
use safetensors::SafeTensors;
use serde_json::Value;

const LIMIT: f64 = 1e-4;
/// Gradients that are nothing but rounding are below this.
const GRADIENT_FLOOR: f32 = 1e-7;

/// A golden case, read. Some have a second run, in which the model is trained too.
struct Case {
    directory: PathBuf,
    json: Value,
    tensors: Vec<u8>,
    weight_gradients: Option<Vec<u8>>,
}

impl Case {
    fn read(name: &str) -> Case {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let json = std::fs::read_to_string(directory.join("case.json")).expect("case.json");
        let tensors = std::fs::read(directory.join("golden.safetensors")).expect("golden.safetensors");
        Case { directory, json: serde_json::from_str(&json).expect("valid JSON"), tensors, weight_gradients: None }
    }

    /// The run that trains the model too: `full` of case.json in the place of the first run's, and the gradients of the
    /// weights in a file of their own.
    fn read_full(name: &str) -> Case {
        let mut case = Case::read(name);
        let Value::Object(full) = case.json["full"].take() else { panic!("{name} has no run with a trained model") };
        full.into_iter().for_each(|(key, value)| case.json[&key] = value);
        case.weight_gradients = Some(std::fs::read(case.directory.join("full.safetensors")).expect("full.safetensors"));
        case
    }

    fn tensor(&self, name: &str) -> Vec<f32> {
        let bytes = self.weight_gradients.as_ref().filter(|_| name.starts_with("model_grad.")).unwrap_or(&self.tensors);
        let file = SafeTensors::deserialize(bytes).expect("a safetensors file");
        let bytes = file.tensor(name).unwrap_or_else(|_| panic!("golden tensor {name}")).data().to_vec();
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    fn text(&self, key: &str) -> &str {
        self.json[key].as_str().unwrap_or_else(|| panic!("{key} is a text"))
    }

    fn numbers(&self, key: &str) -> Vec<f64> {
        numbers(&self.json[key])
    }

    fn optimizer(&self, key: &str) -> &Value {
        &self.json["optimizer"][key]
    }
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn assert_close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(0.0_f64, |m, x| m.max(f64::from(*x).abs()));
    let worst = got.iter().zip(want).fold(0.0_f64, |m, (a, b)| m.max((f64::from(*a) - f64::from(*b)).abs()));
    assert!(worst <= LIMIT * scale, "{what}: max difference {worst:e} of {scale:e} ({:e})", worst / scale);
}

fn encode(case: &Case, template: &Template, tokenizer: &Tokenizer, spec: &ModelSpec, head: &Head) -> Vec<Encoded> {
    let max_tokens = case.json["max_tokens"].as_u64().unwrap_or(512) as usize;
    let special = tokenizer.special();
    let around = |token: Option<u32>| if spec.enclosed { vec![token.expect("a special token")] } else { Vec::new() };
    let start = if spec.begins { tokenizer.beginning().to_vec() } else { around(special.cls) };
    let end = around(special.sep);
    let form = RowForm { max_tokens, start, end, answer: head.answer_form(spec) };
    let encoder = Encoder::new(template, tokenizer, form).expect("a template that encodes");
    let file: Arc<Path> = Path::new("case.json").into();
    let examples = case.json["examples"].as_array().expect("examples");
    let encode = |object: &Value| {
        let example = Example::parse(object.to_string().as_bytes(), &file, 1).expect("an example");
        encoder.encode(&example).expect("a row")
    };
    examples.iter().map(encode).collect()
}

fn check_ids(case: &Case, rows: &[Encoded]) {
    for (i, (row, want)) in rows.iter().zip(case.json["ids"].as_array().expect("ids")).enumerate() {
        let got: Vec<f64> = row
            .tokens
            .iter()
            .map(|token| match token {
                Token::Id(id) => f64::from(*id),
                Token::Pseudo(row) => -1.0 - f64::from(*row),
            })
            .collect();
        assert_eq!(got, numbers(want), "ids of example {i}");
        // One answer row, or a list of them where label words have several tokens.
        let want = &case.json["answer_rows"][i];
        let want = want.as_array().map_or_else(|| vec![want.as_f64().expect("a row")], |_| numbers(want));
        assert_eq!(row.answers.iter().map(|row| *row as f64).collect::<Vec<_>>(), want, "answer rows of example {i}");
    }
}

/// The encoder with the parameters that PyTorch drew.
fn golden_encoder(case: &Case, device: &Device, rows: usize, width: usize) -> PromptEncoder {
    let kind = match case.text("encoder") {
        "embedding" => EncoderKind::Embedding,
        "mlp" => EncoderKind::Mlp,
        "lstm" => EncoderKind::Lstm,
        other => panic!("encoder {other}"),
    };
    let mut rng = Rng::new(0, Purpose::PromptInitialisation);
    let shapes = match case.json["shapes"].as_str() {
        None => Shapes::Lama,
        Some("superglue") => Shapes::Superglue,
        Some("peft") => Shapes::Peft,
        Some(other) => panic!("shapes {other}"),
    };
    let size = |key: &str| case.json[key].as_u64().map(|size| size as usize);
    let shape = EncoderShape { kind, shapes, hidden_size: size("encoder_hidden_size"), layers: size("encoder_layers") };
    let mut encoder = PromptEncoder::new(device, &shape, rows, width, 1.0, &mut rng);
    for parameter in encoder.parameters_mut() {
        let value = case.tensor(&format!("encoder.{}", parameter.name));
        parameter.value = device.upload(parameter.value.rows(), parameter.value.columns(), &value);
    }
    encoder
}

fn golden_head(case: &Case, template: &Template, tokenizer: &Tokenizer, causal: bool) -> Head {
    let Some(labels) = case.json["verbalizer"].as_object() else {
        return Head::Vocabulary { candidates: None, restrict_loss: false };
    };
    let words = |list: &Value| list.as_array().expect("words").iter().map(|w| w.as_str().unwrap().to_owned()).collect();
    let labels: Vec<(String, Vec<String>)> = labels.iter().map(|(label, list)| (label.clone(), words(list))).collect();
    let file = case.directory.join("case.json");
    Head::Verbalizer(Verbalizer::new(&file, &labels, tokenizer, template.answer_glue(), causal).expect("a verbalizer"))
}

fn recipe(case: &Case) -> (Recipe, Schedule) {
    let number = |key: &str| case.optimizer(key).as_f64();
    let kind = match case.optimizer("kind").as_str().expect("a kind") {
        "adamw" => OptimizerKind::AdamW,
        "adam" => OptimizerKind::Adam,
        "adamw_hf" => OptimizerKind::AdamWHf,
        other => panic!("optimizer {other}"),
    };
    let schedule = match case.optimizer("schedule").as_str().expect("a schedule") {
        "constant" => ScheduleKind::Constant,
        "linear" => ScheduleKind::Linear,
        "exponential" => ScheduleKind::Exponential,
        other => panic!("schedule {other}"),
    };
    let decay = number("weight_decay").expect("a weight decay");
    let learning_rate = number("lr").expect("a rate");
    let backbone = GroupRecipe {
        learning_rate: number("backbone_lr").unwrap_or(learning_rate),
        weight_decay: number("backbone_weight_decay").unwrap_or(decay),
    };
    let recipe = Recipe {
        kind,
        clip_norm: number("clip_norm").unwrap_or(0.0),
        prompt: GroupRecipe { learning_rate, weight_decay: decay },
        backbone,
        head: GroupRecipe { learning_rate: number("head_lr").unwrap_or(backbone.learning_rate), ..backbone },
    };
    let schedule = Schedule {
        kind: schedule,
        learning_rate,
        warmup_steps: number("warmup_steps").unwrap_or(0.0) as usize,
        steps: 10,
        steps_per_epoch: 1,
        decay: number("decay").unwrap_or(1.0),
    };
    (recipe, schedule)
}

/// The gradient at every pseudo-token position: each position gets a prompt row of its own.
fn gradient_by_position(
    device: &Device,
    model: &mut Model,
    head: &Head,
    columns: &Columns,
    prompt: &Tensor,
    layout: &Layout,
    targets: &[u32],
) -> Vec<f32> {
    let mut layout = layout.clone();
    let width = prompt.columns();
    let mut rows = Vec::new();
    for (position, (_, row)) in layout.pseudo.iter_mut().enumerate() {
        rows.extend_from_slice(&prompt.read()[*row as usize * width..(*row as usize + 1) * width]);
        *row = position as u32;
    }
    let own = device.upload(layout.pseudo.len(), width, &rows);
    let inject = Inject { prompt_embeds: Some(&own), ..Inject::default() };
    let (logits, saved) = model.forward(&layout, &inject, columns);
    let loss = head.loss(device, &logits, targets);
    let gradients = model.backward(&loss.d_logits, &saved, &layout, &inject, columns);
    gradients.prompt_embeds.expect("a gradient").read().to_vec()
}

/// Every gradient of a trained model, under the names and in the layouts of its checkpoint.
fn check_weight_gradients(case: &Case, model: &Model) {
    let mut got = Vec::new();
    for tensor in [Group::Backbone, Group::Head].into_iter().flat_map(|group| model.trained_tensors(group)) {
        let what = format!("model_grad.{}", tensor.name);
        let want = case.tensor(&what);
        tensor.read_gradient_into(&mut got);
        let largest = want.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        // A key's bias adds the same to all scores of a row, which changes nothing: its gradient is 0 but for rounding.
        if largest > GRADIENT_FLOOR {
            assert_close(&what, &got, &want);
        } else {
            assert!(got.iter().all(|x| x.abs() <= 10.0 * GRADIENT_FLOOR), "{what} should be 0 but for rounding");
        }
    }
}

fn check(name: &str) {
    check_case(&Case::read(name));
}

fn check_full(name: &str) {
    check_case(&Case::read_full(name));
}

fn check_case(case: &Case) {
    let device = Device::processor(Some(2));
    let directory = ModelDirectory::open(&case.directory.join("model")).expect("a model directory");
    let tokenizer = Tokenizer::open(directory.path()).expect("a tokenizer");
    let template = Template::parse(case.text("template")).expect("a template");
    let spec = ModelSpec::read(&directory).expect("a model that is implemented");
    let head = golden_head(case, &template, &tokenizer, spec.causal);
    let rows = encode(case, &template, &tokenizer, &spec, &head);
    check_ids(case, &rows);
    let full = case.weight_gradients.is_some();
    let gradients = if full { Gradients::Weights } else { Gradients::Inputs };
    let mut model = Model::load(&directory, &[], &device, gradients, &mut |_, _| {}).expect("a model");
    let layout = pack(&rows);
    let targets: Vec<u32> = case.numbers("gold").iter().map(|t| *t as u32).collect();

    // Forward, with the whole vocabulary.
    let encoder = golden_encoder(case, &device, template.pseudo_rows(), model.embedding_width());
    let (prompt, _) = encoder.forward(&device);
    assert_close("prompt", prompt.read(), &case.tensor("prompt"));
    let everything = model.columns(None, false);
    let (logits, _) =
        model.forward(&layout, &Inject { prompt_embeds: Some(&prompt), ..Inject::default() }, &everything);
    assert_close("logits", logits.read(), &case.tensor("logits"));
    let before = logits.read().to_vec();

    if let Head::Verbalizer(verbalizer) = &head
        && verbalizer.columns().is_none()
    {
        assert_close("scores", head.scores(&device, &logits, None).read(), &case.tensor("scores"));
    }

    // The first gradients, by position: no two examples share one.
    let columns = model.columns(head.columns(true), true);
    let apart = pack_from(rows.iter().map(|row| (row, Beginning::Own)));
    let by_position = gradient_by_position(&device, &mut model, &head, &columns, &prompt, &apart, &targets);
    assert_close("pseudo.grad", &by_position, &case.tensor("pseudo.grad"));

    // Ten steps. A causal model computes what the template begins with once for all examples.
    let (recipe, schedule) = recipe(case);
    let prompt = Prompt::from(encoder);
    let (mut trainer, mut learners) = Trainer::new(model, vec![(prompt, &head, recipe)], &device);
    let learner = &mut learners[0];
    let mut buffers = None;
    for (step, want) in case.numbers("losses").into_iter().enumerate() {
        let rate = schedule.rate(step);
        assert!((rate - case.numbers("learning_rates")[step]).abs() < 1e-12, "learning rate of step {step}");
        let batch = Batch { layout: layout.clone(), targets: targets.clone(), share: schedule.share(step) };
        let loss = trainer.step(&mut [&mut *learner], vec![batch], None)[0];
        assert!((loss - want).abs() <= LIMIT * want.abs(), "loss of step {step}: {loss}, PyTorch {want}");
        let made = device.buffers_made();
        assert_eq!(*buffers.get_or_insert(made), made, "step {step} made buffers that the first did not need");
        if step == 0 {
            for parameter in learner.prompt.parameters() {
                let what = format!("encoder_grad.{}", parameter.name);
                assert_close(&what, parameter.gradient.read(), &case.tensor(&what));
            }
            check_weight_gradients(case, &trainer.model);
        }
    }
    if full {
        return;
    }
    for parameter in learner.prompt.parameters() {
        let what = format!("encoder_final.{}", parameter.name);
        assert_close(&what, parameter.value.read(), &case.tensor(&what));
    }

    // The model itself has not moved: the first prompt gives the first logits, bit for bit.
    let first = golden_encoder(case, &device, template.pseudo_rows(), trainer.model.embedding_width());
    let (prompt, _) = first.forward(&device);
    let (logits, _) =
        trainer.model.forward(&layout, &Inject { prompt_embeds: Some(&prompt), ..Inject::default() }, &everything);
    assert_eq!(logits.read(), before, "the frozen model changed");
}

#[test]
fn embedding_shared() {
    check("embedding_shared");
    check_full("embedding_shared");
}

#[test]
fn gpt2_embedding() {
    check("gpt2_embedding");
    check_full("gpt2_embedding");
}

#[test]
fn gpt2_long_words() {
    check("gpt2_long_words");
}

#[test]
fn gpt2_lstm() {
    check("gpt2_lstm");
    check_full("gpt2_lstm");
}

#[test]
fn gpt2_mlp() {
    check("gpt2_mlp");
    check_full("gpt2_mlp");
}

#[test]
fn korean_glued() {
    check("korean_glued");
}

#[test]
fn long_words() {
    check("long_words");
}

#[test]
fn long_words_korean() {
    check("long_words_korean");
}

#[test]
fn lstm_one_row() {
    check("lstm_one_row");
    check_full("lstm_one_row");
}

#[test]
fn lstm_uneven() {
    check("lstm_uneven");
}

#[test]
fn lstm_verbalizer() {
    check("lstm_verbalizer");
}

#[test]
fn mlp_probing() {
    check("mlp_probing");
}

#[test]
fn mlp_words() {
    check("mlp_words");
    check_full("mlp_words");
}

#[test]
fn roberta_embedding() {
    check("roberta_embedding");
    check_full("roberta_embedding");
}

#[test]
fn roberta_lstm() {
    check("roberta_lstm");
    check_full("roberta_lstm");
}

#[test]
fn roberta_mlp() {
    check("roberta_mlp");
    check_full("roberta_mlp");
}

#[test]
fn peft_lstm() {
    check("peft_lstm");
}

#[test]
fn peft_mlp() {
    check("peft_mlp");
}

#[test]
fn superglue_lstm() {
    check("superglue_lstm");
}

#[test]
fn llama_mlp() {
    check("llama_mlp");
    check_full("llama_mlp");
}

#[test]
fn llama_embedding() {
    check("llama_embedding");
}

#[test]
fn mistral_embedding() {
    check("mistral_embedding");
    check_full("mistral_embedding");
}

#[test]
fn qwen2_embedding() {
    check("qwen2_embedding");
    check_full("qwen2_embedding");
}

#[test]
fn mistral_mlp() {
    check("mistral_mlp");
}

#[test]
fn qwen2_mlp() {
    check("qwen2_mlp");
}

#[test]
fn qwen3_embedding() {
    check("qwen3_embedding");
    check_full("qwen3_embedding");
}

#[test]
fn neox_embedding() {
    check("neox_embedding");
    check_full("neox_embedding");
}

#[test]
fn neox_mlp() {
    check("neox_mlp");
}

#[test]
fn modernbert_embedding() {
    check("modernbert_embedding");
    check_full("modernbert_embedding");
}

#[test]
fn modernbert_mlp() {
    check("modernbert_mlp");
    check_full("modernbert_mlp");
}

#[test]
fn albert_embedding() {
    check("albert_embedding");
    check_full("albert_embedding");
}

#[test]
fn albert_lstm() {
    check("albert_lstm");
    check_full("albert_lstm");
}

#[test]
fn distilbert_embedding() {
    check("distilbert_embedding");
    check_full("distilbert_embedding");
}

#[test]
fn distilbert_mlp() {
    check("distilbert_mlp");
    check_full("distilbert_mlp");
}

#[test]
fn electra_embedding() {
    check("electra_embedding");
    check_full("electra_embedding");
}

#[test]
fn electra_mlp() {
    check("electra_mlp");
    check_full("electra_mlp");
}

#[test]
fn xlmr_lstm() {
    check("xlmr_lstm");
    check_full("xlmr_lstm");
}

#[test]
fn opt_lstm() {
    check("opt_lstm");
    check_full("opt_lstm");
}

#[test]
fn opt_mlp() {
    check("opt_mlp");
    check_full("opt_mlp");
}
