//! The embedding layer, and operations on rows: gather, scatter, copy, add.

use ptune_kernels as kernels;

use super::Layout;
use crate::profile::Operation;
use crate::tensor::{Device, Tensor};

/// The tables of an embedding layer, `[entries, width]` each.
pub(crate) struct EmbeddingTables<'a> {
    pub(crate) words: &'a Tensor,
    /// Where it is none, positions are the attention's business.
    pub(crate) positions: Option<&'a Tensor>,
    /// The entry of `positions` for position 0.
    pub(crate) first_position: usize,
    /// Row 0 is added to every row.
    pub(crate) token_types: Option<&'a Tensor>,
}

impl Device {
    /// Word (or, at pseudo tokens, prompt) + position + token-type embedding of every row.
    pub(crate) fn embed(&self, layout: &Layout, tables: &EmbeddingTables<'_>, prompt: Option<&Tensor>) -> Tensor {
        let width = tables.words.columns();
        let mut y = self.uninitialised(layout.rows(), width);
        let positions = tables.positions.map(|table| &table.data()[tables.first_position * width..]);
        kernels::embed(
            &self.doing(Operation::Embedding),
            y.data_mut(),
            &layout.ids,
            tables.words.data(),
            positions.map(|table| (layout.positions.as_slice(), table)),
            tables.token_types.map(|types| &types.data()[..width]),
            &layout.pseudo,
            prompt.map_or(&[], Tensor::data),
            width,
        );
        y
    }

    /// The gradient of the prompt `[prompt_rows, width]` from that of the pseudo-token rows `[pseudo, width]`.
    pub(crate) fn embed_backward(&self, d_pseudo: &Tensor, layout: &Layout, prompt_rows: usize) -> Tensor {
        let width = d_pseudo.columns();
        let mut d_prompt = self.uninitialised(prompt_rows, width);
        kernels::embed_backward_prompt(
            &self.doing(Operation::Embedding),
            d_prompt.data_mut(),
            d_pseudo.data(),
            &layout.pseudo,
            width,
        );
        d_prompt
    }

    /// These rows of `x`.
    pub(crate) fn gather_rows(&self, x: &Tensor, rows: &[u32]) -> Tensor {
        let mut y = self.uninitialised_as(x.dtype(), rows.len(), x.columns());
        kernels::gather_rows(&self.doing(Operation::Rows), y.memory_mut(), x.memory(), rows, x.stride());
        y
    }

    /// A matrix of `total` rows: `x` at `rows` (ascending), zeros elsewhere.
    pub(crate) fn scatter_rows(&self, x: &Tensor, rows: &[u32], total: usize) -> Tensor {
        let mut y = self.uninitialised(total, x.columns());
        kernels::scatter_rows(&self.doing(Operation::Rows), y.data_mut(), x.data(), rows, x.columns());
        y
    }

    /// `y[rows] += x`, `rows` ascending.
    pub(crate) fn scatter_rows_add(&self, y: &mut Tensor, x: &Tensor, rows: &[u32]) {
        let columns = x.columns();
        kernels::scatter_rows_add(&self.doing(Operation::Rows), y.data_mut(), x.data(), rows, columns);
    }

    /// A copy of `x`.
    pub(crate) fn copy(&self, x: &Tensor) -> Tensor {
        self.upload(x.rows(), x.columns(), x.data())
    }

    /// `y = x`.
    pub(crate) fn copy_into(&self, y: &mut Tensor, x: &Tensor) {
        y.data_mut().copy_from_slice(x.data());
    }

    /// `y = 0`.
    pub(crate) fn fill_zero(&self, y: &mut Tensor) {
        let _doing = self.doing(Operation::Rows);
        y.data_mut().fill(0.0);
    }

    /// `y += x`.
    pub(crate) fn add(&self, y: &mut Tensor, x: &Tensor) {
        kernels::add(&self.doing(Operation::Rows), y.data_mut(), x.data());
    }
}
