//! Adapters on their way: to and from PEFT, and in bundles (`golden.rs`). Of PEFT the files are [`adapter::peft`](crate::adapter::peft)'s business, here stand the task and the
//! model beside them. Both directions write a new directory or nothing.

pub mod golden;

use std::path::{Path, PathBuf};

use crate::adapter::peft::{Exported, PeftAdapter, PeftMethod, PeftTrained, front_rows, refuse_masked};
use crate::adapter::{Adapter, Description, Matrix, Tuned};
use crate::checkpoint::{ModelDirectory, hub};
use crate::model::spec::ModelSpec;
use crate::model::{Gradients, Model};
use crate::predict::{find_base, task_of};
use crate::prompt::encoder::{EncoderKind, Shapes};
use crate::tensor::{Device, Precision};
use crate::train::config::PromptConfig;
use crate::train::{RunConfig, Task, describe, describe_base};
use crate::{Error, Result, files};

/// Every tensor PEFT saves over an f32 model is computed in f32.
const PEFT_COMPUTE: &str = "f32";

/// What was written for PEFT.
#[derive(Debug, PartialEq)]
pub struct PeftExport {
    /// PEFT's name of the method.
    pub method: &'static str,
    /// Virtual tokens.
    pub tokens: usize,
    /// Bytes of the directory.
    pub bytes: u64,
}

/// What was made of PEFT's files.
#[derive(Debug, PartialEq)]
pub struct PeftImport {
    /// PEFT's name of the method.
    pub method: String,
    /// Virtual tokens.
    pub tokens: usize,
    /// The template that the adapter has now.
    pub template: String,
}

/// Where the task of an imported adapter comes from: PEFT's files have none.
#[derive(Clone, Copy, Debug)]
pub enum TaskFrom<'a> {
    /// From `ptune.json`, which [`export_peft`] put beside PEFT's files.
    Beside,
    /// From a run file, which has this path.
    Run(&'a RunConfig, &'a Path),
}

/// Writes an adapter for PEFT into `out`, which is new or empty; without `method`, as what its encoder makes it. `model` is
/// as for [`Predictor::open`](crate::predict::Predictor::open). Only `PrefixTuning` loads weights and has progress.
///
/// # Errors
/// Everything wrong with the adapter or its model; an adapter that PEFT cannot express, with the reason.
pub fn export_peft(
    adapter: &Path,
    model: Option<&Path>,
    method: Option<PeftMethod>,
    out: &Path,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<PeftExport> {
    let loaded = Adapter::load(adapter)?;
    let model_path = match model {
        Some(model) => hub::locate(model, Path::new(""))?,
        None => find_base(adapter, &loaded.description.base)?,
    };
    let directory = ModelDirectory::open(&model_path)?;
    let spec = ModelSpec::read(&directory)?;
    let task = task_of(&loaded, adapter, &directory, &spec)?;
    check_start(&task, &spec)?;
    let method = method.unwrap_or_else(|| PeftMethod::of(&loaded));
    let exported = match method {
        PeftMethod::PrefixTuning if loaded.prefix.rows > 0 => Exported::prefix(&loaded, &task.template, &spec)?,
        PeftMethod::PrefixTuning => {
            front_rows(&task.template, &spec)?; // before the model is loaded
            let device = device.with_precision(Precision::F32);
            let model = Model::load(&directory, &[], &device, Gradients::None, progress)?;
            Exported::prompt_as_prefix(&loaded, &task.template, &model, &device)?
        }
        PeftMethod::PromptTuning | PeftMethod::PTuning => Exported::prompt(&loaded, &task.template, &spec, method)?,
    };
    exported.write(out)?;
    Ok(PeftExport { method: method.name(), tokens: exported.tokens(), bytes: files::directory_bytes(out)? })
}

/// Makes an adapter in `out`, which is new or empty, of a directory that PEFT wrote. `model` is the base, a directory or a
/// name as [`hub::locate`] takes it; without it, that of the run file or of `ptune.json`. `number` chooses one of the
/// tasks of a multi-task prompt.
///
/// # Errors
/// Files that cannot be believed or do not belong to the model; a method or a task type that ptune does not have, with
/// the reason; a template whose pseudo tokens are not those of the prompt, before the text.
pub fn import_peft(
    peft: &Path,
    model: Option<&Path>,
    from: TaskFrom<'_>,
    number: Option<usize>,
    out: &Path,
) -> Result<PeftImport> {
    let opened = PeftAdapter::open(peft)?;
    let beside = match from {
        TaskFrom::Beside => Some(opened.description()?.ok_or_else(|| no_task(peft))?),
        TaskFrom::Run(..) => None,
    };
    let directory = ModelDirectory::open(&base_of(peft, model, from, beside.as_ref())?)?;
    let spec = ModelSpec::read(&directory)?;
    let tokens = opened.tokens()?;
    let prefix_tokens = opened.is_prefix().then_some(tokens);
    let (task, description) = described(peft, from, beside, prefix_tokens, &directory, &spec)?;
    check_start(&task, &spec)?;
    let trained = opened.read(&spec, number)?;
    let empty = Adapter {
        description: Description { prefix_tokens, encoder: None, shapes: None, ..description },
        prompt: Vec::new(),
        rows: 0,
        width: spec.embeddings.width,
        prefix: Matrix::default(),
        tuned: Tuned::default(),
    };
    let adapter = match trained {
        PeftTrained::Prompt(prompt, encoder) => with_prompt(empty, &prompt, encoder, &task, &spec)?,
        PeftTrained::Prefix(prefix) if !task.template.has_pseudo_tokens() => {
            refuse_masked(&spec)?;
            Adapter { prefix, ..empty }
        }
        PeftTrained::Prefix(_) => {
            let message = "it is a prefix, keys and values in every block; a template with pseudo tokens would need rows for \
                           them that it does not have: write the template without [P*n]";
            return Err(Error::request(message));
        }
    };
    files::create_new_directory(out)?;
    adapter.save(out)?;
    let template = adapter.description.template;
    Ok(PeftImport { method: opened.peft_type().to_owned(), tokens, template })
}

/// An adapter with the rows of the virtual tokens in the places of its pseudo tokens.
fn with_prompt(
    empty: Adapter,
    prompt: &Matrix,
    encoder: EncoderKind,
    task: &Task,
    spec: &ModelSpec,
) -> Result<Adapter> {
    let rows = rows_of(prompt, task, spec)?;
    if task.max_tokens() <= prompt.rows {
        let (most, tokens) = (task.max_tokens(), prompt.rows);
        let message = format!("rows of at most {most} tokens have no room for a text behind {tokens} virtual tokens");
        return Err(Error::request(message));
    }
    let (encoder, shapes) = (Some(encoder.name().to_owned()), Some(Shapes::Peft.name().to_owned()));
    let description = Description { encoder, shapes, ..empty.description };
    Ok(Adapter { description, rows: rows.len() / prompt.width, prompt: rows, ..empty })
}

/// PEFT puts a prompt before everything, the family's start token included; ptune puts it behind that.
fn check_start(task: &Task, spec: &ModelSpec) -> Result<()> {
    if spec.causal && task.has_start_token() {
        let message = "this model begins every row with a token of its own, before the prompt; PEFT puts the prompt before \
                       that token, so the two do not mean the same";
        return Err(Error::request(message));
    }
    Ok(())
}

fn no_task(peft: &Path) -> Error {
    let message = "has no ptune.json, and PEFT keeps no template: say what the task is, with --run RUN.toml or with \
                   --template";
    Error::file(peft, message)
}

/// The directory of the base model.
fn base_of(peft: &Path, model: Option<&Path>, from: TaskFrom<'_>, beside: Option<&Description>) -> Result<PathBuf> {
    match (model, from, beside) {
        (Some(model), ..) => hub::locate(model, Path::new("")),
        (None, TaskFrom::Run(config, file), _) => hub::locate(&config.model, file.parent().unwrap_or(Path::new(""))),
        (None, TaskFrom::Beside, Some(description)) => find_base(peft, &description.base),
        (None, TaskFrom::Beside, None) => Err(no_task(peft)),
    }
}

/// The task over this model, and the words of the adapter.
fn described(
    peft: &Path,
    from: TaskFrom<'_>,
    beside: Option<Description>,
    prefix_tokens: Option<usize>,
    directory: &ModelDirectory,
    spec: &ModelSpec,
) -> Result<(Task, Description)> {
    let base = describe_base(directory, spec)?;
    match (from, beside) {
        (TaskFrom::Run(config, file), _) => {
            let prompt = PromptConfig { prefix_tokens, ..config.prompt.clone() };
            let config = RunConfig { prompt, ..config.clone() };
            let task = Task::from_run(&config, file, directory, spec)?;
            let description = describe(&config, &task, &base, true);
            Ok((task, Description { compute: PEFT_COMPUTE.into(), ..description }))
        }
        (TaskFrom::Beside, Some(description)) => {
            if description.base.fingerprint != base.fingerprint {
                let message = format!("was made for the model '{}', which this is not", description.base.name);
                return Err(Error::file(&peft.join("ptune.json"), message));
            }
            let task = Task::from_adapter(&description, &peft.join("ptune.json"), directory, spec)?;
            Ok((task, Description { base, ..description }))
        }
        (TaskFrom::Beside, None) => Err(no_task(peft)),
    }
}

/// The prompt rows of the template, each from the first of its places among the virtual tokens; the others must agree.
fn rows_of(prompt: &Matrix, task: &Task, spec: &ModelSpec) -> Result<Vec<f32>> {
    let order = front_rows(&task.template, spec)?;
    let (places, tokens, width) = (order.len(), prompt.rows, prompt.width);
    if places != tokens {
        let message = format!(
            "the template has {places} pseudo tokens before the text and the prompt {tokens}: write [P*{tokens}] there"
        );
        return Err(Error::request(message));
    }
    let mut rows = vec![None; task.template.pseudo_rows()];
    for (row, numbers) in order.into_iter().zip(prompt.values.chunks_exact(width)) {
        if *rows[row].get_or_insert(numbers) != numbers {
            return Err(Error::request("the template shares rows by @name that differ in this prompt; use no name"));
        }
    }
    Ok(rows.into_iter().flatten().flatten().copied().collect())
}

#[cfg(test)]
mod tests;
