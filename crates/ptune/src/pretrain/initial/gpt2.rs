//! `GPT2LMHeadModel` of transformers: its configuration and its tensors. The decoder is the word table; linear layers stand
//! transposed. What adds to the residual stream begins smaller by the root of how many do (GPT-2 paper, section 2.3).

use serde_json::{Map, Value, json};

use super::{DEVIATION, DROPOUT, Initial, Values, common_config, inner};
use crate::pretrain::config::ModelConfig;
use crate::pretrain::tokenizer::TrainedTokenizer;

pub(super) fn config(model: &ModelConfig, tokenizer: &TrainedTokenizer) -> Map<String, Value> {
    let mut config = common_config("GPT2LMHeadModel", "gpt2", tokenizer.size);
    let mut set = |key: &str, value: Value| config.insert(key.into(), value);
    set("n_embd", json!(model.hidden));
    set("n_layer", json!(model.layers));
    set("n_head", json!(model.heads));
    set("n_inner", json!(inner(model)));
    set("n_positions", json!(model.positions));
    set("activation_function", json!("gelu_new"));
    for key in ["embd_pdrop", "attn_pdrop", "resid_pdrop"] {
        set(key, json!(DROPOUT));
    }
    set("layer_norm_epsilon", json!(1e-5));
    set("bos_token_id", json!(tokenizer.end));
    set("eos_token_id", json!(tokenizer.end));
    config
}

pub(super) fn tensors(model: &ModelConfig, vocabulary: usize) -> Vec<Initial> {
    let (hidden, inner) = (model.hidden, inner(model));
    let residual = DEVIATION / (2.0 * model.layers as f32).sqrt();
    let conv1d =
        |name: String, outputs, inputs, deviation| Initial::linear(&name, [inputs, outputs], outputs, deviation);
    let table = |name: &str, rows| {
        Initial::new(format!("transformer.{name}.weight"), &[rows, hidden], Values::Normal(DEVIATION))
    };
    let mut tensors = vec![table("wte", vocabulary), table("wpe", model.positions)];
    for i in 0..model.layers {
        let at = |name: &str| format!("transformer.h.{i}.{name}");
        tensors.extend(Initial::norm(&at("ln_1"), hidden));
        tensors.extend(conv1d(at("attn.c_attn"), 3 * hidden, hidden, DEVIATION));
        tensors.extend(conv1d(at("attn.c_proj"), hidden, hidden, residual));
        tensors.extend(Initial::norm(&at("ln_2"), hidden));
        tensors.extend(conv1d(at("mlp.c_fc"), inner, hidden, DEVIATION));
        tensors.extend(conv1d(at("mlp.c_proj"), hidden, inner, residual));
    }
    tensors.extend(Initial::norm("transformer.ln_f", hidden));
    tensors
}
