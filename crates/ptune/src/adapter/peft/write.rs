//! An adapter as PEFT's two files, and ours beside them.
//!
//! The config has the portable keys and no other: `peft_version`, `modules_to_save`, `init_weights`, `tokenizer_kwargs`, or
//! any key of ours, would be a TypeError in PEFT 0.7 to 0.13. `task_type` is always there: without it PEFT runs the model
//! without the prompt. `prompt_tuning_init` is never `TEXT`, which asks for a tokenizer at load. Keys are sorted, as
//! PEFT's own writer has them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::{CONFIG_FILE, OUR_FILE, PROMPT_TENSOR, TENSORS_FILE, front_rows, prefix_of_prompt, sibling};
use crate::adapter::{Adapter, Base, Description};
use crate::error::{Error, Result};
use crate::files::{self, StagedFile};
use crate::model::Model;
use crate::model::spec::ModelSpec;
use crate::prompt::Template;
use crate::tensor::Device;

/// What an adapter can become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeftMethod {
    /// `PROMPT_TUNING`: a table. The label that most readers know.
    PromptTuning,
    /// `P_TUNING`: the same tensor, with the name of the encoder that computed it.
    PTuning,
    /// `PREFIX_TUNING`: what the prompt makes of keys and values in every block; the model has to be run once.
    PrefixTuning,
}

impl PeftMethod {
    /// PEFT's name.
    pub fn name(self) -> &'static str {
        match self {
            PeftMethod::PromptTuning => "PROMPT_TUNING",
            PeftMethod::PTuning => "P_TUNING",
            PeftMethod::PrefixTuning => "PREFIX_TUNING",
        }
    }

    /// That of an adapter whose rows were computed by this encoder.
    pub fn of_encoder(encoder: Option<&str>) -> PeftMethod {
        if matches!(encoder, Some("mlp" | "lstm")) { PeftMethod::PTuning } else { PeftMethod::PromptTuning }
    }
}

/// An adapter in PEFT's terms, ready to be written.
#[derive(Debug)]
pub struct Exported {
    config: BTreeMap<&'static str, Value>,
    /// Name, shape and numbers.
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    description: Description,
}

impl Exported {
    /// The rows themselves. `template` is the adapter's as its model sees it.
    ///
    /// # Errors
    /// What PEFT cannot express: [`front_rows`].
    pub fn prompt(adapter: &Adapter, template: &Template, spec: &ModelSpec, method: PeftMethod) -> Result<Exported> {
        let rows = virtual_rows(adapter, template, spec)?;
        let tokens = rows.len() / adapter.width;
        let mut config = common(adapter, spec, method, tokens);
        let encoder = adapter.description.encoder.as_deref();
        if method == PeftMethod::PTuning {
            // What the encoder was is lost with it; these keys matter to nobody who loads its output.
            config.insert("encoder_dropout", json!(0.0));
            config.insert("encoder_hidden_size", json!(adapter.width));
            config.insert("encoder_num_layers", json!(2));
            let kind = if encoder == Some("lstm") { "LSTM" } else { "MLP" };
            config.insert("encoder_reparameterization_type", json!(kind));
        } else {
            config.insert("prompt_tuning_init", json!("RANDOM"));
            config.insert("prompt_tuning_init_text", Value::Null);
            config.insert("tokenizer_name_or_path", Value::Null);
        }
        let tensors = vec![(PROMPT_TENSOR.to_owned(), vec![tokens, adapter.width], rows)];
        Ok(Exported { config, tensors, description: adapter.description.clone() })
    }

    /// What the prompt makes of keys and values: exact, see [`prefix_of_prompt`].
    ///
    /// # Errors
    /// As [`Exported::prompt`].
    pub fn prefix(adapter: &Adapter, template: &Template, model: &Model, device: &Device) -> Result<Exported> {
        let spec = model.spec();
        let rows = virtual_rows(adapter, template, spec)?;
        let tokens = rows.len() / adapter.width;
        let numbers = prefix_of_prompt(model, device, &rows, tokens);
        let mut config = common(adapter, spec, PeftMethod::PrefixTuning, tokens);
        let (heads, width) = kv_heads_and_width(spec);
        config.insert("num_attention_heads", json!(heads));
        config.insert("token_dim", json!(width));
        config.insert("encoder_hidden_size", json!(width));
        config.insert("prefix_projection", json!(false));
        let tensors = vec![(PROMPT_TENSOR.to_owned(), vec![tokens, numbers.len() / tokens], numbers)];
        Ok(Exported { config, tensors, description: adapter.description.clone() })
    }

    /// Virtual tokens.
    pub fn tokens(&self) -> usize {
        self.tensors[0].1[0]
    }

    /// Writes the three files into a directory that is new or empty; `adapter_config.json`, by which PEFT knows an
    /// adapter, comes last.
    ///
    /// # Errors
    /// A directory that holds something; [`Error::Write`].
    pub fn write(&self, directory: &Path) -> Result<()> {
        let failed = |wrong: String| Error::request(format!("the adapter cannot be written: {wrong}"));
        let as_bytes = |numbers: &Vec<f32>| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
        let bytes: Vec<Vec<u8>> = self.tensors.iter().map(|(_, _, numbers)| as_bytes(numbers)).collect();
        let mut views = Vec::new();
        for ((name, shape, _), bytes) in self.tensors.iter().zip(&bytes) {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|wrong| failed(wrong.to_string()))?;
            views.push((name, view));
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let tensors = safetensors::serialize(views, Some(metadata)).map_err(|wrong| failed(wrong.to_string()))?;
        let config = serde_json::to_string_pretty(&self.config).map_err(|wrong| failed(wrong.to_string()))?;

        files::create_new_directory(directory)?;
        let parts: [(&str, Vec<u8>); 3] = [
            (OUR_FILE, sibling::bytes(&self.description)?),
            (TENSORS_FILE, tensors),
            (CONFIG_FILE, config.into_bytes()),
        ];
        let stage = |(name, bytes): &(&str, Vec<u8>)| StagedFile::write(&directory.join(name), bytes);
        let staged: Vec<StagedFile> = parts.iter().map(stage).collect::<Result<_>>()?;
        staged.into_iter().try_for_each(StagedFile::commit)
    }
}

/// The rows in the order of the virtual tokens.
fn virtual_rows(adapter: &Adapter, template: &Template, spec: &ModelSpec) -> Result<Vec<f32>> {
    if !adapter.tuned.is_empty() {
        let message = "its model was trained along (backbone.mode = \"full\"): PEFT's prompt files hold no weights, and \
                       without them the prompt means something else";
        return Err(Error::request(message));
    }
    let order = front_rows(template, spec)?;
    Ok(order.into_iter().flat_map(|row| adapter.prompt[row * adapter.width..][..adapter.width].to_vec()).collect())
}

/// The keys of every prompt method.
fn common(adapter: &Adapter, spec: &ModelSpec, method: PeftMethod, tokens: usize) -> BTreeMap<&'static str, Value> {
    let heads = spec.blocks.first().map_or(0, |block| block.attention.heads);
    BTreeMap::from([
        ("auto_mapping", Value::Null),
        ("base_model_name_or_path", json!(base_name(&adapter.description.base))),
        ("inference_mode", json!(true)),
        ("num_attention_heads", json!(heads)),
        ("num_layers", json!(spec.layers.len())),
        ("num_transformer_submodules", json!(1)),
        ("num_virtual_tokens", json!(tokens)),
        ("peft_type", json!(method.name())),
        ("revision", Value::Null),
        ("task_type", json!("CAUSAL_LM")),
        ("token_dim", json!(adapter.width)),
    ])
}

/// The base as PEFT names it: a model of the hub by its name, any other by its path.
fn base_name(base: &Base) -> &str {
    base.name.split_once('@').map_or(base.path.as_str(), |(name, _)| name)
}

/// Heads and width of keys and values, alike in all blocks.
fn kv_heads_and_width(spec: &ModelSpec) -> (usize, usize) {
    spec.blocks.first().map_or((0, 0), |block| {
        let attention = &block.attention;
        (attention.kv_heads, attention.kv_heads * attention.head_dim)
    })
}
