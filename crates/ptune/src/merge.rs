//! The model that an adapter makes of its base, as a Hugging Face directory of its own: low-rank additions folded into the
//! weights (`W + s B A`), or trained weights in the place of the base's; and the rest of the adapter beside it.
//!
//! What changed is f32, the rest keeps its bytes. The directory has another fingerprint than the base: the adapter that
//! was merged is refused over it, for it would be added twice. `adapter/` in it is the same task over the merged model,
//! with the prompt, and a classifier if it has one, and without what was merged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::adapter::{Adapter, Description, HEAD_FILE, Tuned};
use crate::checkpoint::{Change, ModelDirectory, Weights, hub, write_changed};
use crate::method::Classifier;
use crate::model::Lora;
use crate::model::spec::{LinearSpec, ModelSpec};
use crate::predict::{find_base, task_of};
use crate::train::describe_base;
use crate::{Error, Result, files};

/// The layers of a classifier: far more than any has.
const LARGEST_HEAD: u64 = 1 << 30;

/// What was written.
#[derive(Debug, PartialEq)]
pub struct Merged {
    /// Tensors that are not the base's.
    pub changed: usize,
    /// Tensors in all.
    pub tensors: usize,
    /// The adapter of the same task over the merged model.
    pub adapter: PathBuf,
}

/// Writes the model into `out`, which is new or empty. `model` is as for [`Predictor::open`](crate::predict::Predictor::open).
/// `progress(done, total)` counts tensors.
///
/// # Errors
/// Everything wrong with the adapter or its model; an adapter that trained nothing of the model.
pub fn merge(
    adapter: &Path,
    model: Option<&Path>,
    out: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Merged> {
    let loaded = Adapter::load(adapter)?;
    if loaded.tuned.is_empty() {
        return Err(nothing(adapter));
    }
    let base = match model {
        Some(model) => hub::locate(model, Path::new(""))?,
        None => find_base(adapter, &loaded.description.base)?,
    };
    let directory = ModelDirectory::open(&base)?;
    let spec = ModelSpec::read(&directory)?;
    task_of(&loaded, adapter, &directory, &spec)?;
    loaded.tuned.check(adapter, &spec)?;
    let trained = Trained::new(&loaded.tuned, adapter, &directory, &spec)?;
    trained.check()?; // before anything is written
    files::create_new_directory(out)?;
    let made_with = format!("merged with an adapter of {}", loaded.description.base.fingerprint);
    write_changed(&directory, out, &trained, &made_with, progress)?;
    let merged = ModelDirectory::open(out)?;
    let base = describe_base(&merged, &ModelSpec::read(&merged)?)?;
    let description = Description { base, ..loaded.description.clone() };
    let beside = out.join("adapter");
    let classifier = loaded.description.head.is_some();
    if classifier {
        files::create_directory(&beside)?;
        let head = files::read_bytes(&adapter.join(HEAD_FILE), LARGEST_HEAD)?;
        files::write_atomically(&beside.join(HEAD_FILE), &head)?;
    }
    let tuned = if classifier { loaded.tuned.head_alone() } else { Tuned::default() };
    Adapter { description, tuned, ..loaded }.save(&beside)?;
    let names = || directory.weights().names();
    let changed = names().filter(|name| trained.changes(name)).count();
    Ok(Merged { changed, tensors: names().count(), adapter: beside })
}

fn nothing(adapter: &Path) -> Error {
    let message = "trained nothing of its model, so there is nothing to merge: it is used over the model as it is";
    Error::file(adapter, message)
}

/// What an adapter trained of its model.
struct Trained<'a> {
    base: &'a Weights,
    files: Vec<Weights>,
    /// The layers of each weight that low-rank matrices are added to, with the names of these; none without.
    added: BTreeMap<String, Vec<(&'a LinearSpec, [String; 2])>>,
    lora: Option<&'a Lora>,
}

impl<'a> Trained<'a> {
    fn new(tuned: &'a Tuned, adapter: &Path, directory: &'a ModelDirectory, spec: &'a ModelSpec) -> Result<Self> {
        let lora = tuned.lora();
        let mut added: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for projection in lora.map_or(&[][..], |lora| &lora.targets) {
            for layer in spec.blocks.iter().filter_map(|block| block.projection(*projection)) {
                let names = Lora::tensor_names(*projection, layer);
                added.entry(format!("{}.weight", layer.name)).or_default().push((layer, names));
            }
        }
        let mut files = tuned.open(adapter)?;
        files.retain(|file| !Classifier::is_in(file)); // that is no part of the model
        if files.is_empty() {
            return Err(nothing(adapter));
        }
        Ok(Trained { base: directory.weights(), files, added, lora })
    }

    /// Reads everything once.
    fn check(&self) -> Result<()> {
        if let Some(lora) = self.lora {
            return self
                .added
                .values()
                .flatten()
                .try_for_each(|(layer, names)| self.matrices(lora, layer, names).map(drop));
        }
        let names = self.files.iter().flat_map(Weights::names);
        names
            .filter_map(|name| Some((name, self.base.shape(name)?)))
            .try_for_each(|(name, shape)| self.read(name, shape).map(drop))
    }

    /// A and B of a layer.
    fn matrices(&self, lora: &Lora, layer: &LinearSpec, [a, b]: &[String; 2]) -> Result<[Vec<f32>; 2]> {
        Ok([self.read(a, &[lora.rank, layer.inputs])?, self.read(b, &[layer.outputs, lora.rank])?])
    }

    /// `W + s B A` of the layers that a tensor holds.
    fn add(&self, lora: &Lora, layers: &[(&LinearSpec, [String; 2])], out: &mut [f32]) -> Result<()> {
        let scale = f64::from(lora.scale());
        for (layer, names) in layers {
            let [a, b] = self.matrices(lora, layer, names)?;
            let mut row = vec![0.0; layer.inputs];
            for (o, b) in b.chunks_exact(lora.rank).enumerate() {
                row.fill(0.0);
                for (b, a) in b.iter().zip(a.chunks_exact(layer.inputs)) {
                    row.iter_mut().zip(a).for_each(|(sum, a)| *sum += scale * f64::from(*b) * f64::from(*a));
                }
                for (i, more) in row.iter().enumerate() {
                    let place = layer.place(o, i);
                    out[place] = (f64::from(out[place]) + more) as f32;
                }
            }
        }
        Ok(())
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let file = self.files.iter().find(|file| file.contains(name)).unwrap_or(&self.files[0]);
        let mut numbers = Vec::new();
        file.read_into(name, shape, &mut numbers)?;
        Ok(numbers)
    }
}

impl Change for Trained<'_> {
    fn changes(&self, name: &str) -> bool {
        self.added.contains_key(name) || self.files.iter().any(|file| file.contains(name))
    }

    fn numbers(&self, name: &str, out: &mut Vec<f32>) -> Result<()> {
        let shape = self.base.shape(name).unwrap_or(&[]);
        if let (Some(lora), Some(layers)) = (self.lora, self.added.get(name)) {
            self.base.read_into(name, &layers[0].0.stored_shape(), out)?;
            return self.add(lora, layers, out);
        }
        *out = self.read(name, shape)?;
        Ok(())
    }
}
