//! What an adapter of a bundle answered when it was added, and whether it still does, over the base model that is there.
//!
//! Where no rows are given, each field is filled with short texts of several lengths: they say nothing, but another model,
//! another tokenizer or another prompt scores them differently. Of a text, the scores are those of its first token.

use crate::adapter::bundle::Golden;
use crate::data::Example;
use crate::predict::Predictor;
use crate::{Error, Result};

/// Of a whole vocabulary, the highest scores.
const KEPT_SCORES: usize = 16;
/// Texts for fields; the language does not matter to a hash-like comparison, but Hangul takes other tokens.
const TEXTS: [&str; 3] = ["the cat sat by the door", "비가 왔다 .", "no"];
/// Instruction sets round differently: relative to 1 + the size of a score.
const F32_TOLERANCE: f32 = 1e-4;
const BF16_TOLERANCE: f32 = 0.05;

/// What a comparison found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verified {
    /// Golden rows.
    pub rows: usize,
    /// The largest difference of a score.
    pub difference: f32,
    /// Whether it is within what another processor may do.
    pub same: bool,
}

/// The golden rows of an adapter: of these examples, or of texts made up for its fields.
///
/// # Errors
/// An example that lacks a field or does not fit.
pub fn golden(predictor: &Predictor, examples: &[Example]) -> Result<Vec<Golden>> {
    let names = predictor.fields();
    let fields: Vec<Vec<(String, String)>> = if examples.is_empty() {
        let text = |row: usize, field: usize| TEXTS[(row + field) % TEXTS.len()].to_owned();
        let fields = |row| names.iter().enumerate().map(|(i, name)| ((*name).to_owned(), text(row, i))).collect();
        (0..TEXTS.len()).map(fields).collect()
    } else {
        let texts = |example: &Example| {
            names.iter().map(|name| Ok(((*name).to_owned(), example.text(name)?.into_owned()))).collect()
        };
        examples.iter().map(texts).collect::<Result<_>>()?
    };
    let made: Vec<Example> = fields.iter().map(|fields| Example::from_fields(fields.clone())).collect();
    let scores = predictor.scores(&made)?;
    Ok(fields.into_iter().zip(scores).map(|(fields, scores)| Golden { fields, scores: highest(&scores) }).collect())
}

/// Asks an adapter its golden rows again.
///
/// # Errors
/// Rows that do not fit this adapter; scores that are not finite.
pub fn verify(predictor: &Predictor, golden: &[Golden]) -> Result<Verified> {
    let examples: Vec<Example> = golden.iter().map(|row| Example::from_fields(row.fields.clone())).collect();
    let tolerance = if predictor.is_narrow() { BF16_TOLERANCE } else { F32_TOLERANCE };
    let (mut difference, mut same) = (0.0_f32, true);
    for (row, scores) in golden.iter().zip(predictor.scores(&examples)?) {
        for &(number, before) in &row.scores {
            let Some(now) = scores.get(number) else {
                return Err(Error::request(format!("a golden row has an answer {number}, which the adapter has not")));
            };
            difference = difference.max((now - before).abs());
            same &= (now - before).abs() <= tolerance * (1.0 + before.abs());
        }
    }
    Ok(Verified { rows: golden.len(), difference, same })
}

/// All scores of labels; of many candidates the highest, the highest first.
fn highest(scores: &[f32]) -> Vec<(usize, f32)> {
    let mut numbered: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
    if numbered.len() > KEPT_SCORES {
        numbered.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        numbered.truncate(KEPT_SCORES);
    }
    numbered
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::exchange::{TaskFrom, import_peft};
    use crate::tensor::Device;
    use crate::train::RunConfig;
    use crate::train::config::{DataConfig, TaskConfig};

    /// An adapter that PEFT saved, as one of ptune.
    fn imported(name: &str, template: &str) -> TempDir {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let task = TaskConfig { template: template.into(), ..TaskConfig::default() };
        let data = DataConfig { train: "none".into(), ..DataConfig::default() };
        let model = golden.join("gpt2_mlp/model");
        let config = RunConfig { model, data, task, ..RunConfig::default() }.checked().unwrap();
        let out = TempDir::new().unwrap();
        let from = TaskFrom::Run(&config, Path::new("run.toml"));
        import_peft(&golden.join("peft").join(name), None, from, None, out.path()).unwrap();
        out
    }

    /// The second adapter answers over the model of the first as over one of its own.
    #[test]
    fn adapters_share_a_base() {
        let first = imported("prompt_tuning", "[P*4] {text} is [MASK]");
        let second = imported("prefix", " {text} is [MASK]");
        let device = Device::processor(Some(1));
        let alone = Predictor::open(second.path(), None, &device, &mut |_, _| {}).unwrap();
        let golden = golden(&alone, &[]).unwrap();
        let before = Predictor::open(first.path(), None, &device, &mut |_, _| {}).unwrap();
        let after = before.beside(second.path()).unwrap().expect("the same model");
        let found = verify(&after, &golden).unwrap();
        assert_eq!((found.rows, found.difference, found.same), (3, 0.0, true));
        assert!(!verify(&before, &golden).unwrap().same);
    }
}
