//! BERT (Devlin et al. 2018): `config.json` and tensor names of `BertForMaskedLM` -> a [`ModelSpec`].
//!
//! Follows `transformers/models/bert/modeling_bert.py`. Token types are all 0, absolute positions from 0, post-norm
//! blocks, the decoder tied to the word table unless `tie_word_embeddings` is false. [`encoder`] is what RoBERTa has in
//! common with it.

use super::spec::{
    AttentionSpec, BlockSpec, EmbeddingSpec, HeadSpec, Join, LinearSpec, MlpSpec, ModelSpec, NormSpec, TransformSpec,
};
use super::{MOST_LAYERS, activation_named};
use crate::checkpoint::{Config, ModelDirectory};
use crate::{Error, Result};

/// Reads the shapes of a BERT and checks that what it asks for is what is implemented.
///
/// # Errors
/// A key of `config.json` that is missing, of the wrong type or not implemented; a checkpoint without the
/// masked-language-model head.
pub(super) fn spec(directory: &ModelDirectory) -> Result<ModelSpec> {
    let config = directory.config();
    let Encoder { hidden, eps, embeddings, blocks } = encoder(config, "bert", 0)?;
    require_head(directory, "cls.predictions.transform.dense.weight", "cls.predictions.*", "Bert")?;
    let (decoder, decoder_bias) = decoder(directory, "cls.predictions")?;
    Ok(ModelSpec {
        family: "bert",
        causal: false,
        enclosed: true,
        hidden,
        vocabulary: config.usize("vocab_size")?,
        positions: config.usize("max_position_embeddings")?,
        embeddings,
        layers: (0..blocks.len()).collect(),
        blocks,
        final_norm: None,
        head: HeadSpec {
            transform: Some(TransformSpec {
                dense: LinearSpec::plain("cls.predictions.transform.dense".into(), hidden, hidden),
                activation: activation_named(config, "hidden_act")?,
                norm: NormSpec { name: "cls.predictions.transform.LayerNorm".into(), eps },
            }),
            decoder,
            decoder_bias: Some(decoder_bias),
        },
    })
}

/// The part of a model below its head.
pub(super) struct Encoder {
    pub(super) hidden: usize,
    pub(super) eps: f32,
    pub(super) embeddings: EmbeddingSpec,
    pub(super) blocks: Vec<BlockSpec>,
}

/// Embeddings and blocks in BERT's shapes, their tensors named `<model>.embeddings.*` and `<model>.encoder.*`.
pub(super) fn encoder(config: &Config, model: &str, first_position: usize) -> Result<Encoder> {
    refuse_unsupported(config)?;
    let hidden = config.usize("hidden_size")?;
    let inner = config.usize("intermediate_size")?;
    let heads = config.usize("num_attention_heads")?;
    if hidden % heads != 0 {
        let message = format!("{heads} heads do not divide hidden_size {hidden}");
        return Err(config.error("num_attention_heads", message));
    }
    let eps = config.f32("layer_norm_eps")?;
    if !(0.0..1.0).contains(&eps) {
        return Err(config.error("layer_norm_eps", format!("{eps} should be a small number, as 1e-12")));
    }
    let activation = activation_named(config, "hidden_act")?;
    let norm = |name: String| NormSpec { name, eps };
    let block = |i: usize| {
        let at = format!("{model}.encoder.layer.{i}");
        let linear = |name: &str, outputs, inputs| LinearSpec::plain(format!("{at}.{name}"), outputs, inputs);
        BlockSpec {
            join: Join::Post,
            attention: AttentionSpec {
                heads,
                kv_heads: heads,
                head_dim: hidden / heads,
                scale: 1.0 / ((hidden / heads) as f32).sqrt(),
                causal: false,
                query: linear("attention.self.query", hidden, hidden),
                key: linear("attention.self.key", hidden, hidden),
                value: linear("attention.self.value", hidden, hidden),
                output: linear("attention.output.dense", hidden, hidden),
            },
            attention_norm: norm(format!("{at}.attention.output.LayerNorm")),
            mlp: MlpSpec {
                up: linear("intermediate.dense", inner, hidden),
                activation,
                down: linear("output.dense", hidden, inner),
            },
            mlp_norm: norm(format!("{at}.output.LayerNorm")),
        }
    };
    let embeddings = EmbeddingSpec {
        width: hidden,
        words: format!("{model}.embeddings.word_embeddings.weight"),
        position_table: format!("{model}.embeddings.position_embeddings.weight"),
        first_position,
        token_types: Some((
            format!("{model}.embeddings.token_type_embeddings.weight"),
            config.usize("type_vocab_size")?,
        )),
        norm: Some(norm(format!("{model}.embeddings.LayerNorm"))),
        projection: None,
    };
    let blocks = (0..config.usize_in("num_hidden_layers", 1..=MOST_LAYERS)?).map(block).collect();
    Ok(Encoder { hidden, eps, embeddings, blocks })
}

fn refuse_unsupported(config: &Config) -> Result<()> {
    let positions = config.optional_str("position_embedding_type")?.unwrap_or("absolute");
    if positions != "absolute" {
        let message = format!("'{positions}' positions are not implemented; only 'absolute' ones are");
        return Err(config.error("position_embedding_type", message));
    }
    for key in ["is_decoder", "add_cross_attention"] {
        if config.bool_or(key, false)? {
            return Err(config.error(key, "a decoder of this model type is not implemented; this must be false"));
        }
    }
    Ok(())
}

/// The tensors of the decoder's weight, unless it is the word table, and of its bias, which files hold as `<head>.bias`,
/// as `<head>.decoder.bias`, or as both; where both may differ, an untied decoder has the second.
pub(super) fn decoder(directory: &ModelDirectory, head: &str) -> Result<(Option<String>, String)> {
    let tied = directory.config().bool_or("tie_word_embeddings", true)?;
    let [shared, own] = [format!("{head}.bias"), format!("{head}.decoder.bias")];
    let has = |name: &String| directory.weights().contains(name);
    let bias = if has(&own) && !(tied && has(&shared)) { own } else { shared };
    Ok(((!tied).then(|| format!("{head}.decoder.weight")), bias))
}

/// Refuses a checkpoint without the head of `<class>ForMaskedLM`, which has the tensor `tensor`.
pub(super) fn require_head(directory: &ModelDirectory, tensor: &str, names: &str, class: &str) -> Result<()> {
    if directory.weights().contains(tensor) {
        return Ok(());
    }
    let message = format!(
        "this checkpoint has no masked-language-model head (no tensors {names}), so it cannot fill a mask; use one \
         that was saved from {class}ForMaskedLM"
    );
    Err(Error::file(directory.path(), message))
}
