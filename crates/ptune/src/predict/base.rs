//! The base of a predictor: where it is, whether it is the adapter's, and how it is read beside the task.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

use crate::adapter::{Adapter, Base};
use crate::checkpoint::{ModelDirectory, Weights, hub};
use crate::model::Model;
use crate::model::spec::ModelSpec;
use crate::tensor::Device;
use crate::train::Task;
use crate::{Error, Result};

/// Which base a predictor has read.
pub(super) struct ReadBase {
    pub(super) path: PathBuf,
    pub(super) fingerprint: String,
    /// With nothing of an adapter in it.
    pub(super) untouched: bool,
}

/// The task of an adapter, its model, and the fingerprint of that.
pub(super) fn read_base(
    loaded: &Adapter,
    adapter: &Path,
    tuned: &[Weights],
    directory: &ModelDirectory,
    spec: &ModelSpec,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Task, Model, String)> {
    // The tokenizer and the fingerprint take about as long as the weights of a small model.
    let (task, model) = std::thread::scope(|scope| {
        let task = scope.spawn(|| {
            let fingerprint = directory.fingerprint(&spec.embeddings.words)?;
            Ok((task_over(loaded, adapter, directory, spec, &fingerprint)?, fingerprint))
        });
        let model = loaded.tuned.load_model(adapter, tuned, directory, device, progress);
        (task.join().unwrap_or_else(|panic| resume_unwind(panic)), model)
    });
    let (task, fingerprint) = task?;
    Ok((task, model?, fingerprint))
}

/// The task of an adapter over the model that it was trained on.
pub(crate) fn task_of(loaded: &Adapter, adapter: &Path, directory: &ModelDirectory, spec: &ModelSpec) -> Result<Task> {
    task_over(loaded, adapter, directory, spec, &directory.fingerprint(&spec.embeddings.words)?)
}

/// The same over a model whose fingerprint is known.
pub(super) fn task_over(
    loaded: &Adapter,
    adapter: &Path,
    directory: &ModelDirectory,
    spec: &ModelSpec,
    fingerprint: &str,
) -> Result<Task> {
    loaded.check_base(fingerprint, directory.path())?;
    let file = adapter.join("adapter.toml");
    let task = Task::from_adapter(&loaded.description, &file, directory, spec)?;
    if task.prompt_rows() != loaded.rows || loaded.width != spec.embeddings.width {
        let (needs, has) = (task.prompt_rows(), loaded.rows);
        let message = format!("the template needs {needs} prompt rows, the adapter has {has}");
        return Err(Error::key(&file, "task.template", message));
    }
    if loaded.prefix.rows > 0 && loaded.prefix.width != spec.past_width() {
        let (needs, has) = (spec.past_width(), loaded.prefix.width);
        let message =
            format!("a prefix row has {has} numbers; keys and values of every block of the model are {needs}");
        return Err(Error::key(&file, "prompt.prefix_width", message));
    }
    task.encoder()?;
    Ok(task)
}

/// Where the model of an adapter is now.
pub(crate) fn find_base(adapter: &Path, base: &Base) -> Result<PathBuf> {
    hub::locate_again(Path::new(&base.path), &base.name).ok_or_else(|| {
        let message =
            format!("its model '{}' is not at {} any more; say where it is with --model", base.name, base.path);
        Error::file(adapter, message)
    })
}
