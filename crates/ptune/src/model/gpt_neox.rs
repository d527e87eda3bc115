//! GPT-NeoX (Black et al. 2022; Pythia, polyglot-ko): `config.json` and tensor names of `GPTNeoXForCausalLM` -> a
//! [`ModelSpec`].
//!
//! Follows `transformers/models/gpt_neox/modeling_gpt_neox.py`: causal, attention and MLP beside each other with a norm
//! each (one behind the other where `use_parallel_residual` is false), rotary positions for a part of each head, a head of
//! its own. One tensor holds queries, keys and values, head by head. The buffers `attention.bias`,
//! `attention.masked_bias` and `rotary_emb.inv_freq` of old files are not read.

use super::config::{MOST_LAYERS, activation_named, causal_decoder, epsilon, heads_of};
use super::rotary::Rope;
use super::spec::{
    AttentionSpec, BlockSpec, ClassifierSpec, EmbeddingSpec, HeadSpec, Join, LinearSpec, MlpSpec, ModelSpec, NormSpec,
    RotarySpec, Stored,
};
use crate::Result;
use crate::checkpoint::{Config, ModelDirectory};

/// The part of each head that is turned, where the file does not say.
const SHARE: f32 = 0.25;

/// Reads the shapes of a GPT-NeoX and checks that what it asks for is what is implemented.
///
/// # Errors
/// A key of `config.json` that is missing, of the wrong type or not implemented; an untied checkpoint without its head.
pub(super) fn spec(directory: &ModelDirectory) -> Result<ModelSpec> {
    let config = directory.config();
    let (hidden, heads) = heads_of(config, "hidden_size", "num_attention_heads")?;
    let eps = epsilon(config, "layer_norm_eps")?;
    let rope = Rope::read(config, "rotary_emb_base")?;
    let share = match rope.share()? {
        Some(share) => share,
        None => config.optional_f32("rotary_pct")?.unwrap_or(SHARE),
    };
    if !(0.0..=1.0).contains(&share) {
        return Err(config.error("rotary_pct", format!("{share} should be from 0 to 1")));
    }
    let rotary = rope.spec((f64::from(share) * (hidden / heads) as f64) as usize)?;
    let layers = 0..config.usize_in("num_hidden_layers", 1..=MOST_LAYERS)?;
    let decoder = causal_decoder(directory, false, &["embed_out.weight", "lm_head.weight"], "GPTNeoXForCausalLM")?;
    Ok(ModelSpec {
        family: "gpt_neox",
        base_model_prefix: "gpt_neox",
        causal: true,
        enclosed: false,
        begins: true,
        hidden,
        vocabulary: config.usize("vocab_size")?,
        positions: config.usize("max_position_embeddings")?,
        embeddings: EmbeddingSpec::words("gpt_neox.embed_in.weight".into(), hidden),
        blocks: layers.clone().map(|i| block(config, (hidden, heads, eps), &rotary, i)).collect::<Result<_>>()?,
        layers: layers.collect(),
        final_norm: Some(NormSpec::layer("gpt_neox.final_layer_norm".into(), eps)),
        head: HeadSpec { transform: None, decoder, decoder_bias: None },
        classifier: ClassifierSpec::last_token(),
    })
}

fn block(
    config: &Config,
    (hidden, heads, eps): (usize, usize, f32),
    rotary: &RotarySpec,
    i: usize,
) -> Result<BlockSpec> {
    let (inner, head_dim) = (config.usize("intermediate_size")?, hidden / heads);
    let bias = config.bool_or("attention_bias", true)?;
    let at = format!("gpt_neox.layers.{i}");
    let norm = |name: &str| NormSpec::layer(format!("{at}.{name}"), eps);
    let linear = |name: &str, outputs, inputs| LinearSpec::plain(format!("{at}.{name}"), outputs, inputs);
    // [heads, 3, head_dim]: query, key and value of one head, then those of the next.
    let turn = |index: usize| {
        let stored = Stored { first: index * head_dim, run: head_dim, step: 3 * head_dim, ..Stored::alone(3 * hidden) };
        LinearSpec { stored, ..linear("attention.query_key_value", hidden, hidden).with_bias(bias) }
    };
    let parallel = config.bool_or("use_parallel_residual", true)?;
    Ok(BlockSpec {
        join: if parallel { Join::Parallel } else { Join::Pre },
        attention: AttentionSpec {
            heads,
            kv_heads: heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            causal: true,
            window: None,
            rotary: Some(rotary.clone()),
            head_norms: None,
            query: turn(0),
            key: turn(1),
            value: turn(2),
            output: linear("attention.dense", hidden, hidden).with_bias(bias),
        },
        attention_norm: Some(norm("input_layernorm")),
        mlp: MlpSpec {
            gate: None,
            up: linear("mlp.dense_h_to_4h", inner, hidden),
            activation: activation_named(config, "hidden_act")?,
            down: linear("mlp.dense_4h_to_h", hidden, inner),
        },
        mlp_norm: norm("post_attention_layernorm"),
    })
}
