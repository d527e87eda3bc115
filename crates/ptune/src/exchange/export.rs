//! `ptune adapter export --format peft`.

use std::path::Path;

use super::{PeftExport, check_start};
use crate::adapter::Adapter;
use crate::adapter::peft::{Exported, PeftMethod, Source, front_rows};
use crate::checkpoint::{ModelDirectory, hub};
use crate::model::spec::ModelSpec;
use crate::model::{Gradients, Model};
use crate::predict::{find_base, task_of};
use crate::tensor::{Device, Precision};
use crate::{Result, files};

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
    let method = method.unwrap_or_else(|| PeftMethod::of(&loaded));
    let source = Source { adapter: &loaded, directory: adapter, template: &task.template, spec: &spec };
    let exported = match method {
        PeftMethod::Lora => Exported::lora(&source)?,
        PeftMethod::PrefixTuning if loaded.prefix.rows > 0 => Exported::prefix(&source)?,
        PeftMethod::PrefixTuning => {
            check_start(&task, &spec)?;
            front_rows(&task.template, &spec)?; // before the model is loaded
            let device = device.with_precision(Precision::F32);
            let model = Model::load(&directory, &[], &device, Gradients::None, progress)?;
            Exported::prompt_as_prefix(&source, &model, &device)?
        }
        PeftMethod::PromptTuning | PeftMethod::PTuning => {
            check_start(&task, &spec)?;
            Exported::prompt(&source, method)?
        }
    };
    exported.write(out)?;
    Ok(PeftExport { method: method.name(), size: exported.size(), bytes: files::directory_bytes(out)? })
}
