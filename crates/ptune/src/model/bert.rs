//! BERT (Devlin et al. 2018): `config.json` and tensor names of `BertForMaskedLM` -> a [`ModelSpec`].
//!
//! Follows `transformers/models/bert/modeling_bert.py`. Token types are all 0, absolute positions from 0, post-norm
//! blocks, the decoder tied to the word table unless `tie_word_embeddings` is false.

use std::path::Path;

use super::spec::{AttentionSpec, BlockSpec, EmbeddingSpec, HeadSpec, Join, LinearSpec, MlpSpec, ModelSpec, NormSpec};
use crate::checkpoint::{Config, ModelDirectory, Weights};
use crate::model::activation_named;
use crate::{Error, Result};

/// More blocks than any model has: a damaged number must not become a billion specs.
const MOST_LAYERS: usize = 1024;

/// Reads the shapes of a BERT and checks that what it asks for is what is implemented.
///
/// # Errors
/// A key of `config.json` that is missing, of the wrong type or not implemented; a checkpoint without the
/// masked-language-model head.
pub(super) fn spec(directory: &ModelDirectory) -> Result<ModelSpec> {
    let config = directory.config();
    let hidden = config.usize("hidden_size")?;
    let inner = config.usize("intermediate_size")?;
    let heads = config.usize("num_attention_heads")?;
    if hidden % heads != 0 {
        let message = format!("{heads} heads do not divide hidden_size {hidden}");
        return Err(config.error("num_attention_heads", message));
    }
    refuse_unsupported(config)?;
    require_head(directory.weights(), directory.path())?;

    let eps = config.f32("layer_norm_eps")?;
    if !(0.0..1.0).contains(&eps) {
        return Err(config.error("layer_norm_eps", format!("{eps} should be a small number, as 1e-12")));
    }
    let norm = |name: String| NormSpec { name, eps };
    let linear = |name: String, outputs, inputs| LinearSpec { name, outputs, inputs };
    let block = |i: usize| -> Result<BlockSpec> {
        let at = format!("bert.encoder.layer.{i}");
        Ok(BlockSpec {
            join: Join::Post,
            attention: AttentionSpec {
                heads,
                kv_heads: heads,
                head_dim: hidden / heads,
                causal: false,
                query: linear(format!("{at}.attention.self.query"), hidden, hidden),
                key: linear(format!("{at}.attention.self.key"), hidden, hidden),
                value: linear(format!("{at}.attention.self.value"), hidden, hidden),
                output: linear(format!("{at}.attention.output.dense"), hidden, hidden),
            },
            attention_norm: norm(format!("{at}.attention.output.LayerNorm")),
            mlp: MlpSpec {
                up: linear(format!("{at}.intermediate.dense"), inner, hidden),
                activation: activation_named(config, "hidden_act")?,
                down: linear(format!("{at}.output.dense"), hidden, inner),
            },
            mlp_norm: norm(format!("{at}.output.LayerNorm")),
        })
    };
    let token_types = config.usize("type_vocab_size")?;
    let tied = config.bool_or("tie_word_embeddings", true)?;
    Ok(ModelSpec {
        family: "bert",
        causal: false,
        hidden,
        vocabulary: config.usize("vocab_size")?,
        positions: config.usize("max_position_embeddings")?,
        embeddings: EmbeddingSpec {
            words: "bert.embeddings.word_embeddings.weight".into(),
            position_table: "bert.embeddings.position_embeddings.weight".into(),
            token_types: Some(("bert.embeddings.token_type_embeddings.weight".into(), token_types)),
            norm: norm("bert.embeddings.LayerNorm".into()),
        },
        blocks: (0..config.usize_in("num_hidden_layers", 1..=MOST_LAYERS)?).map(block).collect::<Result<_>>()?,
        head: HeadSpec {
            dense: linear("cls.predictions.transform.dense".into(), hidden, hidden),
            activation: activation_named(config, "hidden_act")?,
            norm: norm("cls.predictions.transform.LayerNorm".into()),
            decoder: (!tied).then(|| "cls.predictions.decoder.weight".into()),
            decoder_bias: "cls.predictions.bias".into(),
        },
    })
}

fn refuse_unsupported(config: &Config) -> Result<()> {
    let positions = config.optional_str("position_embedding_type")?.unwrap_or("absolute");
    if positions != "absolute" {
        let message = format!("'{positions}' positions are not implemented; only 'absolute' ones are");
        return Err(config.error("position_embedding_type", message));
    }
    for key in ["is_decoder", "add_cross_attention"] {
        if config.bool_or(key, false)? {
            return Err(config.error(key, "a BERT decoder is not implemented; this must be false"));
        }
    }
    Ok(())
}

fn require_head(weights: &Weights, directory: &Path) -> Result<()> {
    if weights.contains("cls.predictions.transform.dense.weight") {
        return Ok(());
    }
    let message = "this checkpoint has no masked-language-model head (no tensors cls.predictions.*), so it cannot \
                   fill [MASK]; use one that was saved from BertForMaskedLM or BertForPreTraining";
    Err(Error::file(directory, message))
}
