//! The linear layers of a model under the names that its modules have in transformers, for PEFT names them so.
//!
//! Those names are the checkpoint's, with the family's prefix where a checkpoint leaves it out (GPT-2: `h.0.attn.c_attn` is
//! `transformer.h.0.attn.c_attn`). A module may be several layers of ours: `c_attn` is queries, keys and values.

use crate::model::Projection;
use crate::model::spec::{BlockSpec, LinearSpec, ModelSpec};

/// A linear module of transformers, and what it is made of.
#[derive(Debug)]
pub(super) struct Module<'a> {
    /// Its name in the family's classes with a head.
    pub(super) path: String,
    /// Where in it the name behind that of the block begins: `attn.c_attn`.
    inner: usize,
    /// Its layers, which have their inputs and their tensor in common.
    pub(super) layers: Vec<(Projection, &'a LinearSpec)>,
}

impl Module<'_> {
    /// The name behind that of the block.
    pub(super) fn inner(&self) -> &str {
        &self.path[self.inner..]
    }

    pub(super) fn inputs(&self) -> usize {
        self.layers[0].1.inputs
    }

    /// Of all its layers.
    pub(super) fn outputs(&self) -> usize {
        self.layers[0].1.stored.outputs
    }

    /// Whether it is a `Conv1D`, whose weight is `[inputs, outputs]`.
    pub(super) fn is_transposed(&self) -> bool {
        self.layers[0].1.stored.transposed
    }
}

/// The modules of all blocks, from the input up.
pub(super) fn modules(spec: &ModelSpec) -> Vec<Module<'_>> {
    spec.blocks.iter().flat_map(|block| of_block(spec, block)).collect()
}

fn of_block<'a>(spec: &ModelSpec, block: &'a BlockSpec) -> Vec<Module<'a>> {
    let mut modules: Vec<Module<'a>> = Vec::new();
    for projection in Projection::ALL {
        let Some(layer) = block.projection(projection) else { continue };
        match modules.iter_mut().find(|module| module.layers[0].1.name == layer.name) {
            Some(module) => module.layers.push((projection, layer)),
            None => {
                modules.push(Module { path: full(spec, &layer.name), inner: 0, layers: vec![(projection, layer)] });
            }
        }
    }
    let inner = common_parts(&modules);
    modules.iter_mut().for_each(|module| module.inner = inner);
    modules
}

/// A checkpoint's name as the module's.
pub(super) fn full(spec: &ModelSpec, name: &str) -> String {
    format!("{}.{}", spec.base_model_prefix, bare(spec, name))
}

/// A name without the family's prefix, as in a model without a head.
pub(super) fn bare<'a>(spec: &ModelSpec, name: &'a str) -> &'a str {
    let behind = name.strip_prefix(spec.base_model_prefix).and_then(|rest| rest.strip_prefix('.'));
    behind.unwrap_or(name)
}

/// Bytes of the parts, dots included, that all names begin with: the name of the block.
fn common_parts(modules: &[Module<'_>]) -> usize {
    let first = modules.first().map_or("", |module| module.path.as_str());
    let ends = first.char_indices().filter(|(_, c)| *c == '.').map(|(at, _)| at + 1);
    ends.take_while(|end| modules.iter().all(|module| module.path.starts_with(&first[..*end]))).last().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::checkpoint::ModelDirectory;

    /// As `named_modules()` of transformers 5.23 and 4.46 has them.
    #[test]
    fn modules_have_the_names_of_transformers() {
        let cases = [
            ("mlp_words", "bert.encoder.layer.1.", vec![("attention.self.query", 1), ("output.dense", 1)], 6),
            ("gpt2_mlp", "transformer.h.1.", vec![("attn.c_attn", 3), ("mlp.c_proj", 1)], 4),
            ("neox_mlp", "gpt_neox.layers.1.", vec![("attention.query_key_value", 3), ("mlp.dense_4h_to_h", 1)], 4),
            ("modernbert_mlp", "model.layers.1.", vec![("attn.Wqkv", 3), ("mlp.Wi", 2), ("mlp.Wo", 1)], 4),
            ("llama_mlp", "model.layers.1.", vec![("self_attn.q_proj", 1), ("mlp.gate_proj", 1)], 7),
            ("opt_mlp", "model.decoder.layers.0.", vec![("self_attn.q_proj", 1), ("fc2", 1)], 6),
            (
                "albert_lstm",
                "albert.encoder.albert_layer_groups.0.albert_layers.1.",
                vec![("attention.query", 1), ("ffn_output", 1)],
                6,
            ),
            ("distilbert_mlp", "distilbert.transformer.layer.1.", vec![("attention.q_lin", 1), ("ffn.lin2", 1)], 6),
        ];
        for (name, block, expected, of_block) in cases {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).join("model");
            let spec = ModelSpec::read(&ModelDirectory::open(&path).unwrap()).unwrap();
            let modules = modules(&spec);
            assert_eq!(modules.len(), of_block * spec.blocks.len(), "{name}");
            for (inner, layers) in expected {
                let path = format!("{block}{inner}");
                let found = modules.iter().find(|module| module.path == path);
                let found = found.unwrap_or_else(|| panic!("{name} has no {path}"));
                assert_eq!((found.inner(), found.layers.len()), (inner, layers), "{name}");
            }
        }
    }
}
