//! From logits to losses and log-probabilities.

use ptune_kernels as kernels;

use crate::profile::Operation;
use crate::tensor::{Device, Tensor};

/// Row losses and what the backward of a cross-entropy needs.
pub struct LossSaved {
    log_sum_exp: Tensor,
    targets: Vec<u32>,
}

/// What the backward of log-probabilities needs.
pub(crate) struct LogProbabilitiesSaved {
    log_sum_exp: Tensor,
    /// `(row, column)` of each value.
    places: Vec<(u32, u32)>,
}

impl Device {
    /// Softmax cross-entropy of each row `[rows]` against its target column.
    pub(crate) fn cross_entropy(&self, logits: &Tensor, targets: &[u32]) -> (Tensor, LossSaved) {
        let mut losses = self.uninitialised(logits.rows(), 1);
        let mut log_sum_exp = self.uninitialised(logits.rows(), 1);
        kernels::softmax_cross_entropy(
            &self.doing(Operation::Loss),
            losses.data_mut(),
            log_sum_exp.data_mut(),
            logits.data(),
            targets,
            logits.columns(),
        );
        (losses, LossSaved { log_sum_exp, targets: targets.to_vec() })
    }

    /// `d_logits = (softmax(logits) - onehot(target)) * scale`.
    pub(crate) fn cross_entropy_backward(&self, logits: &Tensor, saved: &LossSaved, scale: f32) -> Tensor {
        let mut d_logits = self.uninitialised(logits.rows(), logits.columns());
        kernels::softmax_cross_entropy_backward(
            &self.doing(Operation::Loss),
            d_logits.data_mut(),
            logits.data(),
            saved.log_sum_exp.data(),
            &saved.targets,
            scale,
            logits.columns(),
        );
        d_logits
    }

    /// Log-probabilities at chosen places, `values[i] = log_softmax(logits[row_i])[column_i]`, as a matrix of `columns`
    /// columns. A place may be chosen more than once.
    pub(crate) fn log_probabilities(
        &self,
        logits: &Tensor,
        places: Vec<(u32, u32)>,
        columns: usize,
    ) -> (Tensor, LogProbabilitiesSaved) {
        let mut values = self.uninitialised(places.len() / columns, columns);
        let mut log_sum_exp = self.uninitialised(logits.rows(), 1);
        kernels::log_probabilities(
            &self.doing(Operation::Loss),
            values.data_mut(),
            log_sum_exp.data_mut(),
            logits.data(),
            &places,
            logits.columns(),
        );
        (values, LogProbabilitiesSaved { log_sum_exp, places })
    }

    /// The gradient of the logits from that of the values.
    pub(crate) fn log_probabilities_backward(
        &self,
        d_values: &Tensor,
        logits: &Tensor,
        saved: &LogProbabilitiesSaved,
    ) -> Tensor {
        // The kernel goes through rows and wants the places of each together.
        let mut chosen: Vec<(u32, u32, f32)> = Vec::with_capacity(saved.places.len());
        chosen.extend(saved.places.iter().zip(d_values.data()).map(|(&(row, column), &d)| (row, column, d)));
        chosen.sort_by_key(|&(row, column, _)| (row, column));
        let mut d_logits = self.uninitialised(logits.rows(), logits.columns());
        kernels::log_probabilities_backward(
            &self.doing(Operation::Loss),
            d_logits.data_mut(),
            logits.data(),
            saved.log_sum_exp.data(),
            &chosen,
            logits.columns(),
        );
        d_logits
    }
}
