//! Operations on the weights of a trained model: their gradients, and packing what the optimiser made of them.

use ptune_kernels as kernels;

use super::{Layout, Linear, NormSaved};
use crate::profile::Operation;
use crate::tensor::{Device, Tensor};

impl Device {
    /// Packs other numbers into the same memory.
    pub(crate) fn repack_linear(&self, layer: &mut Linear, weight: &Tensor, bias: Option<&Tensor>) {
        layer.weight.repack(&self.doing(Operation::Packing), weight.data());
        if let (Some(to), Some(from)) = (&mut layer.bias, bias) {
            self.copy_into(to, from);
        }
    }

    /// Packs the given rows of other numbers into the same memory.
    pub(crate) fn repack_linear_rows(&self, layer: &mut Linear, weight: &Tensor, bias: Option<&Tensor>, rows: &[u32]) {
        layer.weight.repack_rows(&self.doing(Operation::Packing), weight.data(), rows);
        if let (Some(to), Some(from)) = (&mut layer.bias, bias) {
            let chosen = rows.iter().map(|&row| from.data()[row as usize]);
            to.data_mut().iter_mut().zip(chosen).for_each(|(to, x)| *to = x);
        }
    }

    /// `d_weight [outputs, inputs] = d_y^T x`, overwritten.
    pub(crate) fn linear_backward_weight(&self, d_y: &Tensor, x: &Tensor, d_weight: &mut Tensor) {
        self.backward_weight(d_y.data(), x.data(), [x.rows(), d_y.columns(), x.columns()], d_weight);
    }

    /// The same from numbers `[rows, outputs]` and `[rows, inputs]`, in a new tensor.
    pub(super) fn weight_gradient(&self, d_y: &[f32], x: &[f32], rows: usize, outputs: usize, inputs: usize) -> Tensor {
        let mut d_weight = self.uninitialised(outputs, inputs);
        self.backward_weight(d_y, x, [rows, outputs, inputs], &mut d_weight);
        d_weight
    }

    fn backward_weight(&self, d_y: &[f32], x: &[f32], [rows, outputs, inputs]: [usize; 3], d_weight: &mut Tensor) {
        let doing = self.doing_sums(Operation::ProductsWeight, rows * outputs * inputs);
        let scratch = kernels::matmul_backward_weight_scratch_len(&doing, rows, outputs, inputs);
        let mut scratch = self.uninitialised(1, scratch);
        let (d_weight, scratch) = (d_weight.data_mut(), scratch.data_mut());
        kernels::matmul_backward_weight(&doing, d_weight, d_y, x, outputs, inputs, scratch);
    }

    /// The sum of the rows of `x`, which is the gradient of a bias; `y` is overwritten.
    pub(crate) fn column_sums(&self, x: &Tensor, y: &mut Tensor) {
        kernels::column_sums(&self.doing(Operation::Rows), y.data_mut(), x.data(), x.columns());
    }

    /// The gradient of a whole decoder `[vocabulary, inputs]` of which only the rows `ids` were used (all when `None`):
    /// zeros elsewhere.
    pub(crate) fn decoder_backward_weight(
        &self,
        d_logits: &Tensor,
        x: &Tensor,
        ids: Option<&[u32]>,
        d_decoder: &mut Tensor,
    ) {
        let Some(ids) = ids else { return self.linear_backward_weight(d_logits, x, d_decoder) };
        let mut d_rows = self.uninitialised(ids.len(), x.columns());
        self.linear_backward_weight(d_logits, x, &mut d_rows);
        self.fill_zero(d_decoder);
        kernels::add_rows_at(
            &self.doing(Operation::ProductsWeight),
            d_decoder.data_mut(),
            d_rows.data(),
            ids,
            x.columns(),
        );
    }

    /// The gradient of a decoder's bias `[vocabulary]`, as [`Device::decoder_backward_weight`].
    pub(crate) fn decoder_backward_bias(&self, d_logits: &Tensor, ids: Option<&[u32]>, d_bias: &mut Tensor) {
        let Some(ids) = ids else { return self.column_sums(d_logits, d_bias) };
        let mut sums = self.uninitialised(1, ids.len());
        self.column_sums(d_logits, &mut sums);
        self.fill_zero(d_bias);
        kernels::add_rows_at(&self.doing(Operation::Rows), d_bias.data_mut(), sums.data(), ids, 1);
    }

    /// The gradients of gamma and, where there is one, beta, overwritten.
    pub(crate) fn norm_backward_weight(
        &self,
        d_y: &Tensor,
        saved: &NormSaved,
        d_gamma: &mut Tensor,
        d_beta: Option<&mut Tensor>,
    ) {
        let columns = d_gamma.columns();
        kernels::norm_backward_weight(
            &self.doing(Operation::Norms),
            d_gamma.data_mut(),
            d_beta.map(Tensor::data_mut),
            d_y.data(),
            saved.normalized.data(),
            columns,
        );
    }

    /// Adds the gradient of every row but the pseudo tokens `[rows, width]` to its word's.
    pub(crate) fn embed_backward_words_add(&self, d_y: &Tensor, layout: &Layout, d_words: &mut Tensor) {
        let (d_words, width) = (d_words.data_mut(), d_y.columns());
        kernels::embed_backward_words_add(
            &self.doing(Operation::Embedding),
            d_words,
            d_y.data(),
            &layout.ids,
            &layout.pseudo,
            width,
        );
    }

    /// The gradient of the position table, overwritten.
    pub(crate) fn embed_backward_positions(
        &self,
        d_y: &Tensor,
        layout: &Layout,
        first: usize,
        d_positions: &mut Tensor,
    ) {
        self.fill_zero(d_positions);
        let (width, d_positions) = (d_y.columns(), d_positions.data_mut());
        let used = &mut d_positions[first * width..];
        kernels::add_rows_at(&self.doing(Operation::Embedding), used, d_y.data(), &layout.positions, width);
    }

    /// The gradient of the token types, overwritten: all rows are of type 0.
    pub(crate) fn embed_backward_token_type(&self, d_y: &Tensor, d_types: &mut Tensor) {
        let width = d_y.columns();
        self.fill_zero(d_types);
        kernels::column_sums(&self.doing(Operation::Embedding), &mut d_types.data_mut()[..width], d_y.data(), width);
    }
}
