//! What PEFT saved, as numbers: checked against its own config and against the model before anything is made of it.
//!
//! PEFT itself checks less: it loads an adapter of another model, or one without a task type, and the prompt is then
//! wrong, or not used at all, without a word.

use std::path::{Path, PathBuf};

use super::config::PeftConfig;
use super::{OUR_FILE, PROMPT_TENSOR, sibling};
use crate::adapter::Description;
use crate::checkpoint::Weights;
use crate::error::{Error, Result};
use crate::model::spec::ModelSpec;
use crate::prompt::encoder::EncoderKind;

/// Virtual tokens of a prompt: as many as a row of the longest kind has.
const MOST_TOKENS: usize = 65_536;
/// A tensor of more numbers is no prompt.
const LARGEST_TENSOR: usize = 1 << 26;

/// An opened directory of PEFT.
#[derive(Debug)]
pub struct PeftAdapter {
    directory: PathBuf,
    config: PeftConfig,
    peft_type: String,
    tensors: Weights,
}

/// Rows that stand before a text.
#[derive(Debug, PartialEq)]
pub struct PeftPrompt {
    /// `[tokens, width]`, row-major: what the encoder computed, not what it starts from.
    pub rows: Vec<f32>,
    /// Virtual tokens.
    pub tokens: usize,
    /// Width of a row.
    pub width: usize,
    /// The network that computed them.
    pub encoder: EncoderKind,
}

impl PeftAdapter {
    /// Opens a directory that PEFT's `save_pretrained` wrote. Tensors are read when asked for.
    ///
    /// # Errors
    /// A missing or damaged file; pickled tensors; a method that is not implemented, by name.
    pub fn open(directory: &Path) -> Result<PeftAdapter> {
        let config = PeftConfig::read(directory)?;
        let Some(peft_type) = config.text("peft_type")?.map(str::to_owned) else {
            return Err(config.error("peft_type", "is missing; PEFT itself cannot load an adapter without it"));
        };
        let known = ["PROMPT_TUNING", "P_TUNING", "CPT", "MULTITASK_PROMPT_TUNING"];
        if !known.contains(&peft_type.as_str()) {
            let message = format!("'{peft_type}' is not implemented; implemented: {}", known.join(", "));
            return Err(config.error("peft_type", message));
        }
        let tensors = Weights::open_file(&config.tensors()?)?;
        Ok(PeftAdapter { directory: directory.into(), config, peft_type, tensors })
    }

    /// PEFT's name of the method.
    pub fn peft_type(&self) -> &str {
        &self.peft_type
    }

    /// What `ptune adapter export` put beside PEFT's files; `None` of a directory that PEFT wrote.
    ///
    /// # Errors
    /// A file of ours that is damaged.
    pub fn description(&self) -> Result<Option<Description>> {
        sibling::read(&self.directory.join(OUR_FILE))
    }

    /// The rows that stand before the text of a causal model; of an adapter for several tasks those of one.
    ///
    /// # Errors
    /// A task type whose meaning ptune does not have, with the reason; sizes that disagree with one another or with
    /// the model; values that are not finite; several tasks and none chosen.
    pub fn prompt(&self, spec: &ModelSpec, task: Option<usize>) -> Result<PeftPrompt> {
        self.check_task_type()?;
        let (tokens, width) = self.prompt_shape()?;
        self.check_model(spec, width)?;
        let mut rows = Vec::new();
        self.tensors.read_into(PROMPT_TENSOR, &[tokens, width], &mut rows)?;
        if self.peft_type == "MULTITASK_PROMPT_TUNING" {
            self.specialise(&mut rows, tokens, width, task)?;
        } else if let Some(task) = task {
            let message = format!("{}: has one task; task {task} was asked for", self.peft_type);
            return Err(self.config.error("peft_type", message));
        }
        Ok(PeftPrompt { rows, tokens, width, encoder: self.encoder()? })
    }

    fn check_task_type(&self) -> Result<()> {
        let wrong = |message: &str| Err(self.config.error("task_type", message));
        match self.config.text("task_type")? {
            Some("CAUSAL_LM") => Ok(()),
            None => wrong(
                "is missing: PEFT loads such an adapter and then runs the model without its prompt, in training too, so \
                 there is nothing in it that was learnt",
            ),
            Some("SEQ_CLS") => wrong(
                "SEQ_CLS: a classifier that reads the first virtual token in the place of [CLS]; ptune puts no prompt \
                 before [CLS]",
            ),
            Some("SEQ_2_SEQ_LM") => wrong("SEQ_2_SEQ_LM: ptune has no encoder-decoder models"),
            Some("QUESTION_ANS") => wrong(
                "QUESTION_ANS: ptune finds no spans; and PEFT trains on spans that are off by the length of the prompt",
            ),
            Some(other) => wrong(&format!("'{other}': ptune reads CAUSAL_LM")),
        }
    }

    /// Rows and width of the tensor, where the config says the same or nothing.
    fn prompt_shape(&self) -> Result<(usize, usize)> {
        let missing = || Error::tensor(self.tensors.file(), PROMPT_TENSOR, "is missing");
        let shape = self.tensors.shape(PROMPT_TENSOR).ok_or_else(missing)?;
        let wrong = |message: String| Error::tensor(self.tensors.file(), PROMPT_TENSOR, message);
        let &[tokens, width] = shape else {
            return Err(wrong(format!("has shape {shape:?}; two dimensions were expected, tokens and width")));
        };
        if tokens == 0 || tokens > MOST_TOKENS || width == 0 || tokens.saturating_mul(width) > LARGEST_TENSOR {
            return Err(wrong(format!("has shape {shape:?}: no prompt is of that size")));
        }
        for (key, found, what) in [("num_virtual_tokens", tokens, "rows"), ("token_dim", width, "columns")] {
            if let Some(said) = self.config.number(key)?.filter(|said| *said != found) {
                return Err(self.config.error(key, format!("{said}: {PROMPT_TENSOR} has {found} {what}")));
            }
        }
        Ok((tokens, width))
    }

    /// Tells another base model, as far as the config does: PEFT takes any.
    fn check_model(&self, spec: &ModelSpec, width: usize) -> Result<()> {
        let heads = spec.blocks.first().map_or(0, |block| block.attention.heads);
        if width != spec.hidden {
            let message = format!("rows of {width} numbers; this model's have {}: it is another model", spec.hidden);
            return Err(Error::tensor(self.tensors.file(), PROMPT_TENSOR, message));
        }
        for (key, here, what) in [("num_layers", spec.layers.len(), "layers"), ("num_attention_heads", heads, "heads")] {
            if let Some(said) = self.config.number(key)?.filter(|said| *said != here) {
                let message = format!("{said}: this model has {here} {what}, so it is another than the adapter's");
                return Err(self.config.error(key, message));
            }
        }
        Ok(())
    }

    /// Turns the rows that tasks share into those of one: `rows * (cols[task] rows[task])`, element by element.
    fn specialise(&self, rows: &mut [f32], tokens: usize, width: usize, task: Option<usize>) -> Result<()> {
        let (tasks, ranks) = (self.config.required_number("num_tasks")?, self.config.number("num_ranks")?.unwrap_or(1));
        let task = match task {
            Some(task) if task < tasks => task,
            Some(task) => return Err(self.config.error("num_tasks", format!("{tasks}: there is no task {task}"))),
            None if tasks == 1 => 0,
            None => {
                let message = format!("{tasks}: name the task to import, --task 0 to --task {}", tasks - 1);
                return Err(self.config.error("num_tasks", message));
            }
        };
        let largest = tasks.saturating_mul(ranks).saturating_mul(tokens.max(width));
        if ranks == 0 || largest > LARGEST_TENSOR {
            return Err(self.config.error("num_ranks", format!("{ranks}: no adapter is of that size")));
        }
        let (mut columns, mut low) = (Vec::new(), Vec::new());
        self.tensors.read_into("prefix_task_cols", &[tasks, tokens, ranks], &mut columns)?;
        self.tensors.read_into("prefix_task_rows", &[tasks, ranks, width], &mut low)?;
        let columns = &columns[task * tokens * ranks..][..tokens * ranks];
        let low = &low[task * ranks * width..][..ranks * width];
        for (row, factors) in rows.chunks_exact_mut(width).zip(columns.chunks_exact(ranks)) {
            for (column, number) in row.iter_mut().enumerate() {
                *number *= (0..ranks).map(|rank| factors[rank] * low[rank * width + column]).sum::<f32>();
            }
        }
        Ok(())
    }

    fn encoder(&self) -> Result<EncoderKind> {
        if self.peft_type != "P_TUNING" {
            return Ok(EncoderKind::Embedding);
        }
        match self.config.text("encoder_reparameterization_type")? {
            None | Some("MLP") => Ok(EncoderKind::Mlp),
            Some("LSTM") => Ok(EncoderKind::Lstm),
            Some(other) => {
                let message = format!("'{other}': MLP or LSTM was expected");
                Err(self.config.error("encoder_reparameterization_type", message))
            }
        }
    }
}
