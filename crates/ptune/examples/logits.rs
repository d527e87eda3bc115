//! Logits of a model directory at the [MASK] of each sentence of a file (of a causal model, those of the row before it,
//! where there is one), as JSON: what `reference/logits.py --against`
//! compares with transformers.
//!
//! cargo run --release --example logits -- MODEL_DIR reference/sentences.txt > logits.json

use std::error::Error;

use ptune::Device;
use ptune::checkpoint::{Glue, ModelDirectory, Tokenizer};
use ptune::model::{Gradients, Inject, Model};
use ptune::ops::{Layout, Span};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: logits MODEL_DIR SENTENCES.txt".into());
    };
    let device = Device::processor(None);
    let directory = ModelDirectory::open(model.as_ref())?;
    let tokenizer = Tokenizer::open(directory.path())?;
    let model = Model::load(&directory, &[], &device, Gradients::None, &mut |_, _| {})?;
    let columns = model.columns(None, false);
    let text = std::fs::read_to_string(file)?;
    let causal = model.spec().causal;
    let usable = |line: &&str| !(line.trim().is_empty() || causal && line.starts_with("[MASK]"));
    let sentences: Vec<&str> = text.lines().filter(usable).collect();
    // All sentences in one batch: rows without padding.
    let mut layout = Layout::default();
    for sentence in &sentences {
        let (before, after) = sentence.split_once("[MASK]").ok_or("a sentence without [MASK]")?;
        let mut ids = tokenizer.encode(before, Glue::Start)?;
        if causal {
            layout.targets.push((layout.rows() + ids.len() - 1) as u32);
        } else {
            let special = tokenizer.special();
            ids.insert(0, special.cls.ok_or("no class token")?);
            layout.targets.push((layout.rows() + ids.len()) as u32);
            ids.push(special.mask.ok_or("no mask token")?);
            // Behind the mask WordPiece begins a word anew in any case, as transformers does.
            ids.extend(tokenizer.encode(after, if after.starts_with(' ') { Glue::Space } else { Glue::Start })?);
            ids.push(special.sep.ok_or("no separator token")?);
        }
        let rows = layout.rows()..layout.rows() + ids.len();
        layout.positions.extend(0..ids.len() as u32);
        layout.spans.push(Span { end: rows.end, rows, parent: None, past: 0..0 });
        layout.ids.extend(ids);
    }
    let (logits, _) = model.forward(&layout, &Inject::default(), &columns);
    let rows: Vec<&[f32]> = logits.read().chunks_exact(columns.count()).collect();
    serde_json::to_writer(std::io::stdout().lock(), &serde_json::json!({"sentences": sentences, "logits": rows}))?;
    Ok(())
}
