//! ALBERT (Lan et al. 2019): `config.json` and tensor names of `AlbertForMaskedLM` -> a [`ModelSpec`].
//!
//! Follows `transformers/models/albert/modeling_albert.py`: a BERT whose layers share their weights. Layer i of n has those of
//! group `i / (n / groups)`, which is `inner_group_num` blocks in a row. Tables and decoder have the width `embedding_size`:
//! `embedding_hidden_mapping_in` leads from there to the blocks, the head's dense layer back.

use super::config::MOST_LAYERS;
use super::encoder::{BlockNames, Sizes, decoder, require_head};
use super::spec::{ClassifierSpec, HeadSpec, LinearSpec, ModelSpec};
use crate::Result;
use crate::checkpoint::ModelDirectory;
use crate::ops::Activation;

const NAMES: BlockNames = BlockNames {
    query: "attention.query",
    key: "attention.key",
    value: "attention.value",
    output: "attention.dense",
    attention_norm: "attention.LayerNorm",
    up: "ffn",
    down: "ffn_output",
    mlp_norm: "full_layer_layer_norm",
};

/// Reads the shapes of an ALBERT and checks that what it asks for is what is implemented.
///
/// # Errors
/// A key of `config.json` that is missing, of the wrong type or not implemented; a checkpoint without the
/// masked-language-model head.
pub(super) fn spec(directory: &ModelDirectory) -> Result<ModelSpec> {
    let config = directory.config();
    let sizes = Sizes::read(config)?;
    let (hidden, width) = (sizes.hidden, config.usize("embedding_size")?);
    let layers = config.usize_in("num_hidden_layers", 1..=MOST_LAYERS)?;
    let groups = config.optional_usize_in("num_hidden_groups", 1..=layers)?.unwrap_or(1);
    let inner = config.optional_usize_in("inner_group_num", 1..=MOST_LAYERS / layers)?.unwrap_or(1);
    require_head(directory, "predictions.dense.weight", "predictions.*", "Albert")?;
    let (decoder, decoder_bias) = decoder(directory, "predictions")?;
    let block = |i: usize| {
        let (group, inner) = (i / inner, i % inner);
        sizes.block(&format!("albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}"), &NAMES)
    };
    // In f64, as Python divides: no other rounding may move a layer to another group.
    let group_of = |layer: usize| (layer as f64 / (layers as f64 / groups as f64)) as usize;
    let mut embeddings = sizes.embeddings("albert", width, 0, Some(config.usize("type_vocab_size")?));
    embeddings.projection = Some(LinearSpec::plain("albert.encoder.embedding_hidden_mapping_in".into(), hidden, width));
    Ok(ModelSpec {
        family: "albert",
        base_model_prefix: "albert",
        causal: false,
        enclosed: true,
        begins: false,
        hidden,
        vocabulary: config.usize("vocab_size")?,
        positions: config.usize("max_position_embeddings")?,
        embeddings,
        blocks: (0..groups * inner).map(block).collect(),
        layers: (0..layers).flat_map(|layer| (0..inner).map(move |i| group_of(layer) * inner + i)).collect(),
        final_norm: None,
        head: HeadSpec {
            transform: Some(sizes.transform("predictions.dense", "predictions.LayerNorm", width, sizes.activation)),
            decoder,
            decoder_bias: Some(decoder_bias),
        },
        classifier: ClassifierSpec::pooled(Activation::Tanh, "albert.pooler").without_past(),
    })
}
