//! Texts as they are written: greedy ones against transformers (`reference/text_answers.py`) and against running everything
//! again for every token; drawn ones whatever is written with them; and a task that is learned until every answer is right.

use std::fs;
use std::path::{Path, PathBuf};

use ptune::checkpoint::{ModelDirectory, Tokenizer};
use ptune::data::{Encoded, Encoder, Example, RowForm, Token, pack};
use ptune::generate::{Ended, Sampling, Writer, Writing, Written};
use ptune::model::{Columns, Gradients, Inject, Model};
use ptune::predict::Predictor;
use ptune::prompt::{AnswerForm, Template};
use ptune::train::metrics::{Metrics, argmax};
use ptune::train::{self, RunConfig};
use ptune::{Device, Tensor};
use safetensors::SafeTensors;
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn case() -> Value {
    serde_json::from_str(&fs::read_to_string(golden("gpt2_text").join("case.json")).unwrap()).unwrap()
}

/// The questions of the case, or of another template, over a small GPT-2, and the rows that ten updates have made.
struct Scene {
    device: Device,
    model: Model,
    columns: Columns,
    tokenizer: Tokenizer,
    rows: Vec<Encoded>,
    prompt: Tensor,
}

impl Scene {
    fn new(model: &str, template: Option<&str>, threads: usize) -> Scene {
        let (case, device) = (case(), Device::processor(Some(threads)));
        let directory = ModelDirectory::open(&golden(model).join("model")).unwrap();
        let tokenizer = Tokenizer::open(directory.path()).unwrap();
        let template = Template::parse(template.unwrap_or(case["template"].as_str().unwrap())).unwrap();
        let size = |key: &str| case[key].as_u64().unwrap() as usize;
        let answer = AnswerForm::Text { longest: size("answer_tokens") };
        let form = RowForm { max_tokens: size("max_tokens"), start: vec![], end: vec![], answer };
        let encoder = Encoder::new(&template, &tokenizer, form).unwrap();
        let file = Path::new("case.json").into();
        let row = |row: &Value| encoder.encode(&Example::parse(row.to_string().as_bytes(), &file, 1).unwrap()).unwrap();
        let rows = case["examples"].as_array().unwrap().iter().map(row).collect();
        let model = Model::load(&directory, &[], &device, Gradients::None, &mut |_, _| {}).unwrap();
        let columns = model.columns(None, false);
        let bytes = fs::read(golden("gpt2_text").join("golden.safetensors")).unwrap();
        let bytes = SafeTensors::deserialize(&bytes).unwrap().tensor("prompt.final").unwrap().data().to_vec();
        let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let (count, width) = (template.pseudo_rows(), model.embedding_width());
        let values: Vec<f32> = values.into_iter().cycle().take(count * width).collect();
        let prompt = device.upload(count, width, &values);
        Scene { device, model, columns, tokenizer, rows, prompt }
    }

    fn inject(&self) -> Inject<'_> {
        Inject { prompt_embeds: Some(&self.prompt), ..Inject::default() }
    }

    /// The texts of some of the questions, written together.
    fn write(&self, which: &[usize], writing: &Writing) -> Vec<Written> {
        let Scene { device, model, columns, tokenizer, .. } = self;
        let end = tokenizer.special().eos.unwrap();
        let writer = Writer { device, model, columns, inject: self.inject(), tokenizer, end };
        let rows: Vec<&Encoded> = which.iter().map(|&i| &self.rows[i]).collect();
        let mut texts = Vec::new();
        writer.write(&rows, which, writing, &mut |_, _, _| {}, |_, text| texts.push(text)).unwrap();
        texts
    }

    /// The same of one question, greedy, with everything run again for every token.
    fn write_from_scratch(&self, question: usize, longest: usize) -> Vec<u32> {
        let mut written = Vec::new();
        let mut tokens = self.rows[question].tokens.clone();
        while written.len() < longest && tokens.len() <= self.model.spec().positions {
            let last = tokens.len() - 1;
            let layout = pack([&Encoded::row(tokens.clone(), last)]);
            let token = argmax(self.model.logits(&layout, &self.inject(), &self.columns).read()) as u32;
            if Some(token) == self.tokenizer.special().eos {
                break;
            }
            written.push(token);
            tokens.push(Token::Id(token));
        }
        written
    }
}

fn greedy(longest: usize) -> Writing {
    Writing { longest, sampling: None, stops: Vec::new() }
}

#[test]
fn greedy_texts_are_those_of_transformers() {
    let (case, scene) = (case(), Scene::new("gpt2_embedding", None, 2));
    let longest = case["most_new"].as_u64().unwrap() as usize;
    let texts = scene.write(&[0, 1, 2, 3], &greedy(longest));
    for (i, text) in texts.iter().enumerate() {
        let ids = case["generated"][i].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32);
        let ids: Vec<u32> = ids.collect();
        assert_eq!(scene.write_from_scratch(i, longest), ids, "question {i}");
        assert_eq!(text.text, scene.tokenizer.decode(&ids), "question {i}");
        assert_eq!((text.tokens, text.ended), (longest, Ended::Length), "question {i}");
    }
    assert!(texts[0].text != texts[1].text && texts[0].text != texts[2].text, "all are alike");
}

/// With several blocks, rotary positions, windows that end within what is kept; where the template is shared, where it has text
/// first, and where rows have no pseudo tokens.
#[test]
fn kept_keys_and_values_give_the_texts_of_running_everything_again() {
    let templates =
        ["[P*3] {premise|shorten} [MASK]", "{premise|shorten} [P*3] the [MASK]", "It was {premise|shorten} [MASK]"];
    let models = [
        "gpt2_mlp",
        "gpt2_lstm",
        "gpt2_embedding",
        "neox_embedding",
        "mistral_embedding",
        "qwen2_embedding",
        "qwen3_embedding",
    ];
    for (model, template) in models.into_iter().flat_map(|m| templates.map(|t| (m, t))) {
        let scene = Scene::new(model, Some(template), 1);
        // More than the positions that are left.
        for (i, text) in scene.write(&[0, 1, 2, 3], &greedy(60)).iter().enumerate() {
            let tokens = scene.write_from_scratch(i, 60);
            assert_eq!(text.text, scene.tokenizer.decode(&tokens), "{model}, {template}, question {i}");
            assert_eq!(text.tokens, tokens.len(), "{model}, {template}, question {i}");
            let all = scene.rows[i].tokens.len() + tokens.len();
            assert_eq!(text.ended == Ended::Length, all == scene.model.spec().positions + 1, "question {i}");
        }
    }
}

#[test]
fn a_drawn_text_follows_from_its_seed_whatever_is_written_with_it() {
    let drawn = |seed| {
        let sampling = Sampling { temperature: 1.5, top_k: Some(50), top_p: Some(0.99), seed };
        Writing { longest: 9, sampling: Some(sampling), stops: Vec::new() }
    };
    for template in ["[P*3] {premise|shorten} [MASK]", "{premise|shorten} [P*3] the [MASK]"] {
        let scene = Scene::new("gpt2_embedding", Some(template), 1);
        let together = scene.write(&[0, 1, 2, 3], &drawn(5));
        for i in 0..4 {
            assert_eq!(scene.write(&[i], &drawn(5)), together[i..=i], "{template}, question {i}");
        }
        assert_eq!(scene.write(&[3, 1], &drawn(5)), [together[3].clone(), together[1].clone()], "in another order");
        assert_ne!(scene.write(&[0, 1, 2, 3], &drawn(6)), together, "another seed");
        for threads in 2..=4 {
            let scene = Scene::new("gpt2_embedding", Some(template), threads);
            assert_eq!(scene.write(&[0, 1, 2, 3], &drawn(5)), together, "{threads} threads");
        }
        // Another line draws otherwise.
        let same: Vec<Written> = [0, 1, 2].map(|number| write_as(&scene, number, &drawn(5))).into();
        assert!(same[0] != same[1] || same[1] != same[2], "{same:?}");
    }
}

/// The text of the first question as that of another line.
fn write_as(scene: &Scene, number: usize, writing: &Writing) -> Written {
    let Scene { device, model, columns, tokenizer, .. } = scene;
    let end = tokenizer.special().eos.unwrap();
    let writer = Writer { device, model, columns, inject: scene.inject(), tokenizer, end };
    let mut texts = Vec::new();
    writer.write(&[&scene.rows[0]], &[number], writing, &mut |_, _, _| {}, |_, text| texts.push(text)).unwrap();
    texts.remove(0)
}

#[test]
fn a_stop_string_ends_one_text_and_not_the_others() {
    let scene = Scene::new("gpt2_embedding", None, 1);
    let whole = scene.write(&[0, 1, 2, 3], &greedy(12));
    let stop: String = whole[0].text.chars().skip(4).take(3).collect();
    let writing = Writing { stops: vec!["no such text".into(), stop.clone()], ..greedy(12) };
    for (text, whole) in scene.write(&[0, 1, 2, 3], &writing).iter().zip(&whole) {
        match whole.text.find(&stop) {
            Some(at) => {
                assert_eq!((text.text.as_str(), text.ended), (whole.text[..at].trim(), Ended::Stop));
                assert!(text.tokens < whole.tokens);
            }
            None => assert_eq!(text, whole),
        }
    }
}

/// What a small model that is trained along came to after some steps, and the texts it writes.
fn learned(steps: usize) -> (Metrics, Vec<Written>) {
    let (directory, case) = (tempfile::tempdir().unwrap(), case());
    let lines: Vec<String> = case["examples"].as_array().unwrap().iter().map(Value::to_string).collect();
    fs::write(directory.path().join("rows.jsonl"), lines.join("\n")).unwrap();
    let run_file = format!(
        "model = {:?}\n[data]\ntrain = \"rows.jsonl\"\ntest = \"rows.jsonl\"\nmax_tokens = 44\n\
         [task]\ntemplate = \"[P*2] {{premise|shorten}} [MASK]\"\ntarget = \"answer\"\nanswer = \"text\"\nanswer_tokens = 14\n\
         [backbone]\nmode = \"full\"\n[train]\nsteps = {steps}\nbatch_size = 4\nlearning_rate = 1e-2\n\
         backbone_learning_rate = 1e-2\nselect = \"exact_match\"\n",
        golden("gpt2_lstm").join("model"),
    );
    fs::write(directory.path().join("run.toml"), run_file).unwrap();
    let (file, out) = (directory.path().join("run.toml"), directory.path().join("out"));
    let device = Device::processor(Some(2));
    let config = RunConfig::read(&file, &[]).unwrap();
    let test = train::run(&config, &file, &out, &device, &mut |_| {}).unwrap().test.unwrap();
    let predictor = Predictor::open(&out.join("adapter"), None, &device, &mut |_, _| {}).unwrap();
    let place = Path::new("case.json").into();
    let rows = case["examples"].as_array().unwrap().iter().map(|row| {
        let example = Example::parse(row.to_string().as_bytes(), &place, 1).unwrap();
        predictor.encoder().unwrap().encode(&example)
    });
    let texts = predictor.generate(rows.collect(), &[0, 1, 2, 3], &greedy(30), &mut |_, _, _| {}).unwrap();
    (test, texts.into_iter().map(Result::unwrap).collect())
}

#[test]
fn exact_match_counts_what_is_written_as_it_is_and_rises_to_all() {
    let case = case();
    let answers: Vec<&str> =
        case["examples"].as_array().unwrap().iter().map(|row| row["answer"].as_str().unwrap()).collect();
    let mut shares = Vec::new();
    for steps in [1, 10, 14, 60] {
        let (metrics, texts) = learned(steps);
        let right =
            texts.iter().zip(&answers).filter(|(text, answer)| text.text == **answer && text.ended == Ended::End);
        let share = right.count() as f64 / 4.0;
        assert_eq!(metrics.get("exact_match"), Some(share), "after {steps} steps: {texts:?}");
        shares.push(share);
    }
    assert_eq!((shares[0], shares[shares.len() - 1]), (0.0, 1.0));
    assert!(shares.iter().any(|share| (0.1..0.9).contains(share)), "all or nothing was tested: {shares:?}");
}
