//! What `adapter_config.json` says of a LoRA: the factor of each module, and which variant it is.
//!
//! PEFT keeps several methods under this name, each switched on by a key of its own. Those that change what a module
//! computes are refused by that key, and so is a key that is not known and says something, for it may be the next of them.
//! What only matters to training (dropout, where A and B start) is nothing to the reader, unless the base was changed by it.

use serde_json::{Map, Value};

use super::config::PeftConfig;
use crate::error::{Error, Result};

/// Keys that say nothing about what a module computes, or that the tensors say more exactly.
const HARMLESS: [&str; 31] = [
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying", // of embeddings
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out", // how the base is stored, which its family says
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "lora_alpha",
    "alpha_pattern",
    "megatron_config",
    "megatron_core",
    "modules_to_save", // the tensors are looked at
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
    "loftq_config", // with init_lora_weights = "loftq", which is refused
    "corda_config",
    "lora_ga_config",
    "init_lora_weights",
    "bias",
    "alora_invocation_tokens",
];

/// Keys of variants, with what they do.
const VARIANTS: [(&str, &str); 13] = [
    ("use_dora", "DoRA scales each row of the changed weight to a trained length"),
    ("lora_bias", "B has a bias here"),
    ("layer_replication", "the base's layers are repeated, so the adapter belongs to another model than the base"),
    ("target_parameters", "additions to parameters outside of linear layers"),
    ("trainable_token_indices", "entries of the word table are trained beside the additions"),
    ("use_qalora", "QA-LoRA pools the input of A"),
    ("use_bdlora", "BD-LoRA has block-diagonal matrices"),
    ("arrow_config", "Arrow chooses among several adapters token by token"),
    ("velora_config", "a variant of the product"),
    ("monteclora_config", "a variant of the product"),
    ("kasa_config", "a variant of the product"),
    ("enable_lora", "the fused layers of PEFT 0.1 and 0.2; save it once more with a later PEFT"),
    ("merge_weights", "the fused layers of PEFT 0.1 and 0.2; save it once more with a later PEFT"),
];

/// Where A and B start; the rest of `init_lora_weights` takes from the base what it puts into them.
const STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// The keys of a LoRA that count.
#[derive(Debug)]
pub(super) struct LoraConfig<'a> {
    config: &'a PeftConfig,
    alpha: f64,
    /// Whether alpha is divided by the root of the rank.
    pub(super) rslora: bool,
    rank: Option<usize>,
    alphas: Vec<(String, f64)>,
    ranks: Vec<(String, f64)>,
}

impl<'a> LoraConfig<'a> {
    /// # Errors
    /// A variant, by its key; a value of the wrong type.
    pub(super) fn read(config: &'a PeftConfig) -> Result<Self> {
        refuse_variants(config)?;
        let alpha = config.real("lora_alpha")?.unwrap_or(8.0);
        let (ranks, alphas) = (pattern(config, "rank_pattern")?, pattern(config, "alpha_pattern")?);
        let rslora = config.bool("use_rslora")?.unwrap_or(false);
        Ok(LoraConfig { config, alpha, rslora, rank: config.number("r")?, alphas, ranks })
    }

    /// The alpha of a module whose A has `rank` rows.
    ///
    /// # Errors
    /// Another rank than the config gives the module; an alpha that is no positive number.
    pub(super) fn alpha(&self, path: &str, rank: usize) -> Result<f64> {
        let said = of_pattern(&self.ranks, path).or(self.rank.map(|rank| rank as f64));
        if let Some(said) = said.filter(|said| *said != rank as f64) {
            let message = format!("{said} for {path}: its lora_A has {rank} rows");
            return Err(self.config.error("r", message));
        }
        let alpha = of_pattern(&self.alphas, path).unwrap_or(self.alpha);
        if !(alpha.is_finite() && alpha > 0.0) {
            return Err(self.config.error("lora_alpha", format!("{alpha} for {path}: must be above 0")));
        }
        Ok(alpha)
    }

    /// What the product of B and A is multiplied by.
    pub(super) fn scale(&self, alpha: f64, rank: usize) -> f64 {
        alpha / self.divisor(rank)
    }

    /// What alpha is divided by.
    pub(super) fn divisor(&self, rank: usize) -> f64 {
        if self.rslora { (rank as f64).sqrt() } else { rank as f64 }
    }
}

fn refuse_variants(config: &PeftConfig) -> Result<()> {
    for (key, value) in config.said() {
        if let Some((_, what)) = VARIANTS.iter().find(|(variant, _)| *variant == key) {
            return Err(config.error(key, format!("{value}: {what}; ptune has plain LoRA alone")));
        }
        let message = match (key, value) {
            ("bias", Value::String(none)) if none == "none" => continue,
            ("bias", _) => format!("{value}: the base's biases were trained too; ptune's LoRA leaves them alone"),
            ("alora_invocation_tokens", _) => {
                format!("{value}: the additions begin at these tokens (aLoRA); ptune's are everywhere")
            }
            ("init_lora_weights", Value::String(start)) if !STARTS.contains(&start.as_str()) => format!(
                "{value}: this way to start changes the base's weights, so the adapter does not belong to the base as it \
                 is; save it with path_initial_model_for_weight_conversion, which makes a plain LoRA of it"
            ),
            (key, _) if HARMLESS.contains(&key) => continue,
            _ => format!(
                "{value}: the key is not known, and may change what the adapter computes; remove it if it does not"
            ),
        };
        return Err(config.error(key, message));
    }
    Ok(())
}

/// `rank_pattern` or `alpha_pattern`: a number for each of some modules, which are named from their end.
fn pattern(config: &PeftConfig, key: &str) -> Result<Vec<(String, f64)>> {
    let Some(pattern) = config.object(key)? else { return Ok(Vec::new()) };
    let entry = |(name, value): (&String, &Value)| {
        let number = value.as_f64().ok_or_else(|| wrong_entry(config, key, name, "a number was expected"))?;
        let plain = name.trim_start_matches('^').replace("\\.", ".");
        if plain.chars().any(|c| !(c.is_alphanumeric() || "_-.".contains(c))) {
            let message = "regular expressions are not implemented; name each module";
            return Err(wrong_entry(config, key, name, message));
        }
        let anchored = if name.starts_with('^') { format!("^{plain}") } else { plain };
        Ok((anchored, number))
    };
    pattern.iter().map(entry).collect()
}

fn wrong_entry(config: &PeftConfig, key: &str, name: &str, message: &str) -> Error {
    config.error(key, format!("'{name}': {message}"))
}

/// The first entry that names the module: all of its path, or its end behind a dot.
fn of_pattern(pattern: &[(String, f64)], path: &str) -> Option<f64> {
    let names = |name: &str| match name.strip_prefix('^') {
        Some(whole) => whole == path,
        None => path.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.')),
    };
    pattern.iter().find(|(name, _)| names(name)).map(|(_, number)| *number)
}

impl PeftConfig {
    /// The keys that say something: neither null, nor false, nor empty.
    fn said(&self) -> impl Iterator<Item = (&str, &Value)> {
        let nothing = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(keys) => keys.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        self.keys().iter().filter(move |(_, value)| !nothing(value)).map(|(key, value)| (key.as_str(), value))
    }

    fn object(&self, key: &str) -> Result<Option<&Map<String, Value>>> {
        self.optional(key, "an object", Value::as_object)
    }

    fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.optional(key, "true or false", Value::as_bool)
    }

    fn real(&self, key: &str) -> Result<Option<f64>> {
        self.optional(key, "a number", Value::as_f64)
    }
}
