//! OPT (Zhang et al. 2022): `config.json` and tensor names of `OPTForCausalLM` -> a [`ModelSpec`].
//!
//! Follows `transformers/models/opt/modeling_opt.py`: causal, norms in front of attention and MLP and one behind the last
//! block (old fine-tuned files lack that one: `_remove_final_layer_norm`), learned positions that begin at entry 2 of their
//! table, a text that begins with `</s>`. Names come with and without `model.` in front.
//!
//! Not here: OPT-350m, the one with its norms behind and narrower word vectors; Galactica's layers without bias.

use super::config::{MOST_LAYERS, activation_named, causal_decoder, heads_of};
use super::encoder::{BlockNames, Sizes};
use super::spec::{ClassifierSpec, EmbeddingSpec, HeadSpec, Join, ModelSpec};
use crate::Result;
use crate::checkpoint::{Config, ModelDirectory};

const NAMES: BlockNames = BlockNames {
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    output: "self_attn.out_proj",
    attention_norm: "self_attn_layer_norm",
    up: "fc1",
    down: "fc2",
    mlp_norm: "final_layer_norm",
};

/// Reads the shapes of an OPT and checks that what it asks for is what is implemented.
///
/// # Errors
/// A key of `config.json` that is missing, of the wrong type or not implemented; an untied checkpoint without its head.
pub(super) fn spec(directory: &ModelDirectory) -> Result<ModelSpec> {
    let config = directory.config();
    let (hidden, heads) = heads_of(config, "hidden_size", "num_attention_heads")?;
    refuse_unsupported(config, hidden)?;
    let (inner, activation) = (config.usize("ffn_dim")?, activation_named(config, "activation_function")?);
    let sizes = Sizes { hidden, inner, heads, activation, eps: 1e-5, causal: true, join: Join::Pre };
    let prefix = match directory.weights().contains("decoder.embed_tokens.weight") {
        true => "decoder",
        false => "model.decoder",
    };
    let named = |name: &str| format!("{prefix}.{name}");
    let layers = 0..config.usize_in("num_hidden_layers", 1..=MOST_LAYERS)?;
    let ends_bare = config.bool_or("_remove_final_layer_norm", false)?;
    let decoder = causal_decoder(directory, true, &["lm_head.weight"], "OPTForCausalLM")?;
    Ok(ModelSpec {
        family: "opt",
        base_model_prefix: "model",
        causal: true,
        enclosed: false,
        begins: true,
        hidden,
        vocabulary: config.usize("vocab_size")?,
        positions: config.usize("max_position_embeddings")?,
        embeddings: EmbeddingSpec {
            position_table: Some(named("embed_positions.weight")),
            first_position: 2,
            ..EmbeddingSpec::words(named("embed_tokens.weight"), hidden)
        },
        blocks: layers.clone().map(|i| sizes.block(&named(&format!("layers.{i}")), &NAMES)).collect(),
        layers: layers.collect(),
        final_norm: (!ends_bare).then(|| sizes.norm(named("final_layer_norm"))),
        head: HeadSpec { transform: None, decoder, decoder_bias: None },
        classifier: ClassifierSpec::last_token(),
    })
}

fn refuse_unsupported(config: &Config, hidden: usize) -> Result<()> {
    for (key, what) in [
        ("do_layer_norm_before", "norms behind attention and MLP (OPT-350m has them) are"),
        ("enable_bias", "an OPT without biases is"),
        ("layer_norm_elementwise_affine", "norms without weights are"),
    ] {
        if !config.bool_or(key, true)? {
            return Err(config.error(key, format!("{what} not implemented; this must be true")));
        }
    }
    match config.optional_usize("word_embed_proj_dim")? {
        Some(width) if width != hidden => {
            let message =
                format!("word vectors of another width ({width}) than hidden_size {hidden} are not implemented");
            Err(config.error("word_embed_proj_dim", message))
        }
        _ => Ok(()),
    }
}
