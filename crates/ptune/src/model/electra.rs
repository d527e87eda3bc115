//! ELECTRA (Clark et al. 2020), its generator: `config.json` and tensor names of `ElectraForMaskedLM` -> a [`ModelSpec`].
//!
//! Follows `transformers/models/electra/modeling_electra.py`: a BERT whose tables and decoder have the width `embedding_size`,
//! with `embeddings_project` to the blocks where that is another, and a head with the exact GELU. The discriminator, for which
//! ELECTRA is known, has no words to give: it tells whether a token was replaced. It is refused.

use super::config::MOST_LAYERS;
use super::encoder::{BERT_NAMES, Sizes, require_head};
use super::spec::{ClassifierSpec, HeadSpec, LinearSpec, ModelSpec};
use crate::checkpoint::ModelDirectory;
use crate::ops::Activation;
use crate::{Error, Result};

/// Reads the shapes of an ELECTRA generator and checks that what it asks for is what is implemented.
///
/// # Errors
/// A key of `config.json` that is missing, of the wrong type or not implemented; a discriminator; a checkpoint without the
/// masked-language-model head.
pub(super) fn spec(directory: &ModelDirectory) -> Result<ModelSpec> {
    const DENSE: &str = "generator_predictions.dense";
    let (config, weights) = (directory.config(), directory.weights());
    if weights.contains("discriminator_predictions.dense.weight") && !weights.contains(&format!("{DENSE}.weight")) {
        let message = "this checkpoint is an ELECTRA discriminator (it has discriminator_predictions.* and no \
                       generator_predictions.*): it tells whether a token was replaced and cannot fill a mask; use the \
                       generator that was trained with it";
        return Err(Error::file(directory.path(), message));
    }
    require_head(directory, &format!("{DENSE}.weight"), "generator_predictions.*", "Electra")?;
    let sizes = Sizes::read(config)?;
    let (hidden, width) = (sizes.hidden, config.usize("embedding_size")?);
    let layers = 0..config.usize_in("num_hidden_layers", 1..=MOST_LAYERS)?;
    let tied = config.bool_or("tie_word_embeddings", true)?;
    let mut embeddings = sizes.embeddings("electra", width, 0, Some(config.usize("type_vocab_size")?));
    embeddings.projection =
        (width != hidden).then(|| LinearSpec::plain("electra.embeddings_project".into(), hidden, width));
    Ok(ModelSpec {
        family: "electra",
        base_model_prefix: "electra",
        causal: false,
        enclosed: true,
        begins: false,
        hidden,
        vocabulary: config.usize("vocab_size")?,
        positions: config.usize("max_position_embeddings")?,
        embeddings,
        blocks: layers.clone().map(|i| sizes.block(&format!("electra.encoder.layer.{i}"), &BERT_NAMES)).collect(),
        layers: layers.collect(),
        final_norm: None,
        head: HeadSpec {
            transform: Some(sizes.transform(DENSE, "generator_predictions.LayerNorm", width, Activation::Gelu)),
            decoder: (!tied).then(|| "generator_lm_head.weight".into()),
            decoder_bias: Some("generator_lm_head.bias".into()),
        },
        classifier: ClassifierSpec::first_token(Activation::Gelu, "classifier.dense", "classifier.out_proj"),
    })
}
