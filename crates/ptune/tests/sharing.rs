//! The beginning of a causal row is computed once a batch (what the template begins with) or once a run (the text before the
//! first pseudo token): the same loss and gradient as with rows of its own, fewer rows, and bits that depend on neither
//! neighbours nor threads, nor on when something was run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ptune::checkpoint::{ModelDirectory, Tokenizer};
use ptune::data::{Beginning, Encoded, Encoder, Example, RowForm, Token, pack, pack_from};
use ptune::method::Head;
use ptune::model::spec::ModelSpec;
use ptune::model::{Gradients, Inject, Model, Past};
use ptune::ops::Layout;
use ptune::prompt::encoder::{EncoderKind, EncoderShape, PromptEncoder};
use ptune::prompt::{Template, Verbalizer};
use ptune::rng::{Purpose, Rng};
use ptune::train::{Event, Options, RunConfig, run_with};
use ptune::{Device, Error, Tensor};

const IN_FRONT: &str = "[P*3] {premise|shorten} [MASK]";
const TEXT_FIRST: &str = "{premise|shorten} [P*3] [MASK]";
const SEVERAL_PLACES: &str = "It was : {premise|shorten} [P*2] {hypothesis|shorten} ? [P*1] [MASK]";
const BETWEEN_WORDS: &str = "The [P*2] film [P*1] {premise|shorten} [P*2] [MASK]";
const TEMPLATES: [&str; 4] = [IN_FRONT, TEXT_FIRST, SEVERAL_PLACES, BETWEEN_WORDS];

const ONE_TOKEN: [(&str, &[&str]); 2] = [("0", &["yes"]), ("1", &["no"])];
const SEVERAL_TOKENS: [(&str, &[&str]); 3] =
    [("0", &["the good soup", "yes"]), ("1", &["not good"]), ("2", &["maybe"])];

const PREMISES: [(&str, &str); 5] = [
    ("Rain", "yes"),
    ("The cat and the dog sleeps in the long room", "Is it slow"),
    ("she loved it and he hated it", "the soup"),
    ("the film was slow, the story was short", "no"),
    ("soup", "it was good and fine"),
];

/// Golden cases; in the last three layers have windows, shorter than most rows, that end within what is shared or kept.
const MODELS: [&str; 5] = [GPT2, "neox_embedding", "mistral_embedding", "qwen2_embedding", "qwen3_embedding"];
const GPT2: &str = "gpt2_long_words";

fn model_directory(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case).join("model")
}

/// A task on a small model, its rows, and a prompt.
struct Scene {
    device: Device,
    model: Model,
    head: Head,
    rows: Vec<Encoded>,
    prompt: Tensor,
    frozen: bool,
}

impl Scene {
    fn new(case: &str, template: &str, labels: &[(&str, &[&str])], threads: usize) -> Scene {
        let device = Device::processor(Some(threads));
        let directory = ModelDirectory::open(&model_directory(case)).unwrap();
        let tokenizer = Tokenizer::open(directory.path()).unwrap();
        let template = Template::parse(template).unwrap();
        let owned =
            |(label, words): &(&str, &[&str])| (label.to_string(), words.iter().map(|w| w.to_string()).collect());
        let labels: Vec<(String, Vec<String>)> = labels.iter().map(owned).collect();
        let glue = template.answer_glue();
        let head = Head::Verbalizer(Verbalizer::new(Path::new("x"), &labels, &tokenizer, glue, true).unwrap());
        let form = RowForm {
            max_tokens: 48,
            start: tokenizer.beginning().to_vec(),
            end: vec![],
            answer: head.answer_form(&ModelSpec::read(&directory).unwrap()),
        };
        let encoder = Encoder::new(&template, &tokenizer, form).unwrap();
        let encode = |(premise, hypothesis): &(&str, &str)| {
            let object = serde_json::json!({"premise": premise, "hypothesis": hypothesis}).to_string();
            let file: Arc<Path> = Path::new("x").into();
            encoder.encode(&Example::parse(object.as_bytes(), &file, 1).unwrap()).unwrap()
        };
        let rows = PREMISES.iter().map(encode).collect();
        let model = Model::load(&directory, &[], &device, Gradients::Inputs, &mut |_, _| {}).unwrap();
        let mut rng = Rng::new(5, Purpose::PromptInitialisation);
        let (count, shape) = (template.pseudo_rows(), EncoderShape::lama(EncoderKind::Mlp));
        let encoder = PromptEncoder::new(&device, &shape, count, model.embedding_width(), 1.0, &mut rng);
        let (prompt, frozen) = (encoder.forward(&device).0, template.begins_with_frozen_text());
        Scene { device, model, head, rows, prompt, frozen }
    }

    /// Every row by itself.
    fn apart(&self) -> Layout {
        pack_from(self.rows.iter().map(|row| (row, Beginning::Own)))
    }

    /// The rows behind their frozen text, and that text.
    fn behind(&self) -> (Layout, Past) {
        let text = |row: &Encoded| row.tokens[..row.before_pseudo()].to_vec();
        let texts: Vec<_> = self.rows.iter().map(|row| Encoded::row(text(row), 0)).collect();
        let mut at = 0;
        let past = texts.iter().map(|text| {
            at += text.tokens.len();
            Beginning::Past(at - text.tokens.len()..at)
        });
        (pack_from(self.rows.iter().zip(past)), self.model.run_past(&pack(&texts)))
    }

    /// Logits of the loss's columns, loss, and the prompt's gradient.
    fn step(&mut self, layout: &Layout, past: Option<&Past>) -> (Vec<f32>, f64, Vec<f32>) {
        let inject = Inject { prompt_embeds: Some(&self.prompt), past, ..Inject::default() };
        let columns = self.model.columns(self.head.columns(true), true);
        let (logits, saved) = self.model.forward(layout, &inject, &columns);
        let examples = layout.targets.len() / self.rows[0].answers.len();
        let targets: Vec<u32> = (0..examples as u32).map(|i| i % 2).collect();
        let loss = self.head.loss(&self.device, &logits, &targets);
        let gradients = self.model.backward(&loss.d_logits, &saved, layout, &inject, &columns);
        (logits.read().to_vec(), loss.mean, gradients.prompt_embeds.unwrap().read().to_vec())
    }
}

fn assert_close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let worst = got.iter().zip(want).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= 1e-5 * scale, "{what}: {worst:e} of {scale:e}");
}

#[test]
fn loss_and_gradient_are_those_of_rows_of_their_own() {
    for (case, template) in MODELS.into_iter().flat_map(|case| TEMPLATES.map(|template| (case, template))) {
        for labels in [&ONE_TOKEN[..], &SEVERAL_TOKENS] {
            let mut scene = Scene::new(case, template, labels, 2);
            let want = scene.step(&scene.apart(), None);
            let compare = |how: &str, got: (Vec<f32>, f64, Vec<f32>)| {
                let what = format!("{case}, {template}, {} labels, {how}", labels.len());
                assert_close(&format!("{what}: logits"), &got.0, &want.0);
                assert!((got.1 - want.1).abs() <= 1e-5 * want.1, "{what}: loss {} of {}", got.1, want.1);
                assert_close(&format!("{what}: gradient"), &got.2, &want.2);
            };
            compare("once a batch", scene.step(&pack(&scene.rows), None));
            if scene.frozen {
                let (layout, past) = scene.behind();
                compare("once a run", scene.step(&layout, Some(&past)));
            }
        }
    }
}

#[test]
fn no_row_is_computed_twice() {
    for labels in [&ONE_TOKEN[..], &SEVERAL_TOKENS] {
        let scene = Scene::new(GPT2, IN_FRONT, labels, 1);
        let rest: usize = scene.rows.iter().map(|row| row.tokens.len() - 3).sum();
        assert_eq!((pack(&scene.rows).rows(), scene.apart().rows()), (3 + rest, 5 * 3 + rest));
        let scene = Scene::new(GPT2, BETWEEN_WORDS, labels, 1);
        let leading = scene.rows[0].tokens.iter().rposition(|token| *token == Token::Pseudo(2)).unwrap() + 1;
        assert!(leading >= 5, "two words and three pseudo tokens");
        assert_eq!(pack(&scene.rows).rows(), scene.apart().rows() - 4 * leading);
        let scene = Scene::new(GPT2, TEXT_FIRST, labels, 1);
        let answers: usize = scene.rows[0].answers.len() - 1;
        assert_eq!(scene.behind().0.rows(), 5 * (3 + answers));
    }
}

#[test]
fn bits_depend_neither_on_neighbours_nor_on_threads() {
    for (case, template) in
        [GPT2, "mistral_embedding"].into_iter().flat_map(|case| TEMPLATES.map(|template| (case, template)))
    {
        let mut scene = Scene::new(case, template, &SEVERAL_TOKENS, 1);
        let together = scene.step(&pack(&scene.rows), None);
        let columns = together.0.len() / scene.rows.len();
        for (i, want) in together.0.chunks_exact(columns).enumerate() {
            let (alone, ..) = scene.step(&pack(&scene.rows[i..=i]), None);
            assert_eq!(alone, want, "{case}, {template}: example {i} alone");
        }
        for threads in 2..=4 {
            let mut scene = Scene::new(case, template, &SEVERAL_TOKENS, threads);
            assert!(scene.step(&pack(&scene.rows), None) == together, "{case}, {template}: {threads} threads");
        }
    }
}

/// A run of a few steps on the GPT-2, told to stop after `stop` steps and to go on. The bytes that must be the same.
fn run(directory: &Path, name: &str, overrides: &[(&str, &str)], stop: Option<usize>) -> Vec<Vec<u8>> {
    let overrides: Vec<_> = overrides.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let (file, out) = (directory.join("run.toml"), directory.join(name));
    let config = RunConfig::read(&file, &overrides).unwrap();
    let device = Device::processor(Some(1));
    let stopped = AtomicBool::new(false);
    let options = Options { resume: true, stop: Some(&stopped) };
    let mut stop_at = |event: Event<'_>| {
        if matches!(event, Event::Step { step, .. } if stop == Some(step)) {
            stopped.store(true, Ordering::Relaxed);
        }
    };
    let ended = run_with(&config, &file, &out, &device, options, &mut stop_at);
    if stop.is_some() {
        assert!(matches!(ended, Err(Error::Stopped { .. })));
        let options = Options { resume: true, stop: None };
        run_with(&config, &file, &out, &device, options, &mut |_| {}).unwrap();
    } else {
        ended.unwrap();
    }
    ["metrics.jsonl", "adapter/prompt.safetensors", "adapter/adapter.toml"]
        .map(|f| fs::read(out.join(f)).unwrap())
        .into()
}

/// A run of each kind of model: kept or run again, resumed, with windows and begin tokens.
#[test]
fn kept_or_run_again_a_run_gives_the_same_bytes() {
    for case in [GPT2, "mistral_embedding"] {
        kept_or_run_again(case);
    }
}

fn kept_or_run_again(case: &str) {
    let directory = tempfile::tempdir().unwrap();
    let rows = PREMISES.iter().enumerate().map(|(i, (premise, hypothesis))| {
        serde_json::json!({"premise": premise, "hypothesis": hypothesis, "label": (i % 2).to_string()}).to_string()
    });
    fs::write(directory.path().join("rows.jsonl"), rows.collect::<Vec<_>>().join("\n")).unwrap();
    let run_file = format!(
        "model = {:?}\n[data]\ntrain = \"rows.jsonl\"\ndev = \"rows.jsonl\"\nmax_tokens = 48\n[task]\ntemplate = {:?}\n\
         [task.verbalizer]\n0 = [\"yes\"]\n1 = [\"no\"]\n[train]\nsteps = 8\nbatch_size = 2\n",
        model_directory(case),
        SEVERAL_PLACES
    );
    fs::write(directory.path().join("run.toml"), run_file).unwrap();
    let run = |name: &str, overrides: &[(&str, &str)], stop| run(directory.path(), name, overrides, stop);
    let kept = run("kept", &[], None);
    assert!(run("again", &[("train.keep_mb", "0")], None) == kept, "{case}: nothing kept");
    assert!(run("stopped", &[], Some(4)) == kept, "{case}: resumed");
    // Switched off by dropout, and then the same as ever.
    let dropped = run("dropout", &[("backbone.dropout", "0.1")], None);
    assert!(
        dropped != kept && run("dropout2", &[("backbone.dropout", "0.1"), ("train.keep_mb", "0")], None) == dropped
    );
}
