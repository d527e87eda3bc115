//! RoBERTa (Liu et al. 2019): `config.json` and tensor names of `RobertaForMaskedLM` -> a [`ModelSpec`].
//!
//! Follows `transformers/models/roberta/modeling_roberta.py`: a BERT whose positions start behind the padding's entry of
//! the table, whose head has other names and always the exact GELU.

use super::bert::{Encoder, decoder, encoder, require_head};
use super::spec::{HeadSpec, LinearSpec, ModelSpec, NormSpec, TransformSpec};
use crate::Result;
use crate::checkpoint::ModelDirectory;
use crate::ops::Activation;

/// The padding token of a configuration that does not name it.
const PADDING: usize = 1;

/// Reads the shapes of a RoBERTa and checks that what it asks for is what is implemented.
///
/// # Errors
/// A key of `config.json` that is missing, of the wrong type or not implemented; a checkpoint without the
/// masked-language-model head.
pub(super) fn spec(directory: &ModelDirectory) -> Result<ModelSpec> {
    let config = directory.config();
    let vocabulary = config.usize("vocab_size")?;
    let padding = config.optional_usize_in("pad_token_id", 0..=vocabulary - 1)?.unwrap_or(PADDING);
    let (table, first_position) = (config.usize("max_position_embeddings")?, padding + 1);
    if table <= first_position {
        let message = format!("{table} leaves no position: the first one is pad_token_id + 1 = {first_position}");
        return Err(config.error("max_position_embeddings", message));
    }
    let Encoder { hidden, eps, embeddings, blocks } = encoder(config, "roberta", first_position)?;
    require_head(directory, "lm_head.dense.weight", "lm_head.*", "Roberta")?;
    let (decoder, decoder_bias) = decoder(directory, "lm_head")?;
    Ok(ModelSpec {
        family: "roberta",
        causal: false,
        enclosed: true,
        hidden,
        vocabulary,
        positions: table - first_position,
        embeddings,
        layers: (0..blocks.len()).collect(),
        blocks,
        final_norm: None,
        head: HeadSpec {
            transform: Some(TransformSpec {
                dense: LinearSpec::plain("lm_head.dense".into(), hidden, hidden),
                activation: Activation::Gelu,
                norm: NormSpec { name: "lm_head.layer_norm".into(), eps },
            }),
            decoder,
            decoder_bias: Some(decoder_bias),
        },
    })
}
