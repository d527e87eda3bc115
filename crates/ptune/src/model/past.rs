//! The past of a batch: keys and values, in every block, of rows that stand before those of the batch. A causal model runs
//! them once, forward only, and any number of batches see them after ([`Span::past`](crate::ops::Span)).

use std::ops::Range;

use super::{Inject, Model};
use crate::ops::{KeysValues, Layout};
use crate::tensor::Device;

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

    pub(super) fn block(&self, layer: usize) -> &KeysValues {
        &self.blocks[layer]
    }
}

impl Model {
    /// Runs the rows of a batch without pseudo tokens to be the past of others. Of the last block nothing but keys and
    /// values is needed.
    pub fn run_past(&self, layout: &Layout) -> Past {
        let device = &self.device;
        let all_rows: Vec<u32> = (0..layout.rows() as u32).collect();
        let (mut x, _) = self.embedding.forward(device, layout, &all_rows, &Inject::default(), &self.parameters);
        let mut blocks = Vec::with_capacity(self.spec.layers.len());
        let Some((last, others)) = self.spec.layers.split_last() else { return Past { blocks } };
        for (layer, block) in others.iter().enumerate() {
            let (y, saved) = self.blocks[*block].forward(device, layer, x, None, layout, &all_rows, None);
            blocks.push(saved.into_keys_values());
            x = y;
        }
        blocks.push(self.blocks[*last].keys_values(device, &x));
        Past { blocks }
    }
}
