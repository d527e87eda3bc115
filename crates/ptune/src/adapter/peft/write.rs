//! An adapter as PEFT's two files, and ours beside them.
//!
//! The config has the portable keys and no other: `peft_version`, `init_weights`, `tokenizer_kwargs`, or any key of ours, would
//! be a TypeError in PEFT 0.7 to 0.13, and of a prompt `modules_to_save` too. A prompt always has its `task_type`: without it
//! PEFT runs the model without the prompt. `prompt_tuning_init` is never `TEXT`, which asks for a tokenizer at load. Keys are
//! sorted, as PEFT's own writer has them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};
use serde_json::{Value, json};

use super::front::{front_rows, refuse_masked};
use super::prefix::{behind_prefix, prefix_of_prompt};
use super::{CONFIG_FILE, OUR_FILE, PROMPT_TENSOR, PeftSize, TENSORS_FILE, lora_write, sibling};
use crate::adapter::{Adapter, Base, Description, Matrix, Weight};
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
    /// `LORA`: low-rank additions to the model's linear layers.
    Lora,
}

impl PeftMethod {
    /// PEFT's name.
    pub fn name(self) -> &'static str {
        match self {
            PeftMethod::PromptTuning => "PROMPT_TUNING",
            PeftMethod::PTuning => "P_TUNING",
            PeftMethod::PrefixTuning => "PREFIX_TUNING",
            PeftMethod::Lora => "LORA",
        }
    }

    /// What an adapter is without being converted.
    pub fn of(adapter: &Adapter) -> PeftMethod {
        match adapter.description.encoder.as_deref() {
            None if adapter.prefix.rows == 0 && adapter.tuned.lora().is_some() => PeftMethod::Lora,
            None if adapter.prefix.rows > 0 => PeftMethod::PrefixTuning,
            Some("mlp" | "lstm") => PeftMethod::PTuning,
            _ => PeftMethod::PromptTuning,
        }
    }
}

/// An adapter in PEFT's terms, ready to be written.
#[derive(Debug)]
pub struct Exported {
    config: BTreeMap<&'static str, Value>,
    tensors: Vec<Weight>,
    size: PeftSize,
    description: Description,
}

impl Exported {
    /// A prompt before the text, as its rows. `template` is the adapter's as its model sees it.
    ///
    /// # Errors
    /// What PEFT cannot express: [`front_rows`]; a prefix beside the prompt; trained weights.
    pub fn prompt(adapter: &Adapter, template: &Template, spec: &ModelSpec, method: PeftMethod) -> Result<Exported> {
        let rows = front_prompt(adapter, template, spec)?;
        let mut config = of_prompt(adapter, spec, method, rows.rows);
        if method == PeftMethod::PTuning {
            // What the encoder was is lost with it; these keys matter to nobody who loads its output.
            config.insert("encoder_dropout", json!(0.0));
            config.insert("encoder_hidden_size", json!(rows.width));
            config.insert("encoder_num_layers", json!(2));
            let lstm = adapter.description.encoder.as_deref() == Some("lstm");
            config.insert("encoder_reparameterization_type", json!(if lstm { "LSTM" } else { "MLP" }));
        } else {
            config.insert("prompt_tuning_init", json!("RANDOM"));
            config.insert("prompt_tuning_init_text", Value::Null);
            config.insert("tokenizer_name_or_path", Value::Null);
        }
        Ok(Self::of_rows(config, rows, adapter.description.clone()))
    }

    /// Low-rank additions to the layers of a model, which `directory` holds.
    ///
    /// # Errors
    /// None; a prompt or a prefix beside them; matrices that are damaged or of another model.
    pub fn lora(adapter: &Adapter, directory: &Path, spec: &ModelSpec) -> Result<Exported> {
        let Some(lora) = adapter.tuned.lora() else {
            return Err(Error::request("it has no low-rank additions (backbone.mode = \"lora\"), so it is no LORA"));
        };
        if adapter.rows > 0 || adapter.prefix.rows > 0 {
            return Err(two_at_once());
        }
        adapter.tuned.check(directory, spec)?;
        let files = adapter.tuned.open(directory)?;
        let matrices = files.first().ok_or_else(|| Error::file(directory, "has no backbone.safetensors"))?;
        let (mut config, tensors) = lora_write::write(lora, matrices, spec)?;
        // A task type chooses the class that wraps the model; there is none for a masked model, and LORA needs none.
        let task_type = if spec.causal { json!("CAUSAL_LM") } else { Value::Null };
        config.extend(common(&adapter.description, PeftMethod::Lora, task_type));
        let size = PeftSize::Rank(lora.rank);
        Ok(Exported { config, tensors, size, description: adapter.description.clone() })
    }

    fn of_rows(config: BTreeMap<&'static str, Value>, rows: Matrix, description: Description) -> Exported {
        let Matrix { values, rows, width } = rows;
        let tensor = Weight { name: PROMPT_TENSOR.into(), shape: vec![rows, width], numbers: values };
        Exported { config, tensors: vec![tensor], size: PeftSize::Tokens(rows), description }
    }

    /// A prompt before the text, as what it makes of keys and values: exact.
    ///
    /// # Errors
    /// As [`Exported::prompt`].
    pub fn prompt_as_prefix(
        adapter: &Adapter,
        template: &Template,
        model: &Model,
        device: &Device,
    ) -> Result<Exported> {
        let prompt = front_prompt(adapter, template, model.spec())?;
        let description = behind_prefix(&adapter.description, template, prompt.rows);
        Ok(Self::keys_values(adapter, model.spec(), prefix_of_prompt(model, device, &prompt), description))
    }

    /// A trained prefix.
    ///
    /// # Errors
    /// A masked model; pseudo tokens beside the prefix; trained weights.
    pub fn prefix(adapter: &Adapter, template: &Template, spec: &ModelSpec) -> Result<Exported> {
        refuse_tuned(adapter)?;
        refuse_masked(spec)?;
        if template.has_pseudo_tokens() {
            let message = "it has a prefix and pseudo tokens; an adapter of PEFT is one or the other";
            return Err(Error::request(message));
        }
        Ok(Self::keys_values(adapter, spec, adapter.prefix.clone(), adapter.description.clone()))
    }

    fn keys_values(adapter: &Adapter, spec: &ModelSpec, prefix: Matrix, description: Description) -> Exported {
        let mut config = of_prompt(adapter, spec, PeftMethod::PrefixTuning, prefix.rows);
        let (heads, width) = spec.blocks.first().map_or((0, 0), |block| {
            let attention = &block.attention;
            (attention.kv_heads, attention.kv_heads * attention.head_dim)
        });
        config.insert("num_attention_heads", json!(heads));
        config.insert("token_dim", json!(width));
        config.insert("encoder_hidden_size", json!(width));
        config.insert("prefix_projection", json!(false));
        Self::of_rows(config, prefix, description)
    }

    /// How large it is, in the method's terms.
    pub fn size(&self) -> PeftSize {
        self.size
    }

    /// Writes the three files into a directory that is new or empty; `adapter_config.json`, by which PEFT knows an
    /// adapter, comes last.
    ///
    /// # Errors
    /// A directory that holds something; [`Error::Write`].
    pub fn write(&self, directory: &Path) -> Result<()> {
        let failed = |wrong: String| Error::request(format!("the adapter cannot be written: {wrong}"));
        let bytes = |tensor: &Weight| -> Vec<u8> { tensor.numbers.iter().flat_map(|x| x.to_le_bytes()).collect() };
        let bytes: Vec<Vec<u8>> = self.tensors.iter().map(bytes).collect();
        let views = self.tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
            Ok((tensor.name.clone(), TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?))
        });
        let views = views.collect::<std::result::Result<Vec<_>, SafeTensorError>>();
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let tensors = views.and_then(|views| safetensors::serialize(views, Some(metadata)));
        let tensors = tensors.map_err(|wrong| failed(wrong.to_string()))?;
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
fn front_prompt(adapter: &Adapter, template: &Template, spec: &ModelSpec) -> Result<Matrix> {
    refuse_tuned(adapter)?;
    let order = front_rows(template, spec)?;
    if adapter.prefix.rows > 0 {
        let message = "it has a prefix and pseudo tokens; an adapter of PEFT is one or the other";
        return Err(Error::request(message));
    }
    if adapter.rows == 0 {
        let message = "its pseudo tokens are tokens of the vocabulary (ptune search): nothing was trained that PEFT could load; \
                       write the words before the text instead";
        return Err(Error::request(message));
    }
    let rows = order.len();
    let row = |row: usize| &adapter.prompt[row * adapter.width..][..adapter.width];
    Ok(Matrix { values: order.into_iter().flat_map(row).copied().collect(), rows, width: adapter.width })
}

fn refuse_tuned(adapter: &Adapter) -> Result<()> {
    if adapter.tuned.is_empty() {
        return Ok(());
    }
    if adapter.tuned.lora().is_some() {
        return Err(two_at_once());
    }
    let message = "its model was trained along (backbone.mode = \"full\"): PEFT's prompt files hold no weights, and without \
                   them the prompt means something else. 'ptune adapter merge' writes the trained model, with the prompt as an \
                   adapter of its own";
    Err(Error::request(message))
}

fn two_at_once() -> Error {
    let message = "it has low-rank additions and a prompt or a prefix: two adapters of PEFT, which runs those of one type at a \
                   time. 'ptune adapter merge' puts the additions into a copy of the model, with the prompt as an adapter of \
                   its own";
    Error::request(message)
}

/// The keys of every method.
fn common(description: &Description, method: PeftMethod, task_type: Value) -> [(&'static str, Value); 6] {
    [
        ("auto_mapping", Value::Null),
        ("base_model_name_or_path", json!(base_name(&description.base))),
        ("inference_mode", json!(true)),
        ("peft_type", json!(method.name())),
        ("revision", Value::Null),
        ("task_type", task_type),
    ]
}

/// The keys of every prompt method.
fn of_prompt(adapter: &Adapter, spec: &ModelSpec, method: PeftMethod, tokens: usize) -> BTreeMap<&'static str, Value> {
    let heads = spec.blocks.first().map_or(0, |block| block.attention.heads);
    let mut config = BTreeMap::from([
        ("num_attention_heads", json!(heads)),
        ("num_layers", json!(spec.layers.len())),
        ("num_transformer_submodules", json!(1)),
        ("num_virtual_tokens", json!(tokens)),
        ("token_dim", json!(adapter.width)),
    ]);
    config.extend(common(&adapter.description, method, json!("CAUSAL_LM")));
    config
}

/// The base as PEFT names it: a model of the hub by its name, any other by its path.
fn base_name(base: &Base) -> &str {
    base.name.split_once('@').map_or(base.path.as_str(), |(name, _)| name)
}
