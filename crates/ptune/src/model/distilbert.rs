//! DistilBERT (Sanh et al. 2019): `config.json` and tensor names of `DistilBertForMaskedLM` -> a [`ModelSpec`].
//!
//! Follows `transformers/models/distilbert/modeling_distilbert.py`: a BERT without token types, with names of its own and the
//! eps of its norms fixed. `sinusoidal_pos_embds` says how the position table began; the checkpoint has what became of it.

use super::config::{MOST_LAYERS, activation_named, heads_of};
use super::encoder::{BlockNames, Sizes, require_head};
use super::spec::{ClassifierSpec, HeadSpec, Join, ModelSpec};
use crate::Result;
use crate::checkpoint::ModelDirectory;
use crate::ops::Activation;

const NAMES: BlockNames = BlockNames {
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    mlp_norm: "output_layer_norm",
};

/// Reads the shapes of a DistilBERT and checks that what it asks for is what is implemented.
///
/// # Errors
/// A key of `config.json` that is missing, of the wrong type or not implemented; a checkpoint without the
/// masked-language-model head.
pub(super) fn spec(directory: &ModelDirectory) -> Result<ModelSpec> {
    let config = directory.config();
    let (hidden, heads) = heads_of(config, "dim", "n_heads")?;
    let (inner, activation) = (config.usize("hidden_dim")?, activation_named(config, "activation")?);
    let sizes = Sizes { hidden, inner, heads, activation, eps: 1e-12, causal: false, join: Join::Post };
    require_head(directory, "vocab_transform.weight", "vocab_transform.*", "DistilBert")?;
    let tied = config.bool_or("tie_word_embeddings", true)?;
    let layers = 0..config.usize_in("n_layers", 1..=MOST_LAYERS)?;
    Ok(ModelSpec {
        family: "distilbert",
        base_model_prefix: "distilbert",
        causal: false,
        enclosed: true,
        begins: false,
        hidden,
        vocabulary: config.usize("vocab_size")?,
        positions: config.usize("max_position_embeddings")?,
        embeddings: sizes.embeddings("distilbert", hidden, 0, None),
        blocks: layers.clone().map(|i| sizes.block(&format!("distilbert.transformer.layer.{i}"), &NAMES)).collect(),
        layers: layers.collect(),
        final_norm: None,
        head: HeadSpec {
            transform: Some(sizes.transform("vocab_transform", "vocab_layer_norm", hidden, activation)),
            decoder: (!tied).then(|| "vocab_projector.weight".into()),
            decoder_bias: Some("vocab_projector.bias".into()),
        },
        classifier: ClassifierSpec::first_token(Activation::Relu, "pre_classifier", "classifier").without_past(),
    })
}
