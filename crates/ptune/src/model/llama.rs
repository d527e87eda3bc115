//! LLaMA (Touvron et al. 2023) and its kin Mistral, Qwen2 and Qwen3: `config.json` and tensor names of
//! `LlamaForCausalLM`, `MistralForCausalLM`, `Qwen2ForCausalLM`, `Qwen3ForCausalLM` -> a [`ModelSpec`].
//!
//! Follows their files under `transformers/models`: causal, RMS norms in front of attention and MLP and behind the last
//! block, rotary positions, key heads shared by groups of query heads, a gated MLP, a head of its own unless
//! `tie_word_embeddings`. What each has of its own is in [`Kin`].

use super::config::{MOST_LAYERS, activation_named, causal_decoder, epsilon_or};
use super::rotary::Rope;
use super::spec::{
    AttentionSpec, BlockSpec, ClassifierSpec, EmbeddingSpec, HeadSpec, Join, LinearSpec, MlpSpec, ModelSpec, NormSpec,
    RotarySpec,
};
use crate::Result;
use crate::checkpoint::{Config, ModelDirectory};

/// What the families have of their own.
struct Kin {
    family: &'static str,
    /// The class that has the head.
    class: &'static str,
    /// Width of a head where the file does not say; `None` for an equal share of the rows.
    head_dim: Option<usize>,
    /// Biases of the projections to queries, keys and values; of that behind the attention; of the MLP.
    biases: [bool; 3],
    /// A norm over each head of queries and keys.
    head_norms: bool,
    /// The window of each layer.
    windows: Vec<Option<u32>>,
}

/// LLaMA: biases as the file says, no window.
///
/// # Errors
/// A key of `config.json` that is missing, of the wrong type or not implemented; an untied checkpoint without its head.
pub(super) fn llama(directory: &ModelDirectory) -> Result<ModelSpec> {
    let config = directory.config();
    let (attention, mlp) = (config.bool_or("attention_bias", false)?, config.bool_or("mlp_bias", false)?);
    let windows = vec![None; layers(config)?];
    let biases = [attention, attention, mlp];
    let kin = Kin { family: "llama", class: "LlamaForCausalLM", head_dim: None, biases, head_norms: false, windows };
    spec(directory, &kin)
}

/// Mistral: no biases, one window for all layers.
///
/// # Errors
/// As [`llama`].
pub(super) fn mistral(directory: &ModelDirectory) -> Result<ModelSpec> {
    /// Where the file does not mention it.
    const WINDOW: u32 = 4096;
    let config = directory.config();
    let window = if config.mentions("sliding_window") { window(config)? } else { Some(WINDOW) };
    let (windows, biases) = (vec![window; layers(config)?], [false; 3]);
    let kin =
        Kin { family: "mistral", class: "MistralForCausalLM", head_dim: None, biases, head_norms: false, windows };
    spec(directory, &kin)
}

/// Qwen2: biases of queries, keys and values, a window for some layers.
///
/// # Errors
/// As [`llama`].
pub(super) fn qwen2(directory: &ModelDirectory) -> Result<ModelSpec> {
    let windows = windows_of_layers(directory.config())?;
    let biases = [true, false, false];
    let kin = Kin { family: "qwen2", class: "Qwen2ForCausalLM", head_dim: None, biases, head_norms: false, windows };
    spec(directory, &kin)
}

/// Qwen3: a norm over each head of queries and keys, heads of a width of their own.
///
/// # Errors
/// As [`llama`].
pub(super) fn qwen3(directory: &ModelDirectory) -> Result<ModelSpec> {
    let config = directory.config();
    let (windows, bias) = (windows_of_layers(config)?, config.bool_or("attention_bias", false)?);
    let biases = [bias, bias, false];
    let kin =
        Kin { family: "qwen3", class: "Qwen3ForCausalLM", head_dim: Some(128), biases, head_norms: true, windows };
    spec(directory, &kin)
}

fn spec(directory: &ModelDirectory, kin: &Kin) -> Result<ModelSpec> {
    let config = directory.config();
    if config.contains("quantization_config") {
        let message = "quantised weights are not implemented; use a checkpoint in f32, f16 or bf16";
        return Err(config.error("quantization_config", message));
    }
    let hidden = config.usize("hidden_size")?;
    let eps = epsilon_or(config, "rms_norm_eps", 1e-6)?;
    let shape = Shape::read(config, hidden, kin)?;
    let rotary = Rope::read(config, "rope_theta")?.spec(shape.head_dim)?;
    let block = |i| block(config, kin, &shape, (hidden, eps), &rotary, i);
    let blocks: Vec<BlockSpec> = (0..kin.windows.len()).map(block).collect::<Result<_>>()?;
    let decoder = causal_decoder(directory, false, &["lm_head.weight"], kin.class)?;
    Ok(ModelSpec {
        family: kin.family,
        base_model_prefix: "model",
        causal: true,
        enclosed: false,
        begins: true,
        hidden,
        vocabulary: config.usize("vocab_size")?,
        positions: config.usize("max_position_embeddings")?,
        embeddings: EmbeddingSpec::words("model.embed_tokens.weight".into(), hidden),
        layers: (0..blocks.len()).collect(),
        blocks,
        final_norm: Some(NormSpec::rms("model.norm".into(), eps)),
        head: HeadSpec { transform: None, decoder, decoder_bias: None },
        classifier: ClassifierSpec::last_token(),
    })
}

/// The heads.
struct Shape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Shape {
    fn read(config: &Config, hidden: usize, kin: &Kin) -> Result<Shape> {
        let heads = config.usize("num_attention_heads")?;
        let kv_heads = config.optional_usize("num_key_value_heads")?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            let message = format!("{kv_heads} key heads do not divide num_attention_heads {heads}");
            return Err(config.error("num_key_value_heads", message));
        }
        let head_dim = match config.optional_usize("head_dim")?.or(kin.head_dim) {
            Some(head_dim) => head_dim,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                let message = format!("{heads} heads do not divide hidden_size {hidden}");
                return Err(config.error("num_attention_heads", message));
            }
        };
        Ok(Shape { heads, kv_heads, head_dim })
    }
}

fn block(
    config: &Config,
    kin: &Kin,
    shape: &Shape,
    (hidden, eps): (usize, f32),
    rotary: &RotarySpec,
    i: usize,
) -> Result<BlockSpec> {
    let Shape { heads, kv_heads, head_dim } = *shape;
    let inner = config.usize("intermediate_size")?;
    let at = format!("model.layers.{i}");
    let norm = |name: &str| NormSpec::rms(format!("{at}.{name}"), eps);
    let linear =
        |name: &str, outputs, inputs, bias| LinearSpec::plain(format!("{at}.{name}"), outputs, inputs).with_bias(bias);
    let [qkv, output, mlp] = kin.biases;
    let head_norms = [norm("self_attn.q_norm"), norm("self_attn.k_norm")];
    Ok(BlockSpec {
        join: Join::Pre,
        attention: AttentionSpec {
            heads,
            kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            causal: true,
            window: kin.windows[i],
            rotary: Some(rotary.clone()),
            head_norms: kin.head_norms.then_some(head_norms),
            query: linear("self_attn.q_proj", heads * head_dim, hidden, qkv),
            key: linear("self_attn.k_proj", kv_heads * head_dim, hidden, qkv),
            value: linear("self_attn.v_proj", kv_heads * head_dim, hidden, qkv),
            output: linear("self_attn.o_proj", hidden, heads * head_dim, output),
        },
        attention_norm: Some(norm("input_layernorm")),
        mlp: MlpSpec {
            gate: Some(linear("mlp.gate_proj", inner, hidden, mlp)),
            up: linear("mlp.up_proj", inner, hidden, mlp),
            activation: activation_named(config, "hidden_act")?,
            down: linear("mlp.down_proj", hidden, inner, mlp),
        },
        mlp_norm: norm("post_attention_layernorm"),
    })
}

fn layers(config: &Config) -> Result<usize> {
    config.usize_in("num_hidden_layers", 1..=MOST_LAYERS)
}

fn window(config: &Config) -> Result<Option<u32>> {
    Ok(config.optional_usize("sliding_window")?.map(|window| window as u32))
}

/// The windows where `use_sliding_window` is true: of the layers that `layer_types` names, else of those from
/// `max_window_layers` on.
fn windows_of_layers(config: &Config) -> Result<Vec<Option<u32>>> {
    let layers = layers(config)?;
    let window = if config.bool_or("use_sliding_window", false)? { window(config)? } else { None };
    let Some(kinds) = config.optional_strings("layer_types")? else {
        let first = config.optional_usize_in("max_window_layers", 0..=MOST_LAYERS)?.unwrap_or(28);
        return Ok((0..layers).map(|i| window.filter(|_| i >= first)).collect());
    };
    if kinds.len() != layers {
        let message = format!("names {} layers, but num_hidden_layers is {layers}", kinds.len());
        return Err(config.error("layer_types", message));
    }
    let of_kind = |kind: &str| match kind {
        "full_attention" => Ok(None),
        "sliding_attention" => Ok(window),
        other => {
            let message = format!("'{other}' is not implemented; implemented: full_attention, sliding_attention");
            Err(config.error("layer_types", message))
        }
    };
    kinds.into_iter().map(of_kind).collect()
}
