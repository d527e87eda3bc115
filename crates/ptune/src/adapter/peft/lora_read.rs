//! PEFT's LoRA as ours: `<module>.lora_A.weight [r, inputs]`, `<module>.lora_B.weight [outputs, r]`, f32, f16 or bf16.
//!
//! PEFT may have another rank and factor for every module, and leaves blocks out; ours has one rank, one factor, and its
//! targets in every block. The product stays the same: where the rank is smaller or the addition missing there are zeros,
//! and where the factor is another B is multiplied by the ratio.
//!
//! A fused module becomes its layers: each has all of A, and its own rows of B. Columns of these rows that are zero are
//! left out, with their rows of A, so that what `lora_write.rs` put together comes apart again.
//!
//! The tensors decide, not `target_modules`, which may be a regular expression; one that is not understood is an error, for
//! PEFT ignores tensors that it has no place for.

use std::collections::BTreeMap;

use super::WRAPPED;
use super::lora_config::LoraConfig;
use super::modules::{Module, bare, modules};
use crate::adapter::Weight;
use crate::checkpoint::Weights;
use crate::error::{Error, Result};
use crate::model::spec::{BlockSpec, LinearSpec, ModelSpec};
use crate::model::{Lora, Projection};

/// No addition has more rows; and no tensor of one more numbers.
const LARGEST_RANK: usize = 1024;

/// The addition to one layer.
struct Addition {
    /// `[rank, inputs]`
    a: Vec<f32>,
    /// `[outputs, rank]`
    b: Vec<f32>,
    rank: usize,
    /// Of the module, of which this is a part.
    alpha: f64,
    module_rank: usize,
}

/// The additions of a file to the blocks of this model; `others` are tensors that something else has read.
///
/// # Errors
/// Tensors that do not belong to this model, or to plain LoRA; half an addition; values that are not finite.
pub(super) fn read(
    config: &LoraConfig<'_>,
    tensors: &Weights,
    others: &[String],
    spec: &ModelSpec,
) -> Result<(Lora, Vec<Weight>)> {
    let modules = modules(spec);
    let mut additions: BTreeMap<String, (Projection, Addition)> = BTreeMap::new();
    for module in named(&modules, tensors, others, spec)? {
        for (projection, layer, addition) in of_module(config, tensors, &module)? {
            additions.insert(Lora::tensor_names(projection, layer)[0].clone(), (projection, addition));
        }
    }
    let Some((_, first)) = additions.values().next() else {
        let message = "adds nothing to a model: no tensors *.lora_B.weight, or all of them zero, as before training";
        return Err(Error::file(tensors.file(), message));
    };
    let rank = additions.values().map(|(_, addition)| addition.rank).max().unwrap_or(1);
    let scale = config.scale(first.alpha, first.module_rank);
    let alpha = without_dust(first.alpha * config.divisor(rank) / config.divisor(first.module_rank));
    let targets: Vec<Projection> = Projection::ALL
        .into_iter()
        .filter(|projection| additions.values().any(|(having, _)| having == projection))
        .collect();
    let lora = Lora { rank, alpha, rslora: config.rslora, targets };
    let mut weights = Vec::new();
    for (layer, projection) in spec.blocks.iter().flat_map(|block| targets_of(block, &lora)) {
        let names = Lora::tensor_names(projection, layer);
        let addition = additions.get(&names[0]).map(|(_, addition)| addition);
        let ratio = addition.map_or(1.0, |it| config.scale(it.alpha, it.module_rank) / scale);
        weights.extend(padded(addition, names, layer, rank, ratio));
    }
    weights.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((lora, weights))
}

/// A number that roots and quotients have moved by a few units in its last place, as it was.
fn without_dust(number: f64) -> f64 {
    let short = (number * 1e6).round() / 1e6;
    if (short - number).abs() < 1e-12 * number.abs() { short } else { number }
}

fn targets_of<'a>(block: &'a BlockSpec, lora: &Lora) -> impl Iterator<Item = (&'a LinearSpec, Projection)> {
    let targets = lora.targets.clone();
    targets.into_iter().filter_map(|projection| Some((block.projection(projection)?, projection)))
}

/// A module that has an addition in the file.
struct Named<'a> {
    module: &'a Module<'a>,
    /// Of its tensors, without what makes it A or B.
    stem: String,
}

/// The modules that the tensors' names mean.
fn named<'a>(
    modules: &'a [Module<'a>],
    tensors: &Weights,
    others: &[String],
    spec: &ModelSpec,
) -> Result<Vec<Named<'a>>> {
    let mut found = Vec::new();
    for name in tensors.names().filter(|name| !others.iter().any(|other| other == name)) {
        let wrong = |message: String| Error::tensor(tensors.file(), name, message);
        let (stem, is_a) = match (name.strip_suffix(".lora_A.weight"), name.strip_suffix(".lora_B.weight")) {
            (Some(stem), _) => (stem, true),
            (_, Some(stem)) => (stem, false),
            _ => return Err(wrong(refused(name))),
        };
        let path = stem.strip_prefix(WRAPPED).ok_or_else(|| wrong(format!("does not begin with {WRAPPED}")))?;
        let at = modules.iter().find(|module| bare(spec, &module.path) == bare(spec, path)).ok_or_else(|| {
            wrong(format!(
                "this model ({}) has no linear layer '{path}' in its blocks, and ptune adds to these alone",
                spec.family
            ))
        })?;
        found.push((Named { module: at, stem: stem.to_owned() }, is_a));
    }
    for (Named { stem, .. }, is_a) in &found {
        let partner = format!("{stem}.{}.weight", if *is_a { "lora_B" } else { "lora_A" });
        if !tensors.contains(&partner) {
            return Err(Error::tensor(tensors.file(), &partner, "is missing"));
        }
    }
    Ok(found.into_iter().filter(|(_, is_a)| *is_a).map(|(named, _)| named).collect())
}

/// Adds an addition that does not stand in a block to the weight that it is an addition to.
pub(super) fn product(
    config: &LoraConfig<'_>,
    tensors: &Weights,
    names: &[String; 2],
    path: &str,
    weight: &mut Weight,
) -> Result<()> {
    let [a_name, b_name] = names;
    let rank = rank_of(tensors, a_name)?;
    let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    tensors.read_into(a_name, &[rank, inputs], &mut a)?;
    tensors.read_into(b_name, &[outputs, rank], &mut b)?;
    let scale = config.scale(config.alpha(path, rank)?, rank);
    for (row, b) in weight.numbers.chunks_exact_mut(inputs).zip(b.chunks_exact(rank)) {
        for (i, number) in row.iter_mut().enumerate() {
            let more: f64 = b.iter().enumerate().map(|(r, b)| f64::from(*b) * f64::from(a[r * inputs + i])).sum();
            *number = (f64::from(*number) + scale * more) as f32;
        }
    }
    Ok(())
}

/// The rows of an A.
fn rank_of(tensors: &Weights, name: &str) -> Result<usize> {
    match tensors.shape(name).and_then(|shape| shape.first()).copied() {
        Some(rank @ 1..=LARGEST_RANK) => Ok(rank),
        rank => {
            let message = format!("has {} rows; a rank is from 1 to {LARGEST_RANK}", rank.unwrap_or(0));
            Err(Error::tensor(tensors.file(), name, message))
        }
    }
}

/// Why a tensor that is neither A nor B is not read.
fn refused(name: &str) -> String {
    let reasons = [
        (
            "lora_embedding_",
            "low-rank additions to an embedding are not implemented; ptune adds to the blocks' linear layers",
        ),
        ("lora_magnitude_vector", "DoRA is not implemented; ptune has plain LoRA alone"),
        ("lora_B.bias", "B has a bias here (lora_bias); ptune has plain LoRA alone"),
        ("embed", "the word table was saved with the adapter, as PEFT does when the vocabulary was resized"),
        (".wte.", "the word table was saved with the adapter, as PEFT does when the vocabulary was resized"),
        ("lm_head", "the language-model head was trained or saved too; ptune's LoRA leaves it alone"),
    ];
    let known = reasons.iter().find(|(part, _)| name.contains(part)).map(|(_, reason)| *reason);
    known.unwrap_or("is no low-rank addition, and no layer of a classifier: trained otherwise (modules_to_save), it has no place here").into()
}

/// The additions to the layers of a module.
fn of_module<'a>(
    config: &LoraConfig<'_>,
    tensors: &Weights,
    named: &Named<'a>,
) -> Result<Vec<(Projection, &'a LinearSpec, Addition)>> {
    let Named { module, stem } = named;
    let [a_name, b_name] = ["lora_A", "lora_B"].map(|matrix| format!("{stem}.{matrix}.weight"));
    let (inputs, outputs) = (module.inputs(), module.outputs());
    let rank = rank_of(tensors, &a_name)?;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    tensors.read_into(&a_name, &[rank, inputs], &mut a)?;
    tensors.read_into(&b_name, &[outputs, rank], &mut b)?;
    let alpha = config.alpha(&module.path, rank)?;
    let addition = |a, b, rank_of_part| Addition { a, b, rank: rank_of_part, alpha, module_rank: rank };
    if let [(projection, layer)] = module.layers[..] {
        return Ok(vec![(projection, layer, addition(a, b, rank))]);
    }
    let mut parts = Vec::new();
    for &(projection, layer) in &module.layers {
        let rows: Vec<&[f32]> = (0..layer.outputs).map(|o| &b[layer.stored.place(o) * rank..][..rank]).collect();
        let used: Vec<usize> = (0..rank).filter(|&r| rows.iter().any(|row| row[r] != 0.0)).collect();
        if used.is_empty() {
            continue;
        }
        let a = used.iter().flat_map(|&r| &a[r * inputs..][..inputs]).copied().collect();
        let b = rows.iter().flat_map(|row| used.iter().map(|&r| row[r])).collect();
        parts.push((projection, layer, addition(a, b, used.len())));
    }
    Ok(parts)
}

/// A and B of a layer at the common rank and factor; zeros where there is no addition.
fn padded(addition: Option<&Addition>, names: [String; 2], layer: &LinearSpec, rank: usize, ratio: f64) -> [Weight; 2] {
    let [a_name, b_name] = names;
    let mut a = vec![0.0; rank * layer.inputs];
    let mut b = vec![0.0; layer.outputs * rank];
    if let Some(addition) = addition {
        a[..addition.a.len()].copy_from_slice(&addition.a);
        for (to, from) in b.chunks_exact_mut(rank).zip(addition.b.chunks_exact(addition.rank)) {
            let scaled = from.iter().map(|x| if ratio == 1.0 { *x } else { (f64::from(*x) * ratio) as f32 });
            to.iter_mut().zip(scaled).for_each(|(to, x)| *to = x);
        }
    }
    [
        Weight { name: a_name, shape: vec![rank, layer.inputs], numbers: a },
        Weight { name: b_name, shape: vec![layer.outputs, rank], numbers: b },
    ]
}
