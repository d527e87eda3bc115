//! An adapter as PEFT's two files, and ours beside them.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};

use super::front::{front_rows, refuse_prefix};
use super::keys::{Keys, of_lora, of_prefix, of_prompt};
use super::prefix::{behind_prefix, prefix_of_prompt};
use super::{CONFIG_FILE, OUR_FILE, PROMPT_TENSOR, PeftSize, TENSORS_FILE, WRAPPED, heads, sibling};
use crate::adapter::{Adapter, Description, Matrix, Weight};
use crate::checkpoint::Weights;
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

/// What is written from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The adapter.
    pub adapter: &'a Adapter,
    /// Where it is.
    pub directory: &'a Path,
    /// Its template, as its model sees it.
    pub template: &'a Template,
    /// Its model.
    pub spec: &'a ModelSpec,
}

impl Source<'_> {
    /// Whether a classifier reads the model's rows.
    pub(super) fn is_classifier(&self) -> bool {
        self.adapter.description.head.is_some()
    }

    /// The classifier's tensors behind `prefix`; none of another head.
    fn head(&self, files: &[Weights], prefix: &str) -> Result<Vec<Weight>> {
        if !self.is_classifier() {
            return Ok(Vec::new());
        }
        heads::write(files, self.spec, self.adapter.description.labels.len(), prefix)
    }
}

/// An adapter in PEFT's terms, ready to be written.
#[derive(Debug)]
pub struct Exported {
    keys: Keys,
    tensors: Vec<Weight>,
    size: PeftSize,
    description: Description,
}

impl Exported {
    /// A prompt before the text, as its rows.
    ///
    /// # Errors
    /// What PEFT cannot express: [`front_rows`]; a prefix beside the prompt; trained weights.
    pub fn prompt(source: &Source<'_>, method: PeftMethod) -> Result<Exported> {
        let rows = front_prompt(source)?;
        let keys = of_prompt(source, method, rows.rows, rows.width);
        Self::of_rows(source, keys, rows, source.adapter.description.clone())
    }

    /// A prompt before the text, as what it makes of keys and values: exact.
    ///
    /// # Errors
    /// As [`Exported::prompt`].
    pub fn prompt_as_prefix(source: &Source<'_>, model: &Model, device: &Device) -> Result<Exported> {
        let prompt = front_prompt(source)?;
        let description = behind_prefix(&source.adapter.description, source.template, prompt.rows);
        let prefix = prefix_of_prompt(model, device, &prompt);
        Self::of_rows(source, of_prefix(source, prefix.rows), prefix, description)
    }

    /// A trained prefix.
    ///
    /// # Errors
    /// A masked model, unless under a classifier that takes a prefix; pseudo tokens beside the prefix; trained weights.
    pub fn prefix(source: &Source<'_>) -> Result<Exported> {
        let Source { adapter, template, spec, .. } = source;
        refuse_trained(adapter)?;
        refuse_prefix(spec, source.is_classifier())?;
        if template.has_pseudo_tokens() {
            return Err(prompt_and_prefix());
        }
        let keys = of_prefix(source, adapter.prefix.rows);
        Self::of_rows(source, keys, adapter.prefix.clone(), adapter.description.clone())
    }

    /// Low-rank additions to the layers of a model.
    ///
    /// # Errors
    /// None; a prompt or a prefix beside them; matrices that are damaged or of another model.
    pub fn lora(source: &Source<'_>) -> Result<Exported> {
        let Source { adapter, directory, spec, .. } = *source;
        let Some(lora) = adapter.tuned.lora() else {
            return Err(Error::request("it has no low-rank additions (backbone.mode = \"lora\"), so it is no LORA"));
        };
        if adapter.rows > 0 || adapter.prefix.rows > 0 {
            return Err(two_at_once());
        }
        adapter.tuned.check(directory, spec)?;
        let files = adapter.tuned.open(directory)?;
        let matrices = files.first().ok_or_else(|| Error::file(directory, "has no backbone.safetensors"))?;
        let (keys, mut tensors) = of_lora(source, lora, matrices)?;
        tensors.extend(source.head(&files, WRAPPED)?);
        let size = PeftSize::Rank(lora.rank);
        Ok(Exported { keys, tensors, size, description: adapter.description.clone() })
    }

    fn of_rows(source: &Source<'_>, keys: Keys, rows: Matrix, description: Description) -> Result<Exported> {
        let Matrix { values, rows, width } = rows;
        let mut tensors = vec![Weight { name: PROMPT_TENSOR.into(), shape: vec![rows, width], numbers: values }];
        tensors.extend(source.head(&source.adapter.tuned.open(source.directory)?, "base_model.")?);
        Ok(Exported { keys, tensors, size: PeftSize::Tokens(rows), description })
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
        let config = serde_json::to_string_pretty(&self.keys).map_err(|wrong| failed(wrong.to_string()))?;

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
fn front_prompt(source: &Source<'_>) -> Result<Matrix> {
    let Source { adapter, template, spec, .. } = *source;
    refuse_trained(adapter)?;
    let order = front_rows(template, spec)?;
    if adapter.prefix.rows > 0 {
        return Err(prompt_and_prefix());
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

fn prompt_and_prefix() -> Error {
    Error::request("it has a prefix and pseudo tokens; an adapter of PEFT is one or the other")
}

/// Refuses weights of the model; a classifier is none of it.
fn refuse_trained(adapter: &Adapter) -> Result<()> {
    if adapter.tuned.lora().is_some() {
        return Err(two_at_once());
    }
    if !adapter.tuned.has_backbone() {
        return Ok(());
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
