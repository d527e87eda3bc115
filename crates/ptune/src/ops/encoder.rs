//! The layers of prompt encoders and classifiers, whose backward writes the gradients of their parameters too, and the optimiser.

use ptune_kernels as kernels;

use crate::profile::Operation;
use crate::tensor::{Device, Tensor};

/// What the backward of an LSTM needs.
pub struct LstmSaved(Tensor);

impl Device {
    /// `y [rows, outputs] = x W^T + b` with a trainable weight `[outputs, inputs]`, and perhaps a bias.
    pub(crate) fn dense(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let (outputs, inputs) = (weight.rows(), weight.columns());
        let mut y = self.uninitialised(x.rows(), outputs);
        kernels::linear(
            &self.doing(Operation::PromptEncoder),
            y.data_mut(),
            x.data(),
            weight.data(),
            bias.map(Tensor::data),
            outputs,
            inputs,
        );
        y
    }

    /// `d_x = d_y W`, and the parameters' gradients, overwritten.
    pub(crate) fn dense_backward(
        &self,
        d_y: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        d_weight: &mut Tensor,
        d_bias: Option<&mut Tensor>,
    ) -> Tensor {
        let (outputs, inputs) = (weight.rows(), weight.columns());
        let mut d_x = self.uninitialised(d_y.rows(), inputs);
        kernels::linear_backward_input(
            &self.doing(Operation::PromptEncoder),
            d_x.data_mut(),
            d_y.data(),
            weight.data(),
            outputs,
            inputs,
        );
        kernels::linear_backward_weight(
            &self.doing(Operation::PromptEncoder),
            d_weight.data_mut(),
            d_bias.map(Tensor::data_mut),
            d_y.data(),
            x.data(),
            outputs,
            inputs,
        );
        d_x
    }

    /// A bidirectional LSTM over the rows of `x [steps, input]`: `y [steps, 2 * hidden]`.
    pub(crate) fn lstm(
        &self,
        x: &Tensor,
        cells: &[kernels::LstmCell<'_>],
        shape: &kernels::LstmShape,
    ) -> (Tensor, LstmSaved) {
        let mut y = self.uninitialised(x.rows(), 2 * shape.hidden);
        let mut saved = self.uninitialised(1, kernels::lstm_saved_len(shape));
        self.reserve(kernels::lstm_scratch_len(shape));
        kernels::lstm(&self.doing(Operation::PromptEncoder), y.data_mut(), saved.data_mut(), x.data(), cells, shape);
        (y, LstmSaved(saved))
    }

    /// The gradient of `x`, and the cells' gradients, overwritten.
    pub(crate) fn lstm_backward(
        &self,
        d_y: &Tensor,
        x: &Tensor,
        saved: &mut LstmSaved,
        cells: &[kernels::LstmCell<'_>],
        d_cells: &mut [kernels::LstmCellGradient<'_>],
        shape: &kernels::LstmShape,
    ) -> Tensor {
        let mut d_x = self.uninitialised(x.rows(), x.columns());
        self.reserve(kernels::lstm_scratch_len(shape));
        kernels::lstm_backward(
            &self.doing(Operation::PromptEncoder),
            d_x.data_mut(),
            d_cells,
            d_y.data(),
            x.data(),
            saved.0.data_mut(),
            cells,
            shape,
        );
        d_x
    }

    /// One step of the Adam family on one parameter.
    pub(crate) fn adam(
        &self,
        value: &mut Tensor,
        gradient: &Tensor,
        moments: &mut [Tensor; 2],
        step: &kernels::AdamStep,
    ) {
        let [m, v] = moments;
        kernels::adam(
            &self.doing(Operation::Optimizer),
            value.data_mut(),
            gradient.data(),
            m.data_mut(),
            v.data_mut(),
            step,
        );
    }

    /// The sum of squares of a tensor.
    pub(crate) fn squared_norm(&self, x: &Tensor) -> f64 {
        kernels::squared_norm(&self.doing(Operation::Optimizer), x.data())
    }
}
