//! What PEFT saved, as numbers: checked against its own config and against the model before anything is made of it.
//!
//! PEFT itself checks less: it loads an adapter of another model, or one without a task type, and the prompt is then
//! wrong, or not used at all, without a word.

use std::path::{Path, PathBuf};

use super::config::PeftConfig;
use super::lora_config::LoraConfig;
use super::{OUR_FILE, PROMPT_TENSOR, PeftHead, PeftSize, WRAPPED, heads, lora_read, sibling};
use crate::adapter::{Description, Matrix, Weight};
use crate::checkpoint::{ModelDirectory, Weights};
use crate::error::{Error, Result};
use crate::model::Lora;
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

/// What an adapter of PEFT adds to its model.
#[derive(Debug, PartialEq)]
pub enum PeftTrained {
    /// Rows `[virtual tokens, width]` that stand before a text: what the encoder computed, not what it starts from. And
    /// the network that computed them.
    Prompt(Matrix, EncoderKind),
    /// Keys and values for every block, `[virtual tokens, ModelSpec::past_width]`.
    Prefix(Matrix),
    /// Low-rank additions to the model's layers, and their matrices by the names that an adapter's files have.
    Lora(Lora, Vec<Weight>),
}

impl PeftTrained {
    /// How large it is, in the method's terms.
    pub fn size(&self) -> PeftSize {
        match self {
            PeftTrained::Prompt(rows, _) | PeftTrained::Prefix(rows) => PeftSize::Tokens(rows.rows),
            PeftTrained::Lora(lora, _) => PeftSize::Rank(lora.rank),
        }
    }
}

const PROMPTS: [&str; 4] = ["PROMPT_TUNING", "P_TUNING", "CPT", "MULTITASK_PROMPT_TUNING"];
const PREFIXES: [&str; 2] = ["PREFIX_TUNING", "CARTRIDGE"];
const LORA: &str = "LORA";

impl PeftAdapter {
    /// Opens a directory that PEFT's `save_pretrained` wrote. Tensors are read when asked for.
    ///
    /// # Errors
    /// A missing or damaged file; pickled tensors; a method that is not implemented, by name; a task type whose meaning
    /// ptune does not have, with the reason.
    pub fn open(directory: &Path) -> Result<PeftAdapter> {
        let config = PeftConfig::read(directory)?;
        let Some(peft_type) = config.text("peft_type")?.map(str::to_owned) else {
            return Err(config.error("peft_type", "is missing; PEFT itself cannot load an adapter without it"));
        };
        let known = [&PROMPTS[..], &PREFIXES, &[LORA]].concat();
        if !known.contains(&peft_type.as_str()) {
            let known = known.join(", ");
            let message = format!("'{peft_type}' is not implemented; implemented: {known}");
            return Err(config.error("peft_type", message));
        }
        check_task_type(&config, peft_type == LORA)?;
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

    /// Virtual tokens of a prefix, as the tensor has them; `None` of what is none.
    ///
    /// # Errors
    /// A tensor that is missing or of no sensible size, or a config that says something else.
    pub fn prefix_tokens(&self) -> Result<Option<usize>> {
        if self.is_prefix() { Ok(Some(self.shape()?.0)) } else { Ok(None) }
    }

    /// Whether it is rows before the text.
    pub fn is_prompt(&self) -> bool {
        PROMPTS.contains(&self.peft_type.as_str())
    }

    /// Whether it is keys and values in every block instead of rows before the text.
    fn is_prefix(&self) -> bool {
        PREFIXES.contains(&self.peft_type.as_str())
    }

    /// What it adds to a model, `base`; of an adapter for several tasks that of one. And the classifier on it, if it has one.
    ///
    /// # Errors
    /// Sizes that disagree with one another or with the model; values that are not finite; several tasks and none chosen; a
    /// classifier that is not whole.
    pub fn read(
        &self,
        base: &ModelDirectory,
        spec: &ModelSpec,
        task: Option<usize>,
    ) -> Result<(PeftTrained, Option<PeftHead>)> {
        if let Some(task) = task.filter(|_| !self.has_tasks()) {
            let message = format!("{} has one task; --task {task} was asked for", self.peft_type);
            return Err(self.config.error("peft_type", message));
        }
        let lora = if self.peft_type == LORA { Some(LoraConfig::read(&self.config)?) } else { None };
        let prefix = if lora.is_some() { WRAPPED } else { "base_model." };
        let head = heads::read(&self.tensors, lora.as_ref(), base.weights(), spec, prefix)?;
        if head.is_none() && self.config.text("task_type")? == Some("SEQ_CLS") {
            let name = format!("{prefix}{}.weight", spec.classifier.out);
            let message = "is missing: with SEQ_CLS the classifier of this model has it";
            return Err(Error::tensor(self.tensors.file(), &name, message));
        }
        let (head, known) = head.unzip();
        let trained = match lora {
            Some(lora) => {
                let (lora, weights) = lora_read::read(&lora, &self.tensors, &known.unwrap_or_default(), spec)?;
                PeftTrained::Lora(lora, weights)
            }
            None => self.rows(spec, task)?,
        };
        Ok((trained, head))
    }

    /// What has virtual tokens.
    fn rows(&self, spec: &ModelSpec, task: Option<usize>) -> Result<PeftTrained> {
        let (rows, width) = self.shape()?;
        self.check_model(spec, width)?;
        let mut values = Vec::new();
        self.tensors.read_into(PROMPT_TENSOR, &[rows, width], &mut values)?;
        if self.has_tasks() {
            self.specialise(&mut values, rows, width, task)?;
        }
        let matrix = Matrix { values, rows, width };
        Ok(if self.is_prefix() { PeftTrained::Prefix(matrix) } else { PeftTrained::Prompt(matrix, self.encoder()?) })
    }

    fn has_tasks(&self) -> bool {
        self.peft_type == "MULTITASK_PROMPT_TUNING"
    }

    /// Rows and width of the tensor, where the config says the same or nothing.
    fn shape(&self) -> Result<(usize, usize)> {
        let missing = || Error::tensor(self.tensors.file(), PROMPT_TENSOR, "is missing");
        let shape = self.tensors.shape(PROMPT_TENSOR).ok_or_else(missing)?;
        let wrong = |message: String| Error::tensor(self.tensors.file(), PROMPT_TENSOR, message);
        let &[tokens, width] = shape else {
            return Err(wrong(format!("has shape {shape:?}; two dimensions were expected, tokens and width")));
        };
        if tokens == 0 || tokens > MOST_TOKENS || width == 0 || tokens.saturating_mul(width) > LARGEST_TENSOR {
            return Err(wrong(format!("has shape {shape:?}: no prompt is of that size")));
        }
        if let Some(said) = self.config.number("num_virtual_tokens")?.filter(|said| *said != tokens) {
            let message = format!("{said}: {PROMPT_TENSOR} has {tokens} rows");
            return Err(self.config.error("num_virtual_tokens", message));
        }
        Ok((tokens, width))
    }

    /// Tells another base model, as far as the config does: PEFT takes any.
    fn check_model(&self, spec: &ModelSpec, width: usize) -> Result<()> {
        let Some(attention) = spec.blocks.first().map(|block| &block.attention) else { return Ok(()) };
        // Of a prefix PEFT counts the heads of keys and values, and a token is as wide as they are together.
        let (expected, token_dim, heads) = if self.is_prefix() {
            (spec.past_width(), attention.kv_heads * attention.head_dim, attention.kv_heads)
        } else {
            (spec.embeddings.width, spec.embeddings.width, attention.heads)
        };
        if width != expected {
            let message = format!("rows of {width} numbers; this model's have {expected}: it is another model");
            return Err(Error::tensor(self.tensors.file(), PROMPT_TENSOR, message));
        }
        let sizes = [("num_layers", spec.layers.len()), ("num_attention_heads", heads), ("token_dim", token_dim)];
        for (key, here) in sizes {
            if let Some(said) = self.config.number(key)?.filter(|said| *said != here) {
                let message = format!("{said}: this model has {here}, so it is another than the adapter's");
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

/// What the model is asked in PEFT.
fn check_task_type(config: &PeftConfig, is_lora: bool) -> Result<()> {
    let wrong = |message: &str| Err(config.error("task_type", message));
    match config.text("task_type")? {
        Some("CAUSAL_LM" | "SEQ_CLS") => Ok(()),
        // These choose the class around the model, and additions to its modules mean the same in any.
        None | Some("FEATURE_EXTRACTION") if is_lora => Ok(()),
        None => wrong(
            "is missing: PEFT loads such an adapter and then runs the model without its prompt, in training too, so \
             there is nothing in it that was learnt",
        ),
        Some("SEQ_2_SEQ_LM") => wrong("SEQ_2_SEQ_LM: ptune has no encoder-decoder models"),
        Some("QUESTION_ANS") => wrong(
            "QUESTION_ANS: ptune finds no spans; and PEFT trains on spans that are off by the length of the prompt",
        ),
        Some(other) => wrong(&format!("'{other}': ptune reads CAUSAL_LM and SEQ_CLS")),
    }
}
