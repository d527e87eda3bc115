//! Our LoRA as PEFT's: the matrices of each module, and the keys that say what they are.
//!
//! Layers that one module of transformers holds (`c_attn`) have an A and a B each here and share one of each there: the
//! rows of A one below the other, and B with each layer's columns in that layer's rows and zeros elsewhere. The rank grows
//! with the layers, and alpha with it, so that the factor stays what it was.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::modules::{Module, modules};
use crate::adapter::Weight;
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::model::Lora;
use crate::model::spec::{LinearSpec, ModelSpec};

/// A module with the layers of it that have additions.
struct Changed<'a> {
    module: Module<'a>,
    /// The rank that it has in PEFT.
    rank: usize,
    alpha: f64,
}

/// The tensors and the keys of a LoRA, whose matrices are in `matrices`.
///
/// # Errors
/// Matrices that are missing, of other shapes or not finite.
pub(super) fn write(
    lora: &Lora,
    matrices: &Weights,
    spec: &ModelSpec,
) -> Result<(BTreeMap<&'static str, Value>, Vec<Weight>)> {
    let all = modules(spec);
    let paths: Vec<String> = all.iter().map(|module| module.path.clone()).collect();
    let changed: Vec<Changed<'_>> = all.into_iter().filter_map(|module| changed(lora, module)).collect();
    let mut weights = Vec::new();
    for module in &changed {
        weights.extend(tensors(lora, matrices, module)?);
    }
    Ok((keys(lora, &changed, &paths), weights))
}

fn changed<'a>(lora: &Lora, module: Module<'a>) -> Option<Changed<'a>> {
    let mut module = module;
    module.layers.retain(|(projection, _)| lora.targets.contains(projection));
    let parts = module.layers.len();
    let grown = if lora.rslora { (parts as f64).sqrt() } else { parts as f64 };
    (parts > 0).then_some(Changed { module, rank: lora.rank * parts, alpha: lora.alpha * grown })
}

/// A and B of a module.
fn tensors(lora: &Lora, matrices: &Weights, changed: &Changed<'_>) -> Result<[Weight; 2]> {
    let Changed { module, rank, .. } = changed;
    let (mut a, mut b) = (Vec::new(), vec![0.0; module.outputs() * rank]);
    for (part, (projection, layer)) in module.layers.iter().enumerate() {
        let [a_name, b_name] = Lora::tensor_names(*projection, layer);
        let mut numbers = Vec::new();
        matrices.read_into(&a_name, &[lora.rank, layer.inputs], &mut numbers)?;
        a.extend_from_slice(&numbers);
        matrices.read_into(&b_name, &[layer.outputs, lora.rank], &mut numbers)?;
        place(&numbers, layer, lora.rank, part, *rank, &mut b);
    }
    let named = |matrix: &str| format!("base_model.model.{}.{matrix}.weight", module.path);
    Ok([
        Weight { name: named("lora_A"), shape: vec![*rank, module.inputs()], numbers: a },
        Weight { name: named("lora_B"), shape: vec![module.outputs(), *rank], numbers: b },
    ])
}

/// Puts B of a layer into that of its module: its outputs are rows, its ranks columns of these.
fn place(numbers: &[f32], layer: &LinearSpec, own_rank: usize, part: usize, rank: usize, b: &mut [f32]) {
    for (o, row) in numbers.chunks_exact(own_rank).enumerate() {
        b[layer.stored.place(o) * rank + part * own_rank..][..own_rank].copy_from_slice(row);
    }
}

fn keys(lora: &Lora, changed: &[Changed<'_>], paths: &[String]) -> BTreeMap<&'static str, Value> {
    let (rank, alpha) = changed.first().map_or((lora.rank, lora.alpha), |first| (first.rank, first.alpha));
    let (mut ranks, mut alphas) = (Map::new(), Map::new());
    for other in changed.iter().filter(|module| module.rank != rank) {
        ranks.insert(other.module.inner().to_owned(), json!(other.rank));
        alphas.insert(other.module.inner().to_owned(), number(other.alpha));
    }
    let transposed = changed.iter().any(|changed| changed.module.is_transposed());
    let mut keys = BTreeMap::from([
        ("bias", json!("none")),
        ("fan_in_fan_out", json!(transposed)),
        ("init_lora_weights", json!(true)),
        ("layers_pattern", Value::Null),
        ("layers_to_transform", Value::Null),
        ("lora_alpha", number(alpha)),
        ("lora_dropout", json!(0.0)),
        ("modules_to_save", Value::Null),
        ("peft_type", json!("LORA")),
        ("r", json!(rank)),
        ("target_modules", json!(target_modules(changed, paths))),
    ]);
    if !ranks.is_empty() {
        keys.insert("rank_pattern", Value::Object(ranks));
        keys.insert("alpha_pattern", Value::Object(alphas));
    }
    if lora.rslora {
        keys.insert("use_rslora", json!(true));
    }
    keys
}

/// Names for PEFT to find the modules by, from their end: those behind the block, unless such a name is the end of another
/// module's (BERT's `output.dense`); then all of it.
fn target_modules(changed: &[Changed<'_>], paths: &[String]) -> BTreeSet<String> {
    let ours: BTreeSet<&str> = changed.iter().map(|changed| changed.module.path.as_str()).collect();
    let name = |changed: &Changed<'_>| {
        let inner = changed.module.inner();
        let ending = format!(".{inner}");
        let clear = paths.iter().filter(|path| path.ends_with(&ending)).all(|path| ours.contains(path.as_str()));
        if clear { inner.to_owned() } else { changed.module.path.clone() }
    };
    changed.iter().map(name).collect()
}

/// A whole number without a fraction, as PEFT writes it.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}
