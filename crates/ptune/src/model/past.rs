//! The past of a batch: keys and values, in every block, of rows that stand before those of the batch
//! ([`Span::past`](crate::ops::Span)). A causal model runs rows once, forward only, and any number of batches see them
//! after. Or they are trained themselves (prefix tuning), in models of both kinds: then they are numbers that no row gave,
//! and have a gradient.
//!
//! As a matrix, a row of the past is layer-major, the keys of a block before its values, as they enter the attention
//! (rotated, where a family rotates them): `[K0 V0 K1 V1 ...]`, each `kv_heads * head_dim`. PEFT keeps its prefixes so.

use std::ops::Range;

use super::attention::attention_dtype;
use super::block::BlockSaved;
use super::spec::{AttentionSpec, BlockSpec, ModelSpec};
use super::{Columns, Inject, Model};
use crate::ops::{KeysValues, Layout};
use crate::tensor::{Device, Tensor};

/// Keys and values of the same rows in every layer.
pub struct Past {
    blocks: Vec<KeysValues>,
}

impl Past {
    /// Room for `rows` rows of the same kind; they hold nothing until they are copied.
    pub fn with_room(&self, device: &Device, rows: usize) -> Past {
        let blocks = self.blocks.iter().map(|block| device.room_for_keys_values(block, rows));
        Past { blocks: blocks.collect() }
    }

    /// Copies the rows `from` of `other` to the rows from `at` on.
    pub fn copy_rows(&mut self, device: &Device, at: usize, other: &Past, from: Range<usize>) {
        for (block, other) in self.blocks.iter_mut().zip(&other.blocks) {
            device.copy_keys_values(block, at, other, from.clone());
        }
    }

    /// Bytes of a row, in all blocks together.
    pub fn bytes_of_row(&self) -> usize {
        self.blocks.iter().map(KeysValues::bytes_of_row).sum()
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.blocks.first().map_or(0, KeysValues::rows)
    }

    /// As a matrix `[rows, ModelSpec::past_width]`, in f32.
    pub fn to_rows(&self, device: &Device) -> Tensor {
        let width = self.blocks.iter().map(|block| 2 * block.columns()).sum();
        let mut rows = device.zeros(self.rows(), width);
        let mut at = 0;
        for block in &self.blocks {
            device.put_keys_values(&mut rows, at, block);
            at += 2 * block.columns();
        }
        rows
    }

    /// From the layers, the first one first.
    pub(super) fn of_blocks(blocks: Vec<KeysValues>) -> Past {
        Past { blocks }
    }

    pub(super) fn block(&self, layer: usize) -> &KeysValues {
        &self.blocks[layer]
    }
}

/// The past of one layer, and whether its gradient is asked for.
#[derive(Clone, Copy)]
pub(super) struct BlockPast<'a> {
    pub(super) rows: Option<&'a KeysValues>,
    pub(super) trained: bool,
}

impl ModelSpec {
    /// The block of each layer.
    fn layer_specs(&self) -> impl Iterator<Item = &BlockSpec> {
        self.layers.iter().map(|block| &self.blocks[*block])
    }

    /// Numbers of a row of the past: keys and values of every layer.
    pub fn past_width(&self) -> usize {
        self.layer_specs().map(|block| 2 * block.attention.kv_heads * block.attention.head_dim).sum()
    }
}

impl Model {
    /// The rows of a matrix `[rows, ModelSpec::past_width]`, as the attention reads them.
    pub fn past_of_rows(&self, rows: &Tensor) -> Past {
        assert_eq!(rows.columns(), self.spec.past_width(), "a past row has keys and values of every layer");
        let (device, mut at) = (&self.device, 0);
        let block = |block: &BlockSpec| {
            let AttentionSpec { kv_heads, head_dim, .. } = block.attention;
            let columns = kv_heads * head_dim;
            at += 2 * columns;
            device.keys_values_from(rows, at - 2 * columns, columns, attention_dtype(device, head_dim))
        };
        Past { blocks: self.spec.layer_specs().map(block).collect() }
    }

    /// Runs the rows of a batch without pseudo tokens to be the past of others.
    pub fn run_past(&self, layout: &Layout) -> Past {
        self.run_past_with(layout, &Inject::default())
    }

    /// The same with pseudo tokens and low-rank additions. Of the last block nothing but keys and values is needed.
    pub fn run_past_with(&self, layout: &Layout, inject: &Inject<'_>) -> Past {
        let device = &self.device;
        let all_rows: Vec<u32> = (0..layout.rows() as u32).collect();
        let (mut x, _) = self.embedding.forward(device, layout, &all_rows, inject, &self.parameters);
        let mut blocks = Vec::with_capacity(self.spec.layers.len());
        let Some((last, others)) = self.spec.layers.split_last() else { return Past { blocks } };
        for (layer, block) in others.iter().enumerate() {
            let lora = inject.lora_of(*block);
            let (y, saved) = self.blocks[*block].forward(device, layer, x, None, layout, &all_rows, None, lora);
            blocks.push(saved.into_keys_values());
            x = y;
        }
        blocks.push(self.blocks[*last].keys_values(device, &x, layout, &all_rows, inject.lora_of(*last)));
        Past { blocks }
    }

    /// [`Model::logits`], and the keys and values of the batch's rows, to be the past of others.
    pub fn logits_and_past(&self, layout: &Layout, inject: &Inject<'_>, columns: &Columns) -> (Tensor, Past) {
        let mut blocks = Vec::with_capacity(self.spec.layers.len());
        let each = &mut |block: BlockSaved| blocks.push(block.into_keys_values());
        let (logits, _) = self.run(layout, inject, columns, false, each);
        (logits, Past { blocks })
    }
}
