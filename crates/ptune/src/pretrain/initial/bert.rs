//! `BertForMaskedLM` of transformers: its configuration and its tensors. The decoder is the word table.

use serde_json::{Map, Value, json};

use super::{DEVIATION, DROPOUT, Initial, Values, common_config, inner};
use crate::pretrain::config::ModelConfig;

/// Row 0 is added everywhere; BERT has a second one for second texts.
const TOKEN_TYPES: usize = 2;

pub(super) fn config(model: &ModelConfig, vocabulary: usize) -> Map<String, Value> {
    let mut config = common_config("BertForMaskedLM", "bert", vocabulary);
    let mut set = |key: &str, value: Value| config.insert(key.into(), value);
    set("hidden_size", json!(model.hidden));
    set("num_hidden_layers", json!(model.layers));
    set("num_attention_heads", json!(model.heads));
    set("intermediate_size", json!(inner(model)));
    set("hidden_act", json!("gelu"));
    set("hidden_dropout_prob", json!(DROPOUT));
    set("attention_probs_dropout_prob", json!(DROPOUT));
    set("max_position_embeddings", json!(model.positions));
    set("type_vocab_size", json!(TOKEN_TYPES));
    set("layer_norm_eps", json!(1e-12));
    set("pad_token_id", json!(0));
    config
}

pub(super) fn tensors(model: &ModelConfig, vocabulary: usize) -> Vec<Initial> {
    let (hidden, inner) = (model.hidden, inner(model));
    let linear = |name: String, outputs, inputs| Initial::linear(&name, [outputs, inputs], outputs, DEVIATION);
    let table = |name: &str, rows| {
        let name = format!("bert.embeddings.{name}_embeddings.weight");
        Initial::new(name, &[rows, hidden], Values::Normal(DEVIATION))
    };
    let mut tensors =
        vec![table("word", vocabulary), table("position", model.positions), table("token_type", TOKEN_TYPES)];
    tensors.extend(Initial::norm("bert.embeddings.LayerNorm", hidden));
    for i in 0..model.layers {
        let at = |name: &str| format!("bert.encoder.layer.{i}.{name}");
        for name in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            tensors.extend(linear(at(name), hidden, hidden));
        }
        tensors.extend(Initial::norm(&at("attention.output.LayerNorm"), hidden));
        tensors.extend(linear(at("intermediate.dense"), inner, hidden));
        tensors.extend(linear(at("output.dense"), hidden, inner));
        tensors.extend(Initial::norm(&at("output.LayerNorm"), hidden));
    }
    tensors.extend(linear("cls.predictions.transform.dense".into(), hidden, hidden));
    tensors.extend(Initial::norm("cls.predictions.transform.LayerNorm", hidden));
    tensors.push(Initial::new("cls.predictions.bias", &[vocabulary], Values::Zeros));
    tensors
}
