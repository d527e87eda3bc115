//! BERT (Devlin et al. 2018): `config.json` and tensor names of `BertForMaskedLM` -> a [`ModelSpec`].
//!
//! Follows `transformers/models/bert/modeling_bert.py`. Token types are all 0, absolute positions from 0, post-norm
//! blocks, the decoder tied to the word table unless `tie_word_embeddings` is false.

use super::config::MOST_LAYERS;
use super::encoder::{BERT_NAMES, Sizes, decoder, require_head};
use super::spec::{ClassifierSpec, HeadSpec, ModelSpec};
use crate::Result;
use crate::checkpoint::ModelDirectory;
use crate::ops::Activation;

/// Reads the shapes of a BERT and checks that what it asks for is what is implemented.
///
/// # Errors
/// A key of `config.json` that is missing, of the wrong type or not implemented; a checkpoint without the
/// masked-language-model head.
pub(super) fn spec(directory: &ModelDirectory) -> Result<ModelSpec> {
    const HEAD: &str = "cls.predictions";
    let config = directory.config();
    let sizes = Sizes::read(config)?;
    let hidden = sizes.hidden;
    require_head(directory, "cls.predictions.transform.dense.weight", "cls.predictions.*", "Bert")?;
    let (decoder, decoder_bias) = decoder(directory, HEAD)?;
    let layers = 0..config.usize_in("num_hidden_layers", 1..=MOST_LAYERS)?;
    let [dense, norm] = ["dense", "LayerNorm"].map(|name| format!("{HEAD}.transform.{name}"));
    Ok(ModelSpec {
        family: "bert",
        base_model_prefix: "bert",
        causal: false,
        enclosed: true,
        begins: false,
        hidden,
        vocabulary: config.usize("vocab_size")?,
        positions: config.usize("max_position_embeddings")?,
        embeddings: sizes.embeddings("bert", hidden, 0, Some(config.usize("type_vocab_size")?)),
        blocks: layers.clone().map(|i| sizes.block(&format!("bert.encoder.layer.{i}"), &BERT_NAMES)).collect(),
        layers: layers.collect(),
        final_norm: None,
        head: HeadSpec {
            transform: Some(sizes.transform(&dense, &norm, hidden, sizes.activation)),
            decoder,
            decoder_bias: Some(decoder_bias),
        },
        classifier: ClassifierSpec::pooled(Activation::Tanh, "bert.pooler.dense"),
    })
}
