//! Answers that are texts: rows, loss, gradient and ten updates against PyTorch (`reference/text_answers.py`), the gradient
//! against differences of the loss, the same numbers however the beginning of a row is computed, and whole runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ptune::checkpoint::ModelDirectory;
use ptune::data::{Beginning, Dataset, Encoded, Labelled, Token, pack, pack_from};
use ptune::method::Prompt;
use ptune::model::spec::ModelSpec;
use ptune::model::{Gradients, Inject, Model, Past};
use ptune::ops::Layout;
use ptune::prompt::AnswerKind;
use ptune::prompt::encoder::{EncoderKind, EncoderShape, PromptEncoder};
use ptune::rng::{Purpose, Rng};
use ptune::train::config::{DataConfig, OptimizerKind, TaskConfig};
use ptune::train::{Batch, Event, GroupRecipe, Options, Recipe, RunConfig, Task, Trainer, run_with};
use ptune::{Device, Error, Tensor};
use safetensors::SafeTensors;
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The case, its task over a small GPT-2, and its rows.
struct Scene {
    json: Value,
    device: Device,
    model: Model,
    task: Task,
    data: Dataset,
}

impl Scene {
    fn new(threads: usize) -> Scene {
        Scene::with_template(None, threads)
    }

    fn with_template(template: Option<&str>, threads: usize) -> Scene {
        let json = fs::read_to_string(golden("gpt2_text").join("case.json")).unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        let size = |key: &str| Some(json[key].as_u64().unwrap() as usize);
        let task = TaskConfig {
            template: template.unwrap_or(json["template"].as_str().unwrap()).into(),
            target: "answer".into(),
            answer: Some(AnswerKind::Text),
            answer_tokens: size("answer_tokens"),
            ..TaskConfig::default()
        };
        let data = DataConfig { max_tokens: size("max_tokens"), ..DataConfig::default() };
        let config = RunConfig { task, data, ..RunConfig::default() };
        let directory = ModelDirectory::open(&golden("gpt2_embedding").join("model")).unwrap();
        let spec = ModelSpec::read(&directory).unwrap();
        let task = Task::from_run(&config, Path::new("run.toml"), &directory, &spec).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let lines: Vec<String> = json["examples"].as_array().unwrap().iter().map(Value::to_string).collect();
        fs::write(scratch.path().join("rows.jsonl"), lines.join("\n")).unwrap();
        let data = task.dataset(&scratch.path().join("rows.jsonl")).unwrap();
        let device = Device::processor(Some(threads));
        let model = Model::load(&directory, &[], &device, Gradients::Inputs, &mut |_, _| {}).unwrap();
        Scene { json, device, model, task, data }
    }

    fn rows(&self) -> Vec<&Encoded> {
        self.data.examples.iter().map(|row| &row.encoded).collect()
    }

    fn targets(&self) -> Vec<u32> {
        self.data.examples.iter().flat_map(|row| row.targets.clone()).collect()
    }

    fn tensor(&self, name: &str) -> Vec<f32> {
        let bytes = fs::read(golden("gpt2_text").join("golden.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let bytes = file.tensor(name).unwrap().data().to_vec();
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    /// The rows of the case's prompt, or of any other of this template.
    fn prompt(&self) -> Tensor {
        let (rows, width) = (self.task.template.pseudo_rows(), self.model.embedding_width());
        let mut values = self.tensor("prompt");
        values.truncate(rows * width);
        self.device.upload(rows, width, &values)
    }

    /// Logits, loss, and the prompt's gradient.
    fn step(&mut self, prompt: &Tensor, layout: &Layout, past: Option<&Past>) -> (Vec<f32>, f64, Vec<f32>) {
        let inject = Inject { prompt_embeds: Some(prompt), past, ..Inject::default() };
        let columns = self.model.columns(None, true);
        let (logits, saved) = self.model.forward(layout, &inject, &columns);
        let loss = self.task.head.loss(&self.device, &logits, &self.targets());
        let gradients = self.model.backward(&loss.d_logits, &saved, layout, &inject, &columns);
        (logits.read().to_vec(), loss.mean, gradients.prompt_embeds.unwrap().read().to_vec())
    }
}

fn assert_close(what: &str, got: &[f32], want: &[f32], limit: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let worst = got.iter().zip(want).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= limit * scale, "{what}: {worst:e} of {scale:e}");
}

fn ids(list: &Value) -> Vec<i64> {
    list.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
}

#[test]
fn rows_loss_gradient_and_ten_updates_are_those_of_pytorch() {
    let mut scene = Scene::new(2);
    for (i, Labelled { encoded, targets }) in scene.data.examples.iter().enumerate() {
        let id = |token: &Token| match token {
            Token::Id(id) => i64::from(*id),
            Token::Pseudo(row) => -1 - i64::from(*row),
        };
        assert_eq!(encoded.tokens.iter().map(id).collect::<Vec<_>>(), ids(&scene.json["ids"][i]), "row {i}");
        let targets: Vec<i64> = targets.iter().map(|id| i64::from(*id)).collect();
        assert_eq!(targets, ids(&scene.json["answers"][i]), "answer {i}");
        let first = encoded.tokens.len() - targets.len();
        assert_eq!(encoded.answers, (first..first + targets.len()).collect::<Vec<_>>());
    }
    let losses: Vec<f64> = scene.json["losses"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    let (layout, prompt) = (pack(scene.rows()), scene.prompt());
    let (logits, loss, gradient) = scene.step(&prompt, &layout, None);
    assert_close("logits", &logits, &scene.tensor("logits"), 1e-4);
    assert!((loss - losses[0]).abs() < 1e-4 * losses[0], "{loss}, PyTorch {}", losses[0]);
    assert_close("gradient", &gradient, &scene.tensor("prompt.grad"), 1e-4);

    let mut rng = Rng::new(0, Purpose::PromptInitialisation);
    let shape = EncoderShape::lama(EncoderKind::Embedding);
    let mut table = PromptEncoder::new(&scene.device, &shape, prompt.rows(), prompt.columns(), 1.0, &mut rng);
    table.parameters_mut()[0].value = prompt;
    let group = GroupRecipe { learning_rate: scene.json["learning_rate"].as_f64().unwrap(), weight_decay: 0.0 };
    let recipe = Recipe { kind: OptimizerKind::AdamW, clip_norm: 0.0, prompt: group, backbone: group, head: group };
    let (targets, last) = (scene.targets(), scene.tensor("prompt.final"));
    let Scene { device, model, task, .. } = scene;
    let (mut trainer, mut learners) = Trainer::new(model, vec![(Prompt::from(table), &task.head, recipe)], &device);
    for (step, want) in losses.into_iter().enumerate() {
        let batch = Batch { layout: layout.clone(), targets: targets.clone(), share: 1.0 };
        let loss = trainer.step(&mut [&mut learners[0]], vec![batch], None)[0];
        assert!((loss - want).abs() <= 1e-4 * want, "loss of step {step}: {loss}, PyTorch {want}");
    }
    assert_close("the trained rows", learners[0].prompt.parameters().next().unwrap().value.read(), &last, 1e-4);
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    let mut scene = Scene::new(1);
    let (layout, prompt) = (pack(scene.rows()), scene.prompt());
    let (_, _, gradient) = scene.step(&prompt, &layout, None);
    let scale = gradient.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    for at in (0..gradient.len()).step_by(7) {
        let mut loss_at = |offset: f32| {
            let mut values = prompt.read().to_vec();
            values[at] += offset;
            let moved = scene.device.upload(prompt.rows(), prompt.columns(), &values);
            scene.step(&moved, &layout, None).1
        };
        let slope = (loss_at(2e-3) - loss_at(-2e-3)) / 4e-3;
        let difference = (slope - f64::from(gradient[at])).abs();
        assert!(difference < 1e-2 * f64::from(scale), "element {at}: slope {slope}, gradient {}", gradient[at]);
    }
}

#[test]
fn however_the_beginning_is_computed_the_numbers_are_the_same() {
    for template in
        ["[P*3] {premise|shorten} [MASK]", "{premise|shorten} [P*3] [MASK]", "It was {premise|shorten} [P*2] a [MASK]"]
    {
        let mut scene = Scene::with_template(Some(template), 2);
        let (prompt, rows) = (scene.prompt(), scene.data.examples.clone());
        let apart = pack_from(rows.iter().map(|row| (&row.encoded, Beginning::Own)));
        let want = scene.step(&prompt, &apart, None);
        let compare = |how: &str, got: (Vec<f32>, f64, Vec<f32>)| {
            assert_close(&format!("{template}, {how}: logits"), &got.0, &want.0, 1e-5);
            assert!((got.1 - want.1).abs() <= 1e-5 * want.1, "{template}, {how}: loss");
            assert_close(&format!("{template}, {how}: gradient"), &got.2, &want.2, 1e-5);
        };
        let shared = pack(scene.rows());
        assert_eq!(shared.rows() < apart.rows(), !template.starts_with('{'), "{template}");
        compare("once a batch", scene.step(&prompt, &shared, None));
        if scene.task.template.begins_with_frozen_text() {
            let text = |row: &Labelled| row.encoded.tokens[..row.encoded.before_pseudo()].to_vec();
            let texts: Vec<_> = rows.iter().map(|row| Encoded::row(text(row), 0)).collect();
            let mut at = 0;
            let place = texts.iter().map(|text| {
                at += text.tokens.len();
                Beginning::Past(at - text.tokens.len()..at)
            });
            let layout = pack_from(rows.iter().map(|row| &row.encoded).zip(place));
            let past = scene.model.run_past(&pack(&texts));
            compare("once a run", scene.step(&prompt, &layout, Some(&past)));
        }
    }
}

#[test]
fn bits_depend_neither_on_neighbours_nor_on_threads() {
    let mut scene = Scene::new(1);
    let (layout, prompt) = (pack(scene.rows()), scene.prompt());
    let together = scene.step(&prompt, &layout, None);
    for threads in 2..=4 {
        let mut scene = Scene::new(threads);
        assert!(scene.step(&scene.prompt(), &layout, None) == together, "{threads} threads");
    }
    let columns = scene.model.columns(None, false);
    let inject = Inject { prompt_embeds: Some(&prompt), ..Inject::default() };
    let mut rest = &together.0[..];
    for (i, row) in scene.rows().into_iter().enumerate() {
        let alone = scene.model.logits(&pack([row]), &inject, &columns);
        let (own, behind) = rest.split_at(alone.read().len());
        assert!(alone.read() == own, "example {i}");
        rest = behind;
    }
}

/// A run of some steps over the rows of the case, told to stop after `stop` steps and to go on; the bytes of its results.
fn run(directory: &Path, name: &str, threads: usize, overrides: &[(&str, &str)], stop: Option<usize>) -> Vec<Vec<u8>> {
    let overrides: Vec<_> = overrides.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let (file, out) = (directory.join("run.toml"), directory.join(name));
    let config = RunConfig::read(&file, &overrides).unwrap();
    let (device, stopped) = (Device::processor(Some(threads)), AtomicBool::new(false));
    let options = Options { resume: true, stop: Some(&stopped) };
    let ended = run_with(&config, &file, &out, &device, options, &mut |event| {
        if matches!(event, Event::Step { step, .. } if stop == Some(step)) {
            stopped.store(true, Ordering::Relaxed);
        }
    });
    if stop.is_some() {
        assert!(matches!(ended, Err(Error::Stopped { .. })));
        run_with(&config, &file, &out, &device, Options { resume: true, stop: None }, &mut |_| {}).unwrap();
    } else {
        ended.unwrap();
    }
    let files = ["metrics.jsonl", "adapter/prompt.safetensors", "adapter/adapter.toml"];
    files.map(|file| fs::read(out.join(file)).unwrap()).into()
}

/// A run file over the rows of the case, which also are its dev and test rows.
fn write_run(directory: &Path, template: &str) {
    let json: Value =
        serde_json::from_str(&fs::read_to_string(golden("gpt2_text").join("case.json")).unwrap()).unwrap();
    let lines: Vec<String> = json["examples"].as_array().unwrap().iter().map(Value::to_string).collect();
    fs::write(directory.join("rows.jsonl"), lines.join("\n")).unwrap();
    let run_file = format!(
        "model = {:?}\n[data]\ntrain = \"rows.jsonl\"\ndev = \"rows.jsonl\"\ntest = \"rows.jsonl\"\nmax_tokens = 44\n\
         [task]\ntemplate = {template:?}\ntarget = \"answer\"\nanswer = \"text\"\nanswer_tokens = {}\n[train]\n\
         steps = 8\nbatch_size = 2\nlearning_rate = 0.02\n",
        golden("gpt2_embedding").join("model"),
        json["answer_tokens"],
    );
    fs::write(directory.join("run.toml"), run_file).unwrap();
}

#[test]
fn a_run_gives_the_same_bytes_resumed_and_with_other_threads_and_whatever_is_kept() {
    for template in ["[P*3] {premise|shorten} [MASK]", "{premise|shorten} [P*3] [MASK]"] {
        let directory = tempfile::tempdir().unwrap();
        write_run(directory.path(), template);
        let run = |name: &str, threads, overrides: &[_], stop| run(directory.path(), name, threads, overrides, stop);
        let whole = run("whole", 1, &[], None);
        assert!(run("stopped", 1, &[], Some(3)) == whole, "{template}: resumed");
        assert!(run("threads", 3, &[], None) == whole, "{template}: threads");
        assert!(run("again", 1, &[("train.keep_mb", "0")], None) == whole, "{template}: nothing kept");
        let log = String::from_utf8(whole[0].clone()).unwrap();
        let evaluations: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let perplexity = |line: &Value, rows: &str| line[rows]["perplexity"].as_f64();
        let dev: Vec<f64> = evaluations.iter().filter_map(|line| perplexity(line, "dev")).collect();
        let best = dev.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(best < 0.95 * dev[0], "{template}: nothing was learned, {dev:?}");
        assert_eq!(perplexity(evaluations.last().unwrap(), "test"), Some(best), "the smallest is the best");
    }
}
