//! RoBERTa (Liu et al. 2019): `config.json` and tensor names of `RobertaForMaskedLM` -> a [`ModelSpec`]; and XLM-R
//! (Conneau et al. 2019), the same model with another vocabulary.
//!
//! Follows `transformers/models/roberta/modeling_roberta.py`: a BERT whose positions start behind the padding's entry of
//! the table, whose head has other names and always the exact GELU.

use super::config::MOST_LAYERS;
use super::encoder::{BERT_NAMES, Sizes, decoder, require_head};
use super::spec::{ClassifierSpec, HeadSpec, ModelSpec};
use crate::Result;
use crate::checkpoint::ModelDirectory;
use crate::ops::Activation;

/// The padding token of a configuration that does not name it.
const PADDING: usize = 1;

/// Reads the shapes of a RoBERTa and checks that what it asks for is what is implemented. `family` is its model type,
/// `class` its name in transformers.
///
/// # Errors
/// A key of `config.json` that is missing, of the wrong type or not implemented; a checkpoint without the
/// masked-language-model head.
pub(super) fn spec(directory: &ModelDirectory, family: &'static str, class: &str) -> Result<ModelSpec> {
    let config = directory.config();
    let vocabulary = config.usize("vocab_size")?;
    let padding = config.optional_usize_in("pad_token_id", 0..=vocabulary - 1)?.unwrap_or(PADDING);
    let (table, first_position) = (config.usize("max_position_embeddings")?, padding + 1);
    if table <= first_position {
        let message = format!("{table} leaves no position: the first one is pad_token_id + 1 = {first_position}");
        return Err(config.error("max_position_embeddings", message));
    }
    let sizes = Sizes::read(config)?;
    let hidden = sizes.hidden;
    require_head(directory, "lm_head.dense.weight", "lm_head.*", class)?;
    let (decoder, decoder_bias) = decoder(directory, "lm_head")?;
    let layers = 0..config.usize_in("num_hidden_layers", 1..=MOST_LAYERS)?;
    Ok(ModelSpec {
        family,
        base_model_prefix: "roberta",
        causal: false,
        enclosed: true,
        begins: false,
        hidden,
        vocabulary,
        positions: table - first_position,
        embeddings: sizes.embeddings("roberta", hidden, first_position, Some(config.usize("type_vocab_size")?)),
        blocks: layers.clone().map(|i| sizes.block(&format!("roberta.encoder.layer.{i}"), &BERT_NAMES)).collect(),
        layers: layers.collect(),
        final_norm: None,
        head: HeadSpec {
            transform: Some(sizes.transform("lm_head.dense", "lm_head.layer_norm", hidden, Activation::Gelu)),
            decoder,
            decoder_bias: Some(decoder_bias),
        },
        classifier: ClassifierSpec::first_token(Activation::Tanh, "classifier.dense", "classifier.out_proj"),
    })
}
