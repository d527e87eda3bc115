//! GPT-2 (Radford et al. 2019): `config.json` and tensor names of `GPT2LMHeadModel` -> a [`ModelSpec`].
//!
//! Follows `transformers/models/gpt2/modeling_gpt2.py`: causal, norms in front of attention and MLP and one behind the
//! last block, learned positions from 0, a head that is the word table alone. Its linear layers are stored transposed
//! (`Conv1D`), query, key and value in one (`c_attn`). Names come with and without `transformer.` in front. The buffers
//! `attn.bias` and `attn.masked_bias` hold the causal mask and are not read.

use super::spec::{
    AttentionSpec, BlockSpec, ClassifierSpec, EmbeddingSpec, HeadSpec, Join, LinearSpec, MlpSpec, ModelSpec, NormSpec,
    Stored,
};
use super::{MOST_LAYERS, activation_named};
use crate::checkpoint::{Config, ModelDirectory};
use crate::{Error, Result};

/// Reads the shapes of a GPT-2 and checks that what it asks for is what is implemented.
///
/// # Errors
/// A key of `config.json` that is missing, of the wrong type or not implemented; an untied checkpoint without its head.
pub(super) fn spec(directory: &ModelDirectory) -> Result<ModelSpec> {
    let (config, weights) = (directory.config(), directory.weights());
    let hidden = config.usize("n_embd")?;
    let heads = config.usize("n_head")?;
    if hidden % heads != 0 {
        return Err(config.error("n_head", format!("{heads} heads do not divide n_embd {hidden}")));
    }
    if config.bool_or("add_cross_attention", false)? {
        return Err(config.error("add_cross_attention", "cross-attention is not implemented; this must be false"));
    }
    // `reorder_and_upcast_attn` asks for scores in f32 and changes nothing here: everything is f32.
    config.optional_bool("reorder_and_upcast_attn")?;
    let eps = config.f32("layer_norm_epsilon")?;
    if !(0.0..1.0).contains(&eps) {
        return Err(config.error("layer_norm_epsilon", format!("{eps} should be a small number, as 1e-5")));
    }

    let prefix = if weights.contains("transformer.wte.weight") { "transformer." } else { "" };
    let norm = |name: &str| NormSpec::layer(format!("{prefix}{name}"), eps);
    let layers = 0..config.usize_in("n_layer", 1..=MOST_LAYERS)?;
    Ok(ModelSpec {
        family: "gpt2",
        causal: true,
        enclosed: false,
        begins: false,
        hidden,
        vocabulary: config.usize("vocab_size")?,
        positions: config.usize("n_positions")?,
        embeddings: EmbeddingSpec {
            width: hidden,
            words: format!("{prefix}wte.weight"),
            position_table: Some(format!("{prefix}wpe.weight")),
            first_position: 0,
            token_types: None,
            norm: None,
            projection: None,
        },
        blocks: layers.clone().map(|i| block(config, prefix, i, eps)).collect::<Result<_>>()?,
        layers: layers.collect(),
        final_norm: Some(norm("ln_f")),
        head: HeadSpec { transform: None, decoder: decoder(directory)?, decoder_bias: None },
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

/// The decoder's tensor, unless it is the word table.
fn decoder(directory: &ModelDirectory) -> Result<Option<String>> {
    const HEAD: &str = "lm_head.weight";
    if directory.config().bool_or("tie_word_embeddings", true)? {
        return Ok(None);
    }
    if directory.weights().contains(HEAD) {
        return Ok(Some(HEAD.into()));
    }
    let message = "this checkpoint has no language-model head (config.json says tie_word_embeddings false, and there is \
                   no tensor lm_head.weight), so it cannot predict a word; use one that was saved from GPT2LMHeadModel";
    Err(Error::file(directory.path(), message))
}
