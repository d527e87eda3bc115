//! `ptune adapter import`: what PEFT wrote, with a task, over its model.

use std::path::{Path, PathBuf};

use super::{PeftImport, TaskFrom, check_start};
use crate::adapter::peft::{PeftAdapter, PeftHead, PeftTrained, front_rows, refuse_prefix};
use crate::adapter::{Adapter, Description, Matrix, Tuned};
use crate::checkpoint::{ModelDirectory, hub};
use crate::method::Head;
use crate::model::spec::ModelSpec;
use crate::predict::find_base;
use crate::prompt::encoder::{EncoderKind, Shapes};
use crate::train::config::PromptConfig;
use crate::train::{RunConfig, Task, describe, describe_base};
use crate::{Error, Result, files};

/// Every tensor PEFT saves over an f32 model is computed in f32.
const PEFT_COMPUTE: &str = "f32";

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
    let prefix_tokens = opened.prefix_tokens()?;
    let (task, description) = described(peft, from, beside, prefix_tokens, &directory, &spec)?;
    if opened.is_prompt() {
        check_start(&task, &spec)?;
        front_rows(&task.template, &spec)?;
    }
    let (trained, head) = opened.read(&directory, &spec, number)?;
    check_head(&task, head.as_ref())?;
    let empty = Adapter {
        description: Description { prefix_tokens, encoder: None, shapes: None, ..description },
        prompt: Vec::new(),
        rows: 0,
        width: spec.embeddings.width,
        prefix: Matrix::default(),
        tuned: Tuned::default(),
    };
    let size = trained.size();
    let (adapter, backbone) = match trained {
        PeftTrained::Prompt(prompt, encoder) => (with_prompt(empty, &prompt, encoder, &task, &spec)?, None),
        PeftTrained::Prefix(prefix) => {
            refuse_prefix(&spec, head.is_some())?;
            refuse_pseudo(&task, "it is a prefix, keys and values in every block")?;
            (Adapter { prefix, ..empty }, None)
        }
        PeftTrained::Lora(lora, weights) => {
            refuse_pseudo(&task, "it is low-rank additions to the model's layers")?;
            (empty, Some((lora, weights)))
        }
    };
    files::create_new_directory(out)?;
    let (lora, backbone) = backbone.unzip();
    let (backbone, head) = (backbone.unwrap_or_default(), head.map_or(Vec::new(), |head| head.weights));
    let tuned = Tuned::write_weights(out, &backbone, &head, lora)?;
    let adapter = Adapter { tuned, ..adapter };
    adapter.save(out)?;
    Ok(PeftImport { method: opened.peft_type().to_owned(), size, template: adapter.description.template })
}

/// Whether a classifier answers the task exactly when PEFT's files have one, and for as many labels.
fn check_head(task: &Task, head: Option<&PeftHead>) -> Result<()> {
    let asked = match &task.head {
        Head::Classifier(labels) => Some(labels.len()),
        _ => None,
    };
    let message = match (asked, head.map(|head| head.labels)) {
        (asked, has) if asked == has => return Ok(()),
        (Some(asked), Some(has)) => {
            format!("its classifier has {has} labels, the task {asked}; name as many, in their order")
        }
        (None, Some(has)) => format!(
            "it has a classifier of {has} labels: name them in their order, with task.head = \"classifier\" and task.labels, or \
             with --label NAME each, and write the template without [MASK]"
        ),
        (_, None) => {
            "it has no classifier, so its answers are words: the task needs [MASK] and words for its labels".into()
        }
    };
    Err(Error::request(message))
}

/// Refuses a template whose pseudo tokens would need rows that the adapter does not have.
fn refuse_pseudo(task: &Task, what: &str) -> Result<()> {
    if task.prompt_rows() == 0 {
        return Ok(());
    }
    let message = format!(
        "{what}; a template with pseudo tokens would need rows for them that it does not have: write the template without \
         [P*n]"
    );
    Err(Error::request(message))
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
