//! Low-rank additions to linear layers: `y += s (x A^T) B^T` with a trained A `[rank, inputs]` and B `[outputs, rank]`, in
//! f32 whatever the frozen layer's precision.
//!
//! ```text
//! u = x (s A)^T;   y += u B^T
//! g = d_y B;       d_x += g (s A);   d_A = s g^T x;   d_B = d_y^T u
//! ```
//! A is packed times s, so that no row is scaled. u is computed again on the way back: of a layer's products it is the
//! smallest, and so only the layer's input is kept. Each is for a range of rows: the others of the batch are not its own.

use std::ops::Range;

use ptune_kernels::{self as kernels, Dtype, Rows, RowsMut};

use crate::profile::{Doing, Operation};
use crate::tensor::{Device, Tensor};

/// A low-rank addition, packed.
pub(crate) struct LowRank {
    /// `s A`
    a: kernels::Weight,
    b: kernels::Weight,
    /// s
    scale: f32,
}

impl Device {
    /// Packs A and B; with `gradient`, also for the backward.
    pub(crate) fn pack_low_rank(&self, a: &Tensor, b: &Tensor, scale: f32, gradient: bool) -> LowRank {
        let a = self.scaled(a, scale);
        let pack = |x: &Tensor| {
            kernels::Weight::pack(&self.doing(Operation::Packing), x.data(), x.rows(), x.columns(), gradient)
        };
        LowRank { a: pack(&a), b: pack(b), scale }
    }

    /// Packs other numbers into the same memory.
    pub(crate) fn repack_low_rank(&self, layer: &mut LowRank, a: &Tensor, b: &Tensor) {
        let a = self.scaled(a, layer.scale);
        layer.a.repack(&self.doing(Operation::Packing), a.data());
        layer.b.repack(&self.doing(Operation::Packing), b.data());
    }

    /// `y += s (x A^T) B^T` in some rows, y in f32.
    pub(crate) fn low_rank_add(&self, y: &mut Tensor, x: &Tensor, rows: &Range<usize>, layer: &LowRank) {
        let u = self.inner(self.chosen(x, rows).rows(), rows.len(), layer);
        let doing = self.rank_product(Operation::Products, rows.len(), &layer.b);
        kernels::matmul_add(&doing, chosen_mut(y, rows), u.view(), &layer.b);
    }

    /// `d_x += s (d_y B) A` in some rows, d_x in f32.
    pub(crate) fn low_rank_backward_add(&self, d_x: &mut Tensor, d_y: &Tensor, rows: &Range<usize>, layer: &LowRank) {
        let g = self.inner_backward(self.chosen(d_y, rows).rows(), rows.len(), layer);
        let doing = self.rank_product(Operation::ProductsBackward, rows.len(), &layer.a);
        kernels::matmul_backward_input_add(&doing, chosen_mut(d_x, rows), g.view(), &layer.a);
    }

    /// The gradients of A and B, from some rows.
    pub(crate) fn low_rank_backward_weight(
        &self,
        d_y: &Tensor,
        x: &Tensor,
        rows: &Range<usize>,
        layer: &LowRank,
    ) -> [Tensor; 2] {
        let (d_y, x, count) = (self.chosen(d_y, rows), self.chosen(x, rows), rows.len());
        let u = self.inner(x.rows(), count, layer);
        let d_b = self.weight_gradient(d_y.numbers(), u.data(), count, layer.b.outputs(), layer.b.inputs());
        let g = self.inner_backward(d_y.rows(), count, layer);
        let mut d_a = self.weight_gradient(g.data(), x.numbers(), count, layer.a.outputs(), layer.a.inputs());
        d_a.data_mut().iter_mut().for_each(|d| *d *= layer.scale);
        [d_a, d_b]
    }

    /// `u [rows, rank] = x (s A)^T`
    fn inner(&self, x: Rows<'_>, rows: usize, layer: &LowRank) -> Tensor {
        let mut u = self.uninitialised(rows, layer.a.outputs());
        let doing = self.rank_product(Operation::Products, rows, &layer.a);
        kernels::matmul(&doing, RowsMut::F32(u.data_mut()), x, &layer.a, None);
        u
    }

    /// `g [rows, rank] = d_y B`
    fn inner_backward(&self, d_y: Rows<'_>, rows: usize, layer: &LowRank) -> Tensor {
        let mut g = self.uninitialised(rows, layer.b.inputs());
        let doing = self.rank_product(Operation::ProductsBackward, rows, &layer.b);
        kernels::matmul_backward_input(&doing, RowsMut::F32(g.data_mut()), d_y, &layer.b);
        g
    }

    fn rank_product(&self, operation: Operation, rows: usize, weight: &kernels::Weight) -> Doing<'_> {
        self.doing_sums(operation, rows * weight.inputs() * weight.outputs())
    }

    /// Some rows in f32: as they stand, or a copy of rows in bf16.
    fn chosen<'a>(&self, x: &'a Tensor, rows: &Range<usize>) -> Chosen<'a> {
        let memory = &x.memory()[rows.start * x.stride()..rows.end * x.stride()];
        if x.dtype() == Dtype::F32 {
            return Chosen::There(memory);
        }
        let mut copy = self.uninitialised(rows.len(), x.columns());
        kernels::widen_rows(&self.doing(Operation::Rows), copy.data_mut(), memory, x.columns());
        Chosen::Copied(copy)
    }

    /// `factor x`
    fn scaled(&self, x: &Tensor, factor: f32) -> Tensor {
        let mut y = self.copy(x);
        y.data_mut().iter_mut().for_each(|y| *y *= factor);
        y
    }
}

/// Rows in f32.
enum Chosen<'a> {
    There(&'a [f32]),
    Copied(Tensor),
}

impl Chosen<'_> {
    fn numbers(&self) -> &[f32] {
        match self {
            Chosen::There(numbers) => numbers,
            Chosen::Copied(copy) => copy.data(),
        }
    }

    fn rows(&self) -> Rows<'_> {
        Rows::F32(self.numbers())
    }
}

fn chosen_mut<'a>(x: &'a mut Tensor, rows: &Range<usize>) -> &'a mut [f32] {
    let columns = x.columns();
    &mut x.data_mut()[rows.start * columns..rows.end * columns]
}
