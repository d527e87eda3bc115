//! A checkpoint with random weights: `config.json` and tensors as transformers has them for BERT and GPT-2.
//!
//! Weights and tables are normal with deviation 0.02, norms 1 and 0, biases 0, as both papers begin. Each tensor has a
//! stream of random numbers of its own, by its place in the list.

mod bert;
mod gpt2;

use std::path::Path;

use serde_json::{Map, Value, json};

use super::config::{Dtype, Layout, ModelConfig};
use super::saved::{self, Named};
use super::tokenizer::TrainedTokenizer;
use crate::checkpoint::ModelDirectory;
use crate::model::spec::ModelSpec;
use crate::rng::{Purpose, Rng};
use crate::{Error, Result};

/// The deviation of random weights, `initializer_range` of both families.
const DEVIATION: f32 = 0.02;
/// What drops while somebody trains the model further; this program asks its run file instead.
const DROPOUT: f64 = 0.1;

/// A tensor of the checkpoint.
struct Initial {
    name: String,
    shape: Vec<usize>,
    values: Values,
}

/// What it holds at first.
#[derive(Clone, Copy)]
enum Values {
    Zeros,
    Ones,
    /// Normal numbers of this deviation.
    Normal(f32),
}

impl Initial {
    fn new(name: impl Into<String>, shape: &[usize], values: Values) -> Initial {
        Initial { name: name.into(), shape: shape.into(), values }
    }

    /// The weight and the bias of a linear layer.
    fn linear(name: &str, shape: [usize; 2], outputs: usize, deviation: f32) -> [Initial; 2] {
        let weight = Initial::new(format!("{name}.weight"), &shape, Values::Normal(deviation));
        [weight, Initial::new(format!("{name}.bias"), &[outputs], Values::Zeros)]
    }

    /// A norm.
    fn norm(name: &str, width: usize) -> [Initial; 2] {
        [("weight", Values::Ones), ("bias", Values::Zeros)]
            .map(|(part, values)| Initial::new(format!("{name}.{part}"), &[width], values))
    }

    fn fill(&self, place: u32, seed: u64, out: &mut Vec<f32>) {
        let count = self.shape.iter().product();
        out.clear();
        match self.values {
            Values::Zeros => out.resize(count, 0.0),
            Values::Ones => out.resize(count, 1.0),
            Values::Normal(deviation) => {
                let mut rng = Rng::new(seed, Purpose::ModelInitialisation(place));
                out.extend((0..count).map(|_| rng.normal() * deviation));
            }
        }
    }
}

/// Writes the initial model of a run, in f32, as a Hugging Face directory.
///
/// # Errors
/// A failed write.
pub(super) fn write(
    directory: &Path,
    model: &ModelConfig,
    layout: Layout,
    tokenizer: &TrainedTokenizer,
    seed: u64,
) -> Result<()> {
    let (config, tensors) = match layout {
        Layout::Bert => (bert::config(model, tokenizer.size), bert::tensors(model, tokenizer.size)),
        Layout::Gpt2 => (gpt2::config(model, tokenizer), gpt2::tensors(model, tokenizer.size)),
    };
    let files = tokenizer.files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
    saved::write(directory, config, files, Dtype::F32, &mut filled(&tensors, seed))
}

/// Writes what `like` was before it learned anything: a model of its shape with random weights, and its tokenizer.
///
/// # Errors
/// A family that is not made here; a failed write.
pub(crate) fn write_untrained(directory: &Path, like: &ModelDirectory, spec: &ModelSpec, seed: u64) -> Result<()> {
    let block = spec.blocks.first();
    let shape = ModelConfig {
        layers: spec.blocks.len(),
        hidden: spec.hidden,
        heads: block.map_or(1, |block| block.attention.heads),
        inner: block.map(|block| block.mlp.up.outputs),
        positions: spec.positions,
        ..ModelConfig::default()
    };
    let tensors = match spec.family {
        "bert" => bert::tensors(&shape, spec.vocabulary),
        "gpt2" => gpt2::tensors(&shape, spec.vocabulary),
        other => return Err(Error::file(like.path(), format!("no random weights can be made for family '{other}'"))),
    };
    let (config, tokenizer) = saved::words_of(like.path())?;
    saved::write(directory, config, tokenizer, Dtype::F32, &mut filled(&tensors, seed))
}

/// Tensors with what they hold at first.
fn filled(tensors: &[Initial], seed: u64) -> Vec<Named<'_>> {
    let places = tensors.iter().zip(0..);
    let named = places.map(|(tensor, place)| Named {
        name: &tensor.name,
        shape: &tensor.shape,
        fill: Box::new(move |out: &mut Vec<f32>| tensor.fill(place, seed, out)),
    });
    named.collect()
}

/// The keys that both families have under the same names.
fn common_config(class: &str, family: &str, vocabulary: usize) -> Map<String, Value> {
    let mut config = Map::new();
    config.insert("architectures".into(), json!([class]));
    config.insert("model_type".into(), json!(family));
    config.insert("vocab_size".into(), json!(vocabulary));
    config.insert("initializer_range".into(), json!(0.02));
    config.insert("tie_word_embeddings".into(), json!(true));
    config
}

fn inner(model: &ModelConfig) -> usize {
    model.inner.unwrap_or(4 * model.hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_weights_have_their_deviation_and_follow_the_seed() {
        let tensor = Initial::new("w", &[100, 200], Values::Normal(DEVIATION));
        let draw = |place, seed| {
            let mut out = vec![1.0; 7];
            tensor.fill(place, seed, &mut out);
            out
        };
        let values = draw(0, 5);
        assert_eq!(values.len(), 20_000);
        let deviation = (values.iter().map(|x| f64::from(x * x)).sum::<f64>() / 20_000.0).sqrt();
        assert!((deviation - 0.02).abs() < 0.0005, "{deviation}");
        assert_eq!(values, draw(0, 5));
        assert_ne!(values, draw(1, 5));
        assert_ne!(values, draw(0, 6));
    }
}
