//! Low-rank additions to linear layers: `y += s (x A^T) B^T` with a trained A `[rank, inputs]` and B `[outputs, rank]`, in
//! f32 whatever the frozen layer's precision.
//!
//! ```text
//! u = x (s A)^T;   y += u B^T
//! g = d_y B;       d_x += g (s A);   d_A = s g^T x;   d_B = d_y^T u
//! ```
//! A is packed times s, so that no row is scaled. u is computed again on the way back: of a layer's products it is the
//! smallest, and so only the layer's input is kept.

use ptune_kernels::{self as kernels, Dtype, RowsMut};

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

    /// `y += s (x A^T) B^T`, y in f32.
    pub(crate) fn low_rank_add(&self, y: &mut Tensor, x: &Tensor, layer: &LowRank) {
        let wide = self.as_f32(x);
        let u = self.inner(wide.as_ref().unwrap_or(x), layer);
        kernels::matmul_add(
            &self.rank_product(Operation::Products, u.rows(), &layer.b),
            y.data_mut(),
            u.view(),
            &layer.b,
        );
    }

    /// `d_x += s (d_y B) A`, d_x in f32.
    pub(crate) fn low_rank_backward_add(&self, d_x: &mut Tensor, d_y: &Tensor, layer: &LowRank) {
        let wide = self.as_f32(d_y);
        let g = self.inner_backward(wide.as_ref().unwrap_or(d_y), layer);
        let doing = self.rank_product(Operation::ProductsBackward, g.rows(), &layer.a);
        kernels::matmul_backward_input_add(&doing, d_x.data_mut(), g.view(), &layer.a);
    }

    /// The gradients of A and B, overwritten.
    pub(crate) fn low_rank_backward_weight(
        &self,
        d_y: &Tensor,
        x: &Tensor,
        layer: &LowRank,
        d_a: &mut Tensor,
        d_b: &mut Tensor,
    ) {
        let (wide_y, wide_x) = (self.as_f32(d_y), self.as_f32(x));
        let (d_y, x) = (wide_y.as_ref().unwrap_or(d_y), wide_x.as_ref().unwrap_or(x));
        self.linear_backward_weight(d_y, &self.inner(x, layer), d_b);
        self.linear_backward_weight(&self.inner_backward(d_y, layer), x, d_a);
        d_a.data_mut().iter_mut().for_each(|d| *d *= layer.scale);
    }

    /// `u [rows, rank] = x (s A)^T`
    fn inner(&self, x: &Tensor, layer: &LowRank) -> Tensor {
        let mut u = self.uninitialised(x.rows(), layer.a.outputs());
        let doing = self.rank_product(Operation::Products, x.rows(), &layer.a);
        kernels::matmul(&doing, RowsMut::F32(u.data_mut()), x.view(), &layer.a, None);
        u
    }

    /// `g [rows, rank] = d_y B`
    fn inner_backward(&self, d_y: &Tensor, layer: &LowRank) -> Tensor {
        let mut g = self.uninitialised(d_y.rows(), layer.b.inputs());
        let doing = self.rank_product(Operation::ProductsBackward, d_y.rows(), &layer.b);
        kernels::matmul_backward_input(&doing, RowsMut::F32(g.data_mut()), d_y.view(), &layer.b);
        g
    }

    fn rank_product(&self, operation: Operation, rows: usize, weight: &kernels::Weight) -> Doing<'_> {
        self.doing_sums(operation, rows * weight.inputs() * weight.outputs())
    }

    /// A copy in f32 of rows in bf16.
    fn as_f32(&self, x: &Tensor) -> Option<Tensor> {
        (x.dtype() == Dtype::Bf16).then(|| self.widened(x))
    }

    /// `factor x`
    fn scaled(&self, x: &Tensor, factor: f32) -> Tensor {
        let mut y = self.copy(x);
        y.data_mut().iter_mut().for_each(|y| *y *= factor);
        y
    }
}
