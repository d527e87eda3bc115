//! The keys of `adapter_config.json` as we write it.
//!
//! They are those that every PEFT knows and no other: `peft_version`, `init_weights`, `tokenizer_kwargs`, or any key of ours, would be
//! a TypeError in PEFT 0.7 to 0.13, and of a prompt or a prefix `modules_to_save` too, which is there only where a pooler has to
//! be saved. A prompt always has its `task_type`: without it PEFT runs the model without the prompt. `prompt_tuning_init` is
//! never `TEXT`, which asks for a tokenizer at load.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::write::{PeftMethod, Source};
use super::{heads, lora_write};
use crate::adapter::{Base, Weight};
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::model::Lora;

/// Keys with their values, sorted as PEFT's own writer has them.
pub(super) type Keys = BTreeMap<&'static str, Value>;

/// Those of a prompt.
pub(super) fn of_prompt(source: &Source<'_>, method: PeftMethod, rows: usize, width: usize) -> Keys {
    let mut keys = of_tokens(source, method, rows);
    if method == PeftMethod::PTuning {
        // What the encoder was is lost with it; these keys matter to nobody who loads its output.
        let lstm = source.adapter.description.encoder.as_deref() == Some("lstm");
        keys.extend([
            ("encoder_dropout", json!(0.0)),
            ("encoder_hidden_size", json!(width)),
            ("encoder_num_layers", json!(2)),
            ("encoder_reparameterization_type", json!(if lstm { "LSTM" } else { "MLP" })),
        ]);
    } else {
        keys.extend([
            ("prompt_tuning_init", json!("RANDOM")),
            ("prompt_tuning_init_text", Value::Null),
            ("tokenizer_name_or_path", Value::Null),
        ]);
    }
    keys
}

/// Those of a prefix. PEFT counts the heads of keys and values, and a token is as wide as they are together.
pub(super) fn of_prefix(source: &Source<'_>, rows: usize) -> Keys {
    let (heads, width) = source.spec.blocks.first().map_or((0, 0), |block| {
        let attention = &block.attention;
        (attention.kv_heads, attention.kv_heads * attention.head_dim)
    });
    let mut keys = of_tokens(source, PeftMethod::PrefixTuning, rows);
    keys.extend([
        ("num_attention_heads", json!(heads)),
        ("token_dim", json!(width)),
        ("encoder_hidden_size", json!(width)),
        ("prefix_projection", json!(false)),
    ]);
    keys
}

/// Those of a LoRA, and its tensors.
///
/// # Errors
/// Matrices that are missing or damaged.
pub(super) fn of_lora(source: &Source<'_>, lora: &Lora, matrices: &Weights) -> Result<(Keys, Vec<Weight>)> {
    let (mut keys, weights) = lora_write::write(lora, matrices, source.spec)?;
    // The type chooses the class around the model; there is none for a masked model, and a LoRA needs none.
    let task_type = if source.is_classifier() || source.spec.causal { task_type(source) } else { Value::Null };
    keys.extend(common(source, PeftMethod::Lora, task_type));
    if source.is_classifier() {
        let saved = heads::modules_to_save(source.spec).unwrap_or(heads::SAVED.to_vec());
        keys.insert("modules_to_save", json!(saved));
    }
    Ok((keys, weights))
}

fn common(source: &Source<'_>, method: PeftMethod, task_type: Value) -> [(&'static str, Value); 6] {
    [
        ("auto_mapping", Value::Null),
        ("base_model_name_or_path", json!(base_name(&source.adapter.description.base))),
        ("inference_mode", json!(true)),
        ("peft_type", json!(method.name())),
        ("revision", Value::Null),
        ("task_type", task_type),
    ]
}

fn task_type(source: &Source<'_>) -> Value {
    json!(if source.is_classifier() { "SEQ_CLS" } else { "CAUSAL_LM" })
}

/// The keys of every method with virtual tokens.
fn of_tokens(source: &Source<'_>, method: PeftMethod, tokens: usize) -> Keys {
    let spec = source.spec;
    let heads = spec.blocks.first().map_or(0, |block| block.attention.heads);
    let mut keys = BTreeMap::from([
        ("num_attention_heads", json!(heads)),
        ("num_layers", json!(spec.layers.len())),
        ("num_transformer_submodules", json!(1)),
        ("num_virtual_tokens", json!(tokens)),
        ("token_dim", json!(source.adapter.width)),
    ]);
    keys.extend(common(source, method, task_type(source)));
    if let Some(saved) = heads::modules_to_save(spec).filter(|_| source.is_classifier()) {
        keys.insert("modules_to_save", json!(saved));
    }
    keys
}

/// The base as PEFT names it: a model of the hub by its name, any other by its path.
fn base_name(base: &Base) -> &str {
    base.name.split_once('@').map_or(base.path.as_str(), |(name, _)| name)
}
