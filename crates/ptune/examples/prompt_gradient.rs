//! The gradient of a prompt in f32 and in bf16, as JSON: what `reference/bf16_gradient.py` compares with PyTorch.
//!
//! cargo run --release --example prompt_gradient -- MODEL_DIR INPUT.json
//!
//! INPUT is `{"ids": [[...]], "answers": [...], "gold": [...], "prompt": [[...]]}`: rows of ids, where -1-k stands for
//! prompt row k; the row of [MASK] and the right token of each. The loss is the cross-entropy over all tokens.

use std::error::Error;

use ptune::Device;
use ptune::checkpoint::ModelDirectory;
use ptune::data::{Encoded, Token, pack};
use ptune::method::Head;
use ptune::model::{Gradients, Inject, Model};
use ptune::tensor::Precision;
use serde::Deserialize;

#[derive(Deserialize)]
struct Input {
    ids: Vec<Vec<i64>>,
    answers: Vec<usize>,
    gold: Vec<u32>,
    prompt: Vec<Vec<f32>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(input)) = (arguments.next(), arguments.next()) else {
        return Err("usage: prompt_gradient MODEL_DIR INPUT.json".into());
    };
    let directory = ModelDirectory::open(model.as_ref())?;
    let input: Input = serde_json::from_reader(std::fs::File::open(input)?)?;
    let gradients = Precision::ALL.map(|precision| gradient(&directory, &input, precision));
    let [single, half] = gradients;
    serde_json::to_writer(std::io::stdout().lock(), &serde_json::json!({"f32": single?, "bf16": half?}))?;
    Ok(())
}

fn gradient(directory: &ModelDirectory, input: &Input, precision: Precision) -> Result<Vec<f32>, Box<dyn Error>> {
    let device = Device::processor(None).with_precision(precision);
    let mut model = Model::load(directory, &[], &device, Gradients::Inputs, &mut |_, _| {})?;
    let columns = model.columns(None, true);
    let token = |id: &i64| if *id < 0 { Token::Pseudo((-1 - id) as u32) } else { Token::Id(*id as u32) };
    let rows = input.ids.iter().zip(&input.answers);
    let rows: Vec<Encoded> = rows.map(|(ids, answer)| Encoded::row(ids.iter().map(token).collect(), *answer)).collect();
    let layout = pack(&rows);
    let prompt = device.upload(input.prompt.len(), model.embedding_width(), &input.prompt.concat());
    let inject = Inject { prompt_embeds: Some(&prompt), ..Inject::default() };
    let (logits, saved) = model.forward(&layout, &inject, &columns);
    let head = Head::Vocabulary { candidates: None, restrict_loss: false };
    let loss = head.loss(&device, &logits, &input.gold);
    let gradients = model.backward(&loss.d_logits, &saved, &layout, &inject, &columns);
    Ok(gradients.prompt_embeds.ok_or("no gradient")?.read().to_vec())
}
