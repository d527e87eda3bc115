//! GPT-2 (Radford et al. 2019): `config.json` and tensor names of `GPT2LMHeadModel` -> a [`ModelSpec`].
//!
//! Follows `transformers/models/gpt2/modeling_gpt2.py`: causal, norms in front of attention and MLP and one behind the
//! last block, learned positions from 0, a head that is the word table alone. Its linear layers are stored transposed
//! (`Conv1D`), query, key and value in one (`c_attn`). Names come with and without `transformer.` in front. The buffers
//! `attn.bias` and `attn.masked_bias` hold the causal mask and are not read.

use super::config::{MOST_LAYERS, activation_named, causal_decoder, epsilon, heads_of};
use super::spec::{
    AttentionSpec, BlockSpec, ClassifierSpec, EmbeddingSpec, HeadSpec, Join, LinearSpec, MlpSpec, ModelSpec, NormSpec,
    Stored,
};
use crate::Result;
use crate::checkpoint::{Config, ModelDirectory};

/// Reads the shapes of a GPT-2 and checks that what it asks for is what is implemented.
///
/// # Errors
/// A key of `config.json` that is missing, of the wrong type or not implemented; an untied checkpoint without its head.
pub(super) fn spec(directory: &ModelDirectory) -> Result<ModelSpec> {
    let (config, weights) = (directory.config(), directory.weights());
    let (hidden, _) = heads_of(config, "n_embd", "n_head")?;
    if config.bool_or("add_cross_attention", false)? {
        return Err(config.error("add_cross_attention", "cross-attention is not implemented; this must be false"));
    }
    // `reorder_and_upcast_attn` asks for scores in f32 and changes nothing here: everything is f32.
    config.optional_bool("reorder_and_upcast_attn")?;
    let eps = epsilon(config, "layer_norm_epsilon")?;

    let prefix = if weights.contains("transformer.wte.weight") { "transformer." } else { "" };
    let norm = |name: &str| NormSpec::layer(format!("{prefix}{name}"), eps);
    let layers = 0..config.usize_in("n_layer", 1..=MOST_LAYERS)?;
    let decoder = causal_decoder(directory, true, &["lm_head.weight"], "GPT2LMHeadModel")?;
    Ok(ModelSpec {
        family: "gpt2",
        base_model_prefix: "transformer",
        causal: true,
        enclosed: false,
        begins: false,
        hidden,
        vocabulary: config.usize("vocab_size")?,
        positions: config.usize("n_positions")?,
        embeddings: EmbeddingSpec {
            position_table: Some(format!("{prefix}wpe.weight")),
            ..EmbeddingSpec::words(format!("{prefix}wte.weight"), hidden)
        },
        blocks: layers.clone().map(|i| block(config, prefix, i, eps)).collect::<Result<_>>()?,
        layers: layers.collect(),
        final_norm: Some(norm("ln_f")),
        head: HeadSpec { transform: None, decoder, decoder_bias: None },
        classifier: ClassifierSpec::last_token(),
    })
}

/// Block `i`. Attention scores are scaled as `scale_attn_weights` and `scale_attn_by_inverse_layer_idx` say.
fn block(config: &Config, prefix: &str, i: usize, eps: f32) -> Result<BlockSpec> {
    let (hidden, heads) = (config.usize("n_embd")?, config.usize("n_head")?);
    let inner = config.optional_usize("n_inner")?.unwrap_or(4 * hidden);
    let head_dim = hidden / heads;
    let mut scale = 1.0;
    if config.bool_or("scale_attn_weights", true)? {
        scale /= (head_dim as f32).sqrt();
    }
    if config.bool_or("scale_attn_by_inverse_layer_idx", false)? {
        scale /= (i + 1) as f32;
    }
    let at = format!("{prefix}h.{i}");
    let norm = |name: &str| NormSpec::layer(format!("{at}.{name}"), eps);
    let conv1d = |name: &str, outputs, inputs| part(format!("{at}.{name}"), outputs, inputs, 0, 1);
    let c_attn = |third| part(format!("{at}.attn.c_attn"), hidden, hidden, third, 3);
    Ok(BlockSpec {
        join: Join::Pre,
        attention: AttentionSpec {
            heads,
            kv_heads: heads,
            head_dim,
            scale,
            causal: true,
            window: None,
            rotary: None,
            head_norms: None,
            query: c_attn(0),
            key: c_attn(1),
            value: c_attn(2),
            output: conv1d("attn.c_proj", hidden, hidden),
        },
        attention_norm: Some(norm("ln_1")),
        mlp: MlpSpec {
            gate: None,
            up: conv1d("mlp.c_fc", inner, hidden),
            activation: activation_named(config, "activation_function")?,
            down: conv1d("mlp.c_proj", hidden, inner),
        },
        mlp_norm: norm("ln_2"),
    })
}

/// Part `index` of `parts` equally wide layers that one Conv1D holds.
fn part(name: String, outputs: usize, inputs: usize, index: usize, parts: usize) -> LinearSpec {
    let stored = Stored { transposed: true, ..Stored::part(outputs, index * outputs, parts * outputs) };
    LinearSpec { name, outputs, inputs, bias: true, stored }
}
