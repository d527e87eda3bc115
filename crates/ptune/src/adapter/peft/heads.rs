//! A classifier's layers under the names that they have in transformers' `ForSequenceClassification`, in PEFT's files.
//!
//! | family | layer before the last | last layer |
//! |---|---|---|
//! | BERT, ALBERT | `bert.pooler.dense`, `albert.pooler` | `classifier` |
//! | RoBERTa, XLM-R, ELECTRA | `classifier.dense` | `classifier.out_proj` |
//! | DistilBERT | `pre_classifier` | `classifier` |
//! | causal models | - | `score` |
//!
//! `base_model.` stands before the name of what goes with a prompt or a prefix, `base_model.model.` with a LoRA. Under
//! `SEQ_CLS` PEFT trains and saves every module whose name ends in `classifier` or `score`. A pooler is the base's to PEFT: it
//! stays as it is and is not saved, unless `modules_to_save` names it. Ptune trains it, so what is written names it; and what
//! is read without it has the base's, with the low-rank addition that PEFT may have given it.

use super::lora_config::LoraConfig;
use super::lora_read::product;
use crate::adapter::Weight;
use crate::checkpoint::Weights;
use crate::error::{Error, Result};
use crate::method::Classifier;
use crate::model::spec::ModelSpec;

/// What PEFT saves of itself with `SEQ_CLS`.
pub(super) const SAVED: [&str; 2] = ["classifier", "score"];
/// Parts of a name that PEFT takes out when it saves, and other savers do not.
const WRAPPERS: [&str; 2] = [".modules_to_save.default", ".modules_to_save"];

/// A classifier's layers, as an adapter's files have them.
#[derive(Debug, PartialEq)]
pub struct PeftHead {
    /// Its tensors, sorted by name.
    pub weights: Vec<Weight>,
    /// Its labels.
    pub labels: usize,
}

/// A layer: our name, and theirs.
struct Layer {
    ours: &'static str,
    theirs: &'static str,
    outputs: usize,
    bias: bool,
    /// Whether PEFT takes it for a part of the base.
    pooler: bool,
}

/// The layers of a classifier of so many labels.
fn layers(spec: &ModelSpec, labels: usize) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    if let Some(dense) = &spec.classifier.dense {
        if dense.norm.is_some() {
            let message = format!(
                "the classifier of this family ({}) has a norm between its layers and may read a mean of rows: its exchange \
                 is not implemented",
                spec.family
            );
            return Err(Error::request(message));
        }
        let (theirs, outputs) = (dense.name, spec.hidden);
        layers.push(Layer { ours: "classifier.dense", theirs, outputs, bias: dense.bias, pooler: dense.pooler });
    }
    let (theirs, bias) = (spec.classifier.out, spec.classifier.bias);
    layers.push(Layer { ours: "classifier", theirs, outputs: labels, bias, pooler: false });
    Ok(layers)
}

impl Layer {
    /// What of it is stored, with the shape.
    fn parts(&self, spec: &ModelSpec) -> Vec<(&'static str, Vec<usize>)> {
        let mut parts = vec![("weight", vec![self.outputs, spec.hidden])];
        if self.bias {
            parts.push(("bias", vec![self.outputs]));
        }
        parts
    }
}

/// The modules that PEFT must be told to save: `None` where it does so of itself.
pub(super) fn modules_to_save(spec: &ModelSpec) -> Option<Vec<&'static str>> {
    let dense = spec.classifier.dense.as_ref().filter(|dense| dense.pooler)?;
    let name = dense.name;
    // From its end, for a module may stand in another.
    let pooler = name.split_once('.').map_or(name, |(_, inner)| inner);
    Some([SAVED.as_slice(), &[pooler]].concat())
}

/// The tensors of the classifier among an adapter's `files`, behind `prefix`.
///
/// # Errors
/// None among them; a family whose classifier is another in transformers.
pub(super) fn write(files: &[Weights], spec: &ModelSpec, labels: usize, prefix: &str) -> Result<Vec<Weight>> {
    let file = files.iter().find(|file| Classifier::is_in(file));
    let file = file.ok_or_else(|| Error::request("its classifier is missing: it has no head.safetensors"))?;
    let mut weights = Vec::new();
    for layer in layers(spec, labels)? {
        for (part, shape) in layer.parts(spec) {
            let mut numbers = Vec::new();
            file.read_into(&format!("{}.{part}", layer.ours), &shape, &mut numbers)?;
            weights.push(Weight { name: format!("{prefix}{}.{part}", layer.theirs), shape, numbers });
        }
    }
    Ok(weights)
}

/// The classifier in PEFT's `tensors`, whose names begin with `prefix`, over the `base`; and the tensors that are of it. `None`
/// where there is none.
///
/// # Errors
/// A part that is missing or of another shape; a pooler that neither PEFT nor the base has.
pub(super) fn read(
    tensors: &Weights,
    lora: Option<&LoraConfig<'_>>,
    base: &Weights,
    spec: &ModelSpec,
    prefix: &str,
) -> Result<Option<(PeftHead, Vec<String>)>> {
    let find = |layer: &str, part: &str| {
        let names = WRAPPERS.iter().chain(&[""]).map(|wrapper| format!("{prefix}{layer}{wrapper}.{part}"));
        names.into_iter().find(|name| tensors.contains(name))
    };
    let Some(out) = find(spec.classifier.out, "weight") else { return Ok(None) };
    let labels = tensors.shape(&out).and_then(|shape| shape.first()).copied().unwrap_or(0);
    let (mut weights, mut known) = (Vec::new(), Vec::new());
    for layer in layers(spec, labels)? {
        for (part, shape) in layer.parts(spec) {
            let mut numbers = Vec::new();
            match find(layer.theirs, part) {
                Some(name) => {
                    tensors.read_into(&name, &shape, &mut numbers)?;
                    known.push(name);
                }
                None if layer.pooler => of_base(base, &format!("{}.{part}", layer.theirs), &shape, &mut numbers)?,
                None => {
                    let name = format!("{prefix}{}.{part}", layer.theirs);
                    return Err(Error::tensor(
                        tensors.file(),
                        &name,
                        "is missing, and without it there is no classifier",
                    ));
                }
            }
            weights.push(Weight { name: format!("{}.{part}", layer.ours), shape, numbers });
        }
        let stem = format!("{prefix}{}", layer.theirs);
        let matrices = ["lora_A", "lora_B"].map(|matrix| format!("{stem}.{matrix}.weight"));
        if let Some(lora) = lora.filter(|_| layer.pooler && tensors.contains(&matrices[0])) {
            let weight = weights.iter_mut().rfind(|weight| weight.shape.len() == 2).expect("every layer has one");
            product(lora, tensors, &matrices, layer.theirs, weight)?;
            known.extend(matrices);
        }
    }
    weights.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some((PeftHead { weights, labels }, known)))
}

/// A part of the base's pooler.
fn of_base(base: &Weights, name: &str, shape: &[usize], numbers: &mut Vec<f32>) -> Result<()> {
    if base.contains(name) {
        return base.read_into(name, shape, numbers);
    }
    let message = "is neither in PEFT's file nor in the base: then transformers drew it at random for the training, PEFT left it \
                   so, and it is lost. Train with this pooler in modules_to_save";
    Err(Error::tensor(base.file(), name, message))
}
