//! What several families read alike from `config.json`: sizes that must fit, activations, the decoder of a causal model.

use crate::checkpoint::{Config, ModelDirectory};
use crate::ops::Activation;
use crate::{Error, Result};

/// More blocks than any model has: a damaged number must not become a billion specs.
pub(super) const MOST_LAYERS: usize = 1024;

/// The activation that a key of `config.json` names, by its name in transformers.
pub(super) fn activation_named(config: &Config, key: &str) -> Result<Activation> {
    match config.str(key)? {
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        "tanh" => Ok(Activation::Tanh),
        "silu" => Ok(Activation::Silu),
        other => {
            let message = format!(
                "activation '{other}' is not implemented; implemented: gelu, gelu_new, gelu_pytorch_tanh, relu, tanh, \
                 silu"
            );
            Err(config.error(key, message))
        }
    }
}

/// A model's width and its number of heads, which must divide it.
pub(super) fn heads_of(config: &Config, width: &str, heads: &str) -> Result<(usize, usize)> {
    let (hidden, count) = (config.usize(width)?, config.usize(heads)?);
    if !hidden.is_multiple_of(count) {
        return Err(config.error(heads, format!("{count} heads do not divide {width} {hidden}")));
    }
    Ok((hidden, count))
}

/// What a norm adds to the variance.
pub(super) fn epsilon(config: &Config, key: &str) -> Result<f32> {
    small(config, key, config.f32(key)?)
}

/// The same, `default` where the key is missing.
pub(super) fn epsilon_or(config: &Config, key: &str, default: f32) -> Result<f32> {
    small(config, key, config.optional_f32(key)?.unwrap_or(default))
}

fn small(config: &Config, key: &str, eps: f32) -> Result<f32> {
    if (0.0..1.0).contains(&eps) {
        return Ok(eps);
    }
    Err(config.error(key, format!("{eps} should be a small number, as 1e-5")))
}

/// The decoder's tensor of a causal model, the first of `names` that there is; `None` when it is the word table, as
/// `tie_word_embeddings` says, or `tied` where it says nothing. `class` is what such a checkpoint is saved from.
pub(super) fn causal_decoder(
    directory: &ModelDirectory,
    tied: bool,
    names: &[&str],
    class: &str,
) -> Result<Option<String>> {
    if directory.config().bool_or("tie_word_embeddings", tied)? {
        return Ok(None);
    }
    if let Some(name) = names.iter().find(|name| directory.weights().contains(name)) {
        return Ok(Some((*name).into()));
    }
    let message = format!(
        "this checkpoint has no language-model head (tie_word_embeddings is not true in config.json, and there is no \
         tensor {}), so it cannot predict a word; use one that was saved from {class}",
        names[0]
    );
    Err(Error::file(directory.path(), message))
}
