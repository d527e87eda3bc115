//! ModernBERT (Warner et al. 2024): `config.json` and tensor names of `ModernBertForMaskedLM` -> a [`ModelSpec`].
//!
//! Follows `transformers/models/modernbert/modeling_modernbert.py`: norms in front of attention and MLP (none in front of
//! the first attention, for the embedding ends with one) and behind the last block, usually without biases; a gated MLP
//! whose halves stand in one tensor; rotary positions, with one theta for layers that see everything and another for those
//! with a window; queries, keys and values in one tensor.

use super::config::{MOST_LAYERS, activation_named, epsilon, heads_of};
use super::encoder::require_head;
use super::rotary::Rope;
use super::spec::{
    AttentionSpec, BlockSpec, ClassifierDense, ClassifierSpec, EmbeddingSpec, HeadSpec, Join, LinearSpec, MlpSpec,
    ModelSpec, NormSpec, Pooling, RotarySpec, Stored, TransformSpec,
};
use crate::Result;
use crate::checkpoint::{Config, ModelDirectory};
use crate::ops::NormKind;

/// Reads the shapes of a ModernBERT and checks that what it asks for is what is implemented.
///
/// # Errors
/// A key of `config.json` that is missing, of the wrong type or not implemented; a checkpoint without the
/// masked-language-model head.
pub(super) fn spec(directory: &ModelDirectory) -> Result<ModelSpec> {
    let config = directory.config();
    let shape = Shape::read(config)?;
    let hidden = shape.hidden;
    let windows = windows(config)?;
    // Rotary embeddings of layers that see everything, and of the others.
    let global = config.optional_f32("global_rope_theta")?.unwrap_or(160_000.0);
    let local = config.optional_f32("local_rope_theta")?.unwrap_or(10_000.0);
    let everything = Rope::of_layers(config, "full_attention", global)?.spec(hidden / shape.heads)?;
    let near = Rope::of_layers(config, "sliding_attention", local)?.spec(hidden / shape.heads)?;
    let rotary = |window: &Option<u32>| if window.is_some() { &near } else { &everything };
    require_head(directory, "head.dense.weight", "head.*", "ModernBert")?;
    let tied = config.bool_or("tie_word_embeddings", true)?;
    let dense = LinearSpec::plain("head.dense".into(), hidden, hidden);
    let block = |(i, window): (usize, &Option<u32>)| block(config, &shape, *window, rotary(window), i);
    Ok(ModelSpec {
        family: "modernbert",
        base_model_prefix: "model",
        causal: false,
        enclosed: true,
        begins: false,
        hidden,
        vocabulary: config.usize("vocab_size")?,
        positions: config.usize("max_position_embeddings")?,
        embeddings: EmbeddingSpec {
            width: hidden,
            words: "model.embeddings.tok_embeddings.weight".into(),
            position_table: None,
            first_position: 0,
            token_types: None,
            norm: Some(shape.norm("model.embeddings.norm".into())),
            projection: None,
        },
        layers: (0..windows.len()).collect(),
        blocks: windows.iter().enumerate().map(block).collect::<Result<_>>()?,
        final_norm: Some(shape.norm("model.final_norm".into())),
        head: HeadSpec {
            transform: Some(TransformSpec {
                dense: dense.with_bias(config.bool_or("classifier_bias", false)?),
                activation: activation_named(config, "classifier_activation")?,
                norm: shape.norm("head.norm".into()),
            }),
            decoder: (!tied).then(|| "decoder.weight".into()),
            decoder_bias: config.bool_or("decoder_bias", true)?.then(|| "decoder.bias".into()),
        },
        classifier: classifier(config, &shape)?,
    })
}

/// The head's layers serve `ModernBertForSequenceClassification` too.
fn classifier(config: &Config, shape: &Shape) -> Result<ClassifierSpec> {
    let dense = ClassifierDense {
        activation: activation_named(config, "classifier_activation")?,
        name: "head.dense",
        pooler: true,
        bias: config.bool_or("classifier_bias", false)?,
        norm: Some(shape.norm("head.norm".into())),
    };
    let pooling = match config.optional_str("classifier_pooling")?.unwrap_or("cls") {
        "cls" => Pooling::First,
        "mean" => Pooling::Mean,
        other => {
            let message = format!("'{other}' is not implemented; implemented: cls, mean");
            return Err(config.error("classifier_pooling", message));
        }
    };
    Ok(ClassifierSpec { pooling, dense: Some(dense), bias: true, out: "classifier", takes_past: false })
}

/// What all blocks have in common.
struct Shape {
    hidden: usize,
    heads: usize,
    eps: f32,
    norm_bias: bool,
}

impl Shape {
    fn read(config: &Config) -> Result<Shape> {
        let (hidden, heads) = heads_of(config, "hidden_size", "num_attention_heads")?;
        let eps = epsilon(config, "norm_eps")?;
        Ok(Shape { hidden, heads, eps, norm_bias: config.bool_or("norm_bias", false)? })
    }

    fn norm(&self, name: String) -> NormSpec {
        NormSpec { name, kind: NormKind::Layer, bias: self.norm_bias, eps: self.eps }
    }
}

fn block(config: &Config, shape: &Shape, window: Option<u32>, rotary: &RotarySpec, i: usize) -> Result<BlockSpec> {
    let Shape { hidden, heads, .. } = *shape;
    let inner = config.usize("intermediate_size")?;
    let (attention_bias, mlp_bias) = (config.bool_or("attention_bias", false)?, config.bool_or("mlp_bias", false)?);
    let at = format!("model.layers.{i}");
    // Part `index` of `parts` equally wide layers in one tensor.
    let part = |name: &str, outputs, inputs, index: usize, parts: usize| LinearSpec {
        stored: Stored::part(outputs, index * outputs, parts * outputs),
        ..LinearSpec::plain(format!("{at}.{name}"), outputs, inputs)
    };
    let qkv = |index| part("attn.Wqkv", hidden, hidden, index, 3).with_bias(attention_bias);
    let halves = |index| part("mlp.Wi", inner, hidden, index, 2).with_bias(mlp_bias);
    Ok(BlockSpec {
        join: Join::Pre,
        attention: AttentionSpec {
            heads,
            kv_heads: heads,
            head_dim: hidden / heads,
            scale: 1.0 / ((hidden / heads) as f32).sqrt(),
            causal: false,
            window,
            rotary: Some(rotary.clone()),
            head_norms: None,
            query: qkv(0),
            key: qkv(1),
            value: qkv(2),
            output: part("attn.Wo", hidden, hidden, 0, 1).with_bias(attention_bias),
        },
        attention_norm: (i > 0).then(|| shape.norm(format!("{at}.attn_norm"))),
        mlp: MlpSpec {
            gate: Some(halves(0)),
            up: halves(1),
            activation: activation_named(config, "hidden_activation")?,
            down: part("mlp.Wo", hidden, inner, 0, 1).with_bias(mlp_bias),
        },
        mlp_norm: shape.norm(format!("{at}.mlp_norm")),
    })
}

/// The window of each layer: as `layer_types` says, else of all but every `global_attn_every_n_layers`-th.
fn windows(config: &Config) -> Result<Vec<Option<u32>>> {
    let layers = config.usize_in("num_hidden_layers", 1..=MOST_LAYERS)?;
    let window = config.optional_usize("local_attention")?.unwrap_or(128) as u32;
    let Some(kinds) = config.optional_strings("layer_types")? else {
        let every = config.optional_usize("global_attn_every_n_layers")?.unwrap_or(3);
        return Ok((0..layers).map(|i| Some(window).filter(|_| i % every != 0)).collect());
    };
    if kinds.len() != layers {
        let message = format!("names {} layers, but num_hidden_layers is {layers}", kinds.len());
        return Err(config.error("layer_types", message));
    }
    let of_kind = |kind: &str| match kind {
        "full_attention" => Ok(None),
        "sliding_attention" => Ok(Some(window)),
        other => {
            let message = format!("'{other}' is not implemented; implemented: full_attention, sliding_attention");
            Err(config.error("layer_types", message))
        }
    };
    kinds.into_iter().map(of_kind).collect()
}
