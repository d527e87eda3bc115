//! Classifiers: rows of the model instead of label words, beside transformers' `ForSequenceClassification` (and PEFT's for a
//! prefix; `reference/classifier.py` wrote the numbers); saved, resumed, loaded.

use std::path::{Path, PathBuf};

use ptune::checkpoint::{ModelDirectory, Weights};
use ptune::data::{Encoded, Token, pack};
use ptune::method::{Classifier, Head, Prompt, Trained};
use ptune::model::spec::Pooling;
use ptune::model::{Gradients, Model};
use ptune::parameter::{Group, Parameter};
use ptune::predict::{Prediction, Predictor};
use ptune::prompt::encoder::{PrefixShape, PromptEncoder};
use ptune::prompt::initial::PrefixInit;
use ptune::rng::{Purpose, Rng};
use ptune::train::config::OptimizerKind;
use ptune::train::{self, Batch, GroupRecipe, Recipe, RunConfig, Summary, Trainer};
use ptune::{Device, Tensor};
use ptune_kernels::{Context, Isa};
use safetensors::SafeTensors;
use serde_json::Value;

const LIMIT: f64 = 1e-4;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn assert_close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(0.0_f64, |m, x| m.max(f64::from(*x).abs()));
    let worst = got.iter().zip(want).fold(0.0_f64, |m, (a, b)| m.max((f64::from(*a) - f64::from(*b)).abs()));
    assert!(worst <= LIMIT * scale, "{what}: max difference {worst:e} of {scale:e} ({:e})", worst / scale);
}

fn recipe(rate: f64) -> Recipe {
    let group = GroupRecipe { learning_rate: rate, weight_decay: 0.0 };
    Recipe { kind: OptimizerKind::AdamW, clip_norm: 0.0, prompt: group, backbone: group, head: group }
}

/// A golden case, read.
struct Case {
    json: Value,
    tensors: Vec<u8>,
}

impl Case {
    fn read(name: &str) -> Case {
        let directory = golden().join("classifier");
        let json = std::fs::read_to_string(directory.join(format!("{name}.json"))).expect("a case");
        let tensors = std::fs::read(directory.join(format!("{name}.safetensors"))).expect("tensors");
        Case { json: serde_json::from_str(&json).expect("valid JSON"), tensors }
    }

    fn tensor(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.tensors).expect("a safetensors file");
        let view = file.tensor(name).unwrap_or_else(|_| panic!("golden tensor {name}"));
        view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn number(&self, key: &str) -> usize {
        self.json[key].as_u64().expect("a number") as usize
    }

    fn directory(&self) -> ModelDirectory {
        let model = self.json["model"].as_str().expect("a golden case");
        ModelDirectory::open(&golden().join(model).join("model")).expect("a model directory")
    }

    /// Classifier and prefix with PyTorch's starting values.
    fn trained(&self, device: &Device, model: &Model, directory: &ModelDirectory) -> Trained {
        let (spec, mut rng) = (model.spec(), Rng::new(0, Purpose::PromptInitialisation));
        let (labels, weights) = (self.number("labels"), directory.weights());
        let classifier = Classifier::new(device, &spec.classifier, spec.hidden, labels, weights, &mut rng).unwrap();
        let shape = PrefixShape { rows: self.number("rows"), width: spec.past_width(), projected: None };
        let prefix = (shape.rows > 0).then(|| PromptEncoder::prefix(device, &shape, PrefixInit::Random, &mut rng));
        let mut trained =
            Trained { prompt: Prompt { rows: None, prefix }, classifier: Some(classifier), additions: None };
        for parameter in trained.parameters_mut() {
            let value = self.tensor(theirs(parameter));
            parameter.value = device.upload(parameter.value.rows(), parameter.value.columns(), &value);
        }
        trained
    }
}

fn theirs(parameter: &Parameter) -> &str {
    if parameter.name == "prefix.embedding.weight" { "prefix" } else { &parameter.name }
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

/// Five steps of PyTorch: scores, every gradient, losses.
fn check(name: &str) {
    let (case, device) = (Case::read(name), Device::processor(Some(2)));
    let (norms, directory) = (case.json["gradient_norms"].as_object(), case.directory());
    let gradients = if norms.is_some() { Gradients::Weights } else { Gradients::Inputs };
    let model = Model::load(&directory, &[], &device, gradients, &mut |_, _| {}).expect("a model").without_head();
    let causal = model.spec().causal;
    let row = |ids: &Value| {
        let tokens: Vec<Token> = numbers(ids).into_iter().map(|id| Token::Id(id as u32)).collect();
        let answer = if causal { tokens.len() - 1 } else { 0 };
        let row = Encoded::row(tokens, answer);
        match model.spec().classifier.pooling {
            Pooling::Mean => Encoded { answers: (0..row.tokens.len()).collect(), ..row },
            Pooling::First | Pooling::Last => row,
        }
    };
    let rows: Vec<Encoded> = case.json["ids"].as_array().unwrap().iter().map(row).collect();
    let gold: Vec<u32> = numbers(&case.json["gold"]).into_iter().map(|label| label as u32).collect();
    let layout = pack(&rows).behind(case.number("rows"));

    let trained = case.trained(&device, &model, &directory);
    let injection = trained.prompt.forward(&device, &model);
    let h = model.logits(&layout, &injection.inject(), &model.row_columns());
    let classifier = trained.classifier.as_ref().unwrap();
    let scores = classifier.forward(&device, h, classifier.groups(&layout)).0;
    assert_close(&format!("{name}: scores"), scores.read(), &case.tensor("scores"));

    let head = Head::Classifier((0..case.number("labels")).map(|i| i.to_string()).collect());
    let (mut trainer, mut learners) = Trainer::new(model, vec![(trained, &head, recipe(5e-3))], &device);
    let learner = &mut learners[0];
    for (step, want) in numbers(&case.json["losses"]).into_iter().enumerate() {
        let batch = Batch { layout: layout.clone(), targets: gold.clone(), share: 1.0 };
        let loss = trainer.step(&mut [&mut *learner], vec![batch], None)[0];
        assert!((loss - want).abs() <= LIMIT * want.abs(), "{name}: loss of step {step}: {loss}, PyTorch {want}");
        if step > 0 {
            continue;
        }
        let own = learner.prompt.parameters().chain(learner.classifier.as_ref().unwrap().parameters());
        for parameter in own {
            let want = case.tensor(&format!("grad.{}", theirs(parameter)));
            assert_close(&format!("{name}: gradient of {}", parameter.name), parameter.gradient.read(), &want);
        }
        let Some(norms) = norms else { continue };
        assert!(trainer.model.trained_tensors(Group::Head).is_empty(), "a head that nobody uses is trained");
        let tensors = trainer.model.trained_tensors(Group::Backbone);
        for tensor in &tensors {
            let found = norms.iter().find(|(theirs, _)| theirs.ends_with(tensor.name));
            let want = found.unwrap_or_else(|| panic!("{name}: no gradient of {}", tensor.name)).1.as_f64().unwrap();
            let mut values = Vec::new();
            tensor.read_gradient_into(&mut values);
            let norm = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let limit = LIMIT * want.max(1e-3);
            assert!((norm - want).abs() <= limit, "{name}: gradient of {}: {norm}, PyTorch {want}", tensor.name);
        }
        assert_eq!(tensors.len(), norms.len(), "{name}: tensors with a gradient");
    }
}

#[test]
fn bert_behind_a_prefix() {
    check("bert_prefix");
}

#[test]
fn bert_trained_too() {
    check("bert_full");
}

#[test]
fn a_probe_of_roberta() {
    check("roberta_probe");
}

#[test]
fn gpt2_behind_a_prefix() {
    check("gpt2_prefix");
}

#[test]
fn gpt2_trained_too() {
    check("gpt2_full");
}

#[test]
fn a_probe_of_modernberts_first_token() {
    check("modernbert_probe");
}

#[test]
fn modernbert_trained_under_a_mean() {
    check("modernbert_full");
}

#[test]
fn a_pooler_of_the_checkpoint_is_where_the_dense_layer_starts() {
    let case = Case::read("bert_prefix");
    let (directory, scratch) = (case.directory(), tempfile::tempdir().unwrap());
    let device = Device::processor(Some(1));
    let model = Model::load(&directory, &[], &device, Gradients::None, &mut |_, _| {}).unwrap();
    let spec = model.spec();
    let (width, numbers) = (spec.hidden, (0..spec.hidden * spec.hidden).map(|i| i as f32).collect::<Vec<_>>());
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = |shape: Vec<usize>, len: usize| {
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &bytes[..4 * len]).unwrap()
    };
    let write = |width: usize| {
        let views = [
            ("bert.pooler.dense.weight", view(vec![width, width], width * width)),
            ("bert.pooler.dense.bias", view(vec![width], width)),
        ];
        let file = scratch.path().join("pooler.safetensors");
        std::fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
        Weights::open_file(&file).unwrap()
    };
    let new = |checkpoint: &Weights| {
        let mut rng = Rng::new(0, Purpose::PromptInitialisation);
        Classifier::new(&device, &spec.classifier, width, 2, checkpoint, &mut rng)
    };
    let classifier = new(&write(width)).unwrap();
    assert_eq!(classifier.parameters()[0].value.read(), numbers);
    assert_eq!(classifier.parameters()[1].value.read(), &numbers[..width]);
    let error = new(&write(width - 1)).err().expect("another shape").to_string();
    assert!(error.contains("bert.pooler.dense.weight"), "{error}");
}

/// A run of the tree's small model with a classifier.
fn config(more: &[(&str, &str)]) -> (RunConfig, PathBuf) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sentiment/classifier.toml");
    let pairs: Vec<_> = more.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    (RunConfig::read(&file, &pairs).expect("a good run file"), file)
}

fn run(out: &Path, threads: usize, more: &[(&str, &str)]) -> Summary {
    let (config, file) = config(more);
    train::run(&config, &file, out, &Device::processor(Some(threads)), &mut |_| {}).expect("a run")
}

/// Probe, prefix, pseudo tokens and fine-tuning learn the task, and another process finds the same metrics.
#[test]
fn every_combination_learns_and_its_adapter_repeats_the_metrics_of_the_run() {
    let prompt = [("task.template", "[P*3] {text}"), ("prompt.encoder", "mlp"), ("train.learning_rate", "3e-3")];
    let prefix = [("prompt.prefix_tokens", "4"), ("train.learning_rate", "0.05"), ("train.head_learning_rate", "3e-3")];
    let full = [("backbone.mode", "full"), ("train.backbone_learning_rate", "1e-3"), ("train.steps", "40")];
    for more in [&[][..], &prompt, &prefix, &full] {
        let directory = tempfile::tempdir().unwrap();
        let summary = run(directory.path(), 2, more);
        let test = summary.test.expect("test metrics");
        assert!(test.get("accuracy").unwrap() >= 0.8, "{more:?}: {test:?}");
        let adapter = directory.path().join("adapter");
        assert!(adapter.join("head.safetensors").exists());
        assert_eq!(adapter.join("backbone.safetensors").exists(), more == full, "{more:?}");
        let predictor = Predictor::open(&adapter, None, &Device::processor(Some(1)), &mut |_, _| {}).unwrap();
        let rows = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sentiment/test.jsonl");
        assert_eq!(predictor.evaluate(&rows, &mut |_, _| {}).unwrap().metrics, test, "{more:?}");
        let example = ptune::data::Example::from_fields([("text".to_string(), "the film was good .".to_string())]);
        let Prediction::Label { probabilities, .. } = predictor.predict(&[example], 1).remove(0).unwrap() else {
            panic!("a classifier answers with a label")
        };
        assert_eq!(probabilities.iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>(), ["positive", "negative"]);
    }
}

/// The golden ModernBERT whose classifier reads the mean of a text's rows: uneven texts, behind a prefix and without, together
/// and alone.
#[test]
fn a_classifier_of_means_repeats_the_metrics_of_its_run_and_a_text_answers_alone_as_in_company() {
    let texts = ["the good film", "she hated it and he loved it, the soup was fine", "rain", "a bad bad city"];
    let rows = texts
        .iter()
        .enumerate()
        .map(|(i, text)| serde_json::json!({"text": text, "label": if i % 2 == 0 { "a" } else { "b" }}).to_string());
    for (prompt, threads) in [("prefix_tokens = 3", 1), ("encoder = \"mlp\"", 2)] {
        let directory = tempfile::tempdir().unwrap();
        let (file, out) = (directory.path().join("run.toml"), directory.path().join("out"));
        std::fs::write(directory.path().join("rows.jsonl"), rows.clone().collect::<Vec<_>>().join("\n")).unwrap();
        let pseudo = if prompt.starts_with("prefix") { "" } else { "[P*2] " };
        let run_file = format!(
            "model = {:?}\n[data]\ntrain = \"rows.jsonl\"\ndev = \"rows.jsonl\"\ntest = \"rows.jsonl\"\n[task]\n\
             template = \"{pseudo}{{text}}\"\nhead = \"classifier\"\nlabels = [\"a\", \"b\"]\n[prompt]\n{prompt}\n\
             [train]\nsteps = 40\nbatch_size = 3\nlearning_rate = 0.02\n",
            golden().join("modernbert_mlp/model"),
        );
        std::fs::write(&file, run_file).unwrap();
        let device = Device::processor(Some(threads));
        let config = RunConfig::read(&file, &[]).unwrap();
        let test = train::run(&config, &file, &out, &device, &mut |_| {}).unwrap().test.unwrap();
        assert_eq!(test.get("accuracy"), Some(1.0), "{prompt}: it did not learn four rows: {test:?}");
        let predictor = Predictor::open(&out.join("adapter"), None, &device, &mut |_, _| {}).unwrap();
        let again = predictor.evaluate(&directory.path().join("rows.jsonl"), &mut |_, _| {}).unwrap();
        assert_eq!(again.metrics, test, "{prompt}");
        let example = |text: &&str| ptune::data::Example::from_fields([("text".to_string(), (*text).to_owned())]);
        let label = |prediction: ptune::Result<Prediction>| match prediction.unwrap() {
            Prediction::Label { probabilities, .. } => probabilities,
            _ => panic!("a classifier answers with a label"),
        };
        let examples: Vec<_> = texts.iter().map(example).collect();
        let together: Vec<_> = predictor.predict(&examples, 1).into_iter().map(label).collect();
        for (example, together) in examples.iter().zip(together) {
            let alone = predictor.predict(std::slice::from_ref(example), 1).remove(0);
            assert_eq!(label(alone), together, "{prompt}");
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_threads() {
    let files = |out: &Path| {
        ["prompt.safetensors", "head.safetensors"].map(|name| std::fs::read(out.join("adapter").join(name)).unwrap())
    };
    let more = [("prompt.prefix_tokens", "4"), ("train.steps", "5")];
    let [one, three] = [1, 3].map(|threads| {
        let directory = tempfile::tempdir().unwrap();
        run(directory.path(), threads, &more);
        files(directory.path())
    });
    assert!(one == three);
}

/// Scores and gradients of a pass over other learners' rows are those of each alone.
#[test]
fn two_classifiers_in_one_pass_come_to_the_bits_of_each_alone() {
    let case = Case::read("bert_prefix");
    let head = Head::Classifier(["a", "b", "c"].map(String::from).to_vec());
    for isa in Isa::available() {
        let device = Device::with_context(Context::new(isa, 2));
        let directory = case.directory();
        let bits = |which: &[usize]| {
            let model =
                Model::load(&directory, &[], &device, Gradients::Inputs, &mut |_, _| {}).unwrap().without_head();
            let learner = |i: &usize| (case.trained(&device, &model, &directory), &head, recipe(0.01 * (1 + i) as f64));
            let each: Vec<_> = which.iter().map(learner).collect();
            let (mut trainer, mut learners) = Trainer::new(model, each, &device);
            let batch = |i: &usize| {
                let rows: Vec<Encoded> =
                    (2..4 + 2 * i).map(|n| Encoded::row((10..10 + n as u32).map(Token::Id).collect(), 0)).collect();
                let targets = (0..rows.len() as u32).map(|row| row % 3).collect();
                Batch { layout: pack(&rows).behind(case.number("rows")), targets, share: 1.0 }
            };
            for _ in 0..3 {
                trainer.step(&mut learners.iter_mut().collect::<Vec<_>>(), which.iter().map(batch).collect(), None);
            }
            let of = |learner: &train::Learner<'_>| -> Vec<u32> {
                let own = learner.prompt.parameters().chain(learner.classifier.as_ref().unwrap().parameters());
                own.flat_map(|p: &Parameter| p.value.read().iter().map(|x| x.to_bits()).collect::<Vec<_>>()).collect()
            };
            learners.iter().map(of).collect::<Vec<_>>()
        };
        let together = bits(&[0, 1]);
        assert!(together[0] == bits(&[0])[0] && together[1] == bits(&[1])[0], "{}", isa.name());
        assert!(together[0] != together[1]);
    }
}

/// The model under a classifier gives the rows that its own head reads: a frozen model, whole or without its head.
#[test]
fn rows_are_those_that_the_head_reads() {
    let device = Device::processor(Some(1));
    for name in ["bert_prefix", "gpt2_prefix"] {
        let directory = Case::read(name).directory();
        let load = || Model::load(&directory, &[], &device, Gradients::None, &mut |_, _| {}).unwrap();
        let layout = pack(&[Encoded::row([7, 8, 9, 10].map(Token::Id).to_vec(), 2)]);
        let rows = |model: Model| -> Tensor { model.logits(&layout, &Default::default(), &model.row_columns()) };
        assert_eq!(rows(load()).read(), rows(load().without_head()).read(), "{name}");
    }
}
