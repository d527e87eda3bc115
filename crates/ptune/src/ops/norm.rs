//! A model's norms, over whole rows or over each head of a row. To the input only; `weights.rs` has what is trained.

use ptune_kernels::{self as kernels, NormKind, NormOutput, RowsMut};

use super::Hidden;
use crate::profile::Operation;
use crate::tensor::{Device, Tensor};

/// A norm `y = (x - mean) / sqrt(variance + eps) * gamma + beta`, or that of the root mean square.
pub struct Norm {
    pub(crate) kind: NormKind,
    pub(crate) gamma: Tensor,
    pub(crate) beta: Option<Tensor>,
    pub(crate) eps: f32,
}

/// What the backward of a norm needs: normalised rows `[rows, columns]` and inverse deviations `[rows]`.
pub struct NormSaved {
    pub(super) normalized: Tensor,
    pub(super) inverse_deviation: Tensor,
}

impl Device {
    /// The norm of `x + residual`, row by row, for a residual and a product to read.
    pub(crate) fn norm(&self, x: &Tensor, residual: Option<&Tensor>, norm: &Norm) -> (Hidden, NormSaved) {
        let mut y = self.hidden(x.rows(), x.columns());
        let saved = self.norm_into(y.output(), x, residual, norm);
        (y, saved)
    }

    /// The norm of `x` for a product alone to read. A norm that is narrower than `x` is that of each head of a row.
    pub(crate) fn norm_narrow(&self, x: &Tensor, norm: &Norm) -> (Tensor, NormSaved) {
        let mut y = self.uninitialised_as(self.narrow(), x.rows(), x.columns());
        let output = match y.view_mut() {
            RowsMut::F32(exact) => NormOutput { exact: Some(exact), rounded: None },
            RowsMut::Bf16(rounded) => NormOutput { exact: None, rounded: Some(rounded) },
        };
        let saved = self.norm_into(output, x, None, norm);
        (y, saved)
    }

    fn norm_into(&self, y: NormOutput<'_>, x: &Tensor, residual: Option<&Tensor>, norm: &Norm) -> NormSaved {
        let columns = norm.gamma.columns();
        let rows = x.rows() * x.columns() / columns;
        let mut normalized = self.uninitialised_as(self.narrow(), rows, columns);
        let mut inverse_deviation = self.uninitialised(rows, 1);
        self.reserve(kernels::norm_scratch_len(columns));
        kernels::norm(
            &self.doing(Operation::Norms),
            norm.kind,
            y,
            normalized.view_mut(),
            inverse_deviation.data_mut(),
            x.data(),
            residual.map(Tensor::data),
            norm.gamma.data(),
            norm.beta.as_ref().map(Tensor::data),
            norm.eps,
            columns,
        );
        NormSaved { normalized, inverse_deviation }
    }

    /// The gradient of `x` (and of the residual: they are the same), plus `other`, which reaches it on another way.
    pub(crate) fn norm_backward(&self, d_y: &Tensor, other: Option<&Tensor>, saved: &NormSaved, norm: &Norm) -> Hidden {
        let mut d_x = self.hidden(d_y.rows(), d_y.columns());
        self.norm_backward_into(d_x.output(), d_y, other, saved, norm);
        d_x
    }

    /// The gradient of `x` of a norm over each head, in f32.
    pub(crate) fn norm_of_heads_backward(&self, d_y: &Tensor, saved: &NormSaved, norm: &Norm) -> Tensor {
        let mut d_x = self.uninitialised(d_y.rows(), d_y.columns());
        let output = NormOutput { exact: Some(d_x.data_mut()), rounded: None };
        self.norm_backward_into(output, d_y, None, saved, norm);
        d_x
    }

    fn norm_backward_into(
        &self,
        d_x: NormOutput<'_>,
        d_y: &Tensor,
        other: Option<&Tensor>,
        saved: &NormSaved,
        norm: &Norm,
    ) {
        let columns = norm.gamma.columns();
        self.reserve(kernels::norm_scratch_len(columns));
        kernels::norm_backward_input(
            &self.doing(Operation::Norms),
            norm.kind,
            d_x,
            d_y.data(),
            other.map(Tensor::data),
            saved.normalized.view(),
            saved.inverse_deviation.data(),
            norm.gamma.data(),
            columns,
        );
    }

    /// Only these rows of what a norm saved.
    pub(crate) fn gather_saved(&self, saved: &NormSaved, rows: &[u32]) -> NormSaved {
        NormSaved {
            normalized: self.gather_rows(&saved.normalized, rows),
            inverse_deviation: self.gather_rows(&saved.inverse_deviation, rows),
        }
    }
}
