//! What BERT and the models after it have in common, for their families to put names to: sizes, a block whose linear layers
//! stand in the file as they are, embeddings in BERT's names, and where a masked-language-model head is to be found.
//!
//! BERT, RoBERTa, XLM-R, ALBERT, ELECTRA, DistilBERT, and OPT with its norms in front.

use super::config::{activation_named, epsilon, heads_of};
use super::spec::{AttentionSpec, BlockSpec, EmbeddingSpec, Join, LinearSpec, MlpSpec, NormSpec, TransformSpec};
use crate::checkpoint::{Config, ModelDirectory};
use crate::ops::Activation;
use crate::{Error, Result};

/// Sizes and values that all blocks share.
pub(super) struct Sizes {
    pub(super) hidden: usize,
    pub(super) inner: usize,
    pub(super) heads: usize,
    pub(super) activation: Activation,
    /// Of every norm.
    pub(super) eps: f32,
    pub(super) causal: bool,
    pub(super) join: Join,
}

/// The names of a block's layers behind its own.
pub(super) struct BlockNames {
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) output: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) mlp_norm: &'static str,
}

/// Those of BERT.
pub(super) const BERT_NAMES: BlockNames = BlockNames {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    mlp_norm: "output.LayerNorm",
};

impl Sizes {
    /// From BERT's keys of `config.json`; options of its position embeddings and of its use as a decoder are refused.
    pub(super) fn read(config: &Config) -> Result<Sizes> {
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
        let eps = epsilon(config, "layer_norm_eps")?;
        let (hidden, heads) = heads_of(config, "hidden_size", "num_attention_heads")?;
        Ok(Sizes {
            hidden,
            inner: config.usize("intermediate_size")?,
            heads,
            activation: activation_named(config, "hidden_act")?,
            eps,
            causal: false,
            join: Join::Post,
        })
    }

    pub(super) fn norm(&self, name: impl Into<String>) -> NormSpec {
        NormSpec::layer(name.into(), self.eps)
    }

    /// The block `at`.
    pub(super) fn block(&self, at: &str, names: &BlockNames) -> BlockSpec {
        let &Sizes { hidden, inner, heads, activation, causal, join, .. } = self;
        let linear = |name: &str, outputs, inputs| LinearSpec::plain(format!("{at}.{name}"), outputs, inputs);
        BlockSpec {
            join,
            attention: AttentionSpec {
                heads,
                kv_heads: heads,
                head_dim: hidden / heads,
                scale: 1.0 / ((hidden / heads) as f32).sqrt(),
                causal,
                window: None,
                rotary: None,
                head_norms: None,
                query: linear(names.query, hidden, hidden),
                key: linear(names.key, hidden, hidden),
                value: linear(names.value, hidden, hidden),
                output: linear(names.output, hidden, hidden),
            },
            attention_norm: Some(self.norm(format!("{at}.{}", names.attention_norm))),
            mlp: MlpSpec {
                gate: None,
                up: linear(names.up, inner, hidden),
                activation,
                down: linear(names.down, hidden, inner),
            },
            mlp_norm: self.norm(format!("{at}.{}", names.mlp_norm)),
        }
    }

    /// Embeddings `<model>.embeddings.*` of width `width`, with as many token types as the family has, perhaps none.
    pub(super) fn embeddings(
        &self,
        model: &str,
        width: usize,
        first_position: usize,
        token_types: Option<usize>,
    ) -> EmbeddingSpec {
        let table = |name: &str| format!("{model}.embeddings.{name}.weight");
        EmbeddingSpec {
            width,
            words: table("word_embeddings"),
            position_table: Some(table("position_embeddings")),
            first_position,
            token_types: token_types.map(|types| (table("token_type_embeddings"), types)),
            norm: Some(self.norm(format!("{model}.embeddings.LayerNorm"))),
            projection: None,
        }
    }

    /// What stands in front of a decoder with `width` inputs.
    pub(super) fn transform(&self, dense: &str, norm: &str, width: usize, activation: Activation) -> TransformSpec {
        TransformSpec { dense: LinearSpec::plain(dense.into(), width, self.hidden), activation, norm: self.norm(norm) }
    }
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
