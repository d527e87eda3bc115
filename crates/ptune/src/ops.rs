//! The closed list of operations on tensors, each backward below its forward.
//!
//! Models and encoders call these and never touch a slice. An operation takes what it reads and returns what it
//! writes; `*_backward` turns the gradient of the output into that of the input (`d_x` is the gradient of `x`).
//! A model's layers have the gradients of their weights apart (`ops/weights.rs`), because a frozen one has none; the
//! prompt encoder's (`dense`, `lstm`) write those of their parameters too.

mod dropout;
mod weights;

use ptune_kernels::{self as kernels, AttentionShape, KeysValues};

pub use dropout::Dropout;
pub use ptune_kernels::{Activation, Span};

use crate::profile::{Doing, Operation};
use crate::tensor::{Device, Precision, Tensor};

/// A linear layer `y = x W^T + b`, packed for this device's products.
pub struct Linear {
    weight: kernels::Weight,
    bias: Option<Tensor>,
}

/// A layer norm `y = (x - mean) / sqrt(variance + eps) * gamma + beta`.
pub struct LayerNorm {
    pub(crate) gamma: Tensor,
    pub(crate) beta: Tensor,
    pub(crate) eps: f32,
}

/// What the backward of a layer norm needs: normalised rows `[rows, columns]` and inverse deviations `[rows]`.
pub struct NormSaved {
    normalized: Tensor,
    inverse_deviation: Tensor,
}

/// The tables of an embedding layer, `[entries, width]` each.
pub(crate) struct EmbeddingTables<'a> {
    pub(crate) words: &'a Tensor,
    pub(crate) positions: &'a Tensor,
    /// The entry of `positions` for position 0.
    pub(crate) first_position: usize,
    /// Row 0 is added to every row.
    pub(crate) token_types: Option<&'a Tensor>,
}

/// The rows of a batch: what stands in each, where it stands, and which rows see which. Made once a batch.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Token id of each row (anything at pseudo-token rows).
    pub ids: Vec<u32>,
    /// Position of each row, counted from 0 in its example.
    pub positions: Vec<u32>,
    /// `(row, prompt row)` of each pseudo token, in row order.
    pub pseudo: Vec<(u32, u32)>,
    /// The spans of rows that see each other.
    pub spans: Vec<Span>,
    /// The answer rows, ascending: the only rows that the head needs.
    pub targets: Vec<u32>,
    /// What the model drops in this batch; `None` outside of training.
    pub dropout: Option<Dropout>,
}

impl Layout {
    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.ids.len()
    }
}

/// Queries, keys and values of one attention, and what its backward needs beside them.
pub struct AttentionSaved {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_sum_exp: Tensor,
}

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

/// What the backward of an LSTM needs.
pub struct LstmSaved(Tensor);

impl Device {
    // ---- a model's layers -----------------------------------------------------------------------------------------

    /// Packs a weight `[outputs, inputs]` in the device's precision; with `gradient`, also for the backward.
    pub(crate) fn pack_linear(
        &self,
        weight: &[f32],
        bias: Option<&[f32]>,
        outputs: usize,
        inputs: usize,
        gradient: bool,
    ) -> Linear {
        let pack = match self.precision {
            Precision::F32 => kernels::Weight::pack,
            Precision::Bf16 => kernels::Weight::pack_bf16,
        };
        let weight = pack(&self.doing(Operation::Packing), weight, outputs, inputs, gradient);
        Linear { weight, bias: bias.map(|b| self.upload(1, outputs, b)) }
    }

    /// Packs only the given rows of a weight `[outputs, inputs]`: the label columns of a head.
    pub(crate) fn pack_linear_rows(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        rows: &[u32],
        gradient: bool,
    ) -> Linear {
        let pack = match self.precision {
            Precision::F32 => kernels::Weight::pack_rows,
            Precision::Bf16 => kernels::Weight::pack_rows_bf16,
        };
        let weight = pack(&self.doing(Operation::Packing), weight.data(), weight.columns(), rows, gradient);
        let bias = bias.map(|b| {
            let chosen: Vec<f32> = rows.iter().map(|&r| b.data()[r as usize]).collect();
            self.upload(1, rows.len(), &chosen)
        });
        Linear { weight, bias }
    }

    /// A product of `rows` rows with a layer's weight.
    fn product(&self, operation: Operation, rows: usize, layer: &Linear) -> Doing<'_> {
        self.reserve_shared(layer.weight.rounded_rows_len(rows));
        self.doing_sums(operation, rows * layer.weight.inputs() * layer.weight.outputs())
    }

    /// `y [rows, outputs] = x [rows, inputs] W^T + b`.
    pub(crate) fn linear(&self, x: &Tensor, layer: &Linear) -> Tensor {
        let mut y = self.uninitialised(x.rows(), layer.weight.outputs());
        kernels::matmul(
            &self.product(Operation::Products, x.rows(), layer),
            y.data_mut(),
            x.data(),
            &layer.weight,
            layer.bias.as_ref().map(Tensor::data),
        );
        y
    }

    /// `d_x = d_y W`.
    pub(crate) fn linear_backward(&self, d_y: &Tensor, layer: &Linear) -> Tensor {
        let mut d_x = self.uninitialised(d_y.rows(), layer.weight.inputs());
        kernels::matmul_backward_input(
            &self.product(Operation::ProductsBackward, d_y.rows(), layer),
            d_x.data_mut(),
            d_y.data(),
            &layer.weight,
        );
        d_x
    }

    /// `d_x += d_y W`.
    pub(crate) fn linear_backward_add(&self, d_x: &mut Tensor, d_y: &Tensor, layer: &Linear) {
        kernels::matmul_backward_input_add(
            &self.product(Operation::ProductsBackward, d_y.rows(), layer),
            d_x.data_mut(),
            d_y.data(),
            &layer.weight,
        );
    }

    /// The layer norm of `x + residual`, row by row.
    pub(crate) fn layer_norm(&self, x: &Tensor, residual: Option<&Tensor>, norm: &LayerNorm) -> (Tensor, NormSaved) {
        let (rows, columns) = (x.rows(), x.columns());
        let mut y = self.uninitialised(rows, columns);
        let mut normalized = self.uninitialised(rows, columns);
        let mut inverse_deviation = self.uninitialised(rows, 1);
        kernels::layer_norm(
            &self.doing(Operation::Norms),
            y.data_mut(),
            normalized.data_mut(),
            inverse_deviation.data_mut(),
            x.data(),
            residual.map(Tensor::data),
            norm.gamma.data(),
            norm.beta.data(),
            norm.eps,
            columns,
        );
        (y, NormSaved { normalized, inverse_deviation })
    }

    /// The gradient of `x` (and of the residual: they are the same).
    pub(crate) fn layer_norm_backward(&self, d_y: &Tensor, saved: &NormSaved, norm: &LayerNorm) -> Tensor {
        let mut d_x = self.uninitialised(d_y.rows(), d_y.columns());
        kernels::layer_norm_backward_input(
            &self.doing(Operation::Norms),
            d_x.data_mut(),
            d_y.data(),
            saved.normalized.data(),
            saved.inverse_deviation.data(),
            norm.gamma.data(),
            d_y.columns(),
        );
        d_x
    }

    /// Only these rows of what a layer norm saved.
    pub(crate) fn gather_saved(&self, saved: &NormSaved, rows: &[u32]) -> NormSaved {
        NormSaved {
            normalized: self.gather_rows(&saved.normalized, rows),
            inverse_deviation: self.gather_rows(&saved.inverse_deviation, rows),
        }
    }

    /// An activation, element by element.
    pub(crate) fn activation(&self, x: &Tensor, kind: Activation) -> Tensor {
        let mut y = self.uninitialised(x.rows(), x.columns());
        kernels::activation(&self.doing(Operation::Activations), y.data_mut(), x.data(), kind);
        y
    }

    /// `d_x = d_y f'(x)`.
    pub(crate) fn activation_backward(&self, d_y: &Tensor, x: &Tensor, kind: Activation) -> Tensor {
        let mut d_x = self.uninitialised(x.rows(), x.columns());
        kernels::activation_backward(&self.doing(Operation::Activations), d_x.data_mut(), d_y.data(), x.data(), kind);
        d_x
    }

    /// Word (or, at pseudo tokens, prompt) + position + token-type embedding of every row.
    pub(crate) fn embed(&self, layout: &Layout, tables: &EmbeddingTables<'_>, prompt: Option<&Tensor>) -> Tensor {
        let width = tables.words.columns();
        let mut y = self.uninitialised(layout.rows(), width);
        kernels::embed(
            &self.doing(Operation::Embedding),
            y.data_mut(),
            &layout.ids,
            tables.words.data(),
            &layout.positions,
            &tables.positions.data()[tables.first_position * width..],
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

    /// Attention of the queries `[queries, heads * head_dim]`, which stand in the rows `query_rows`. `layer` is dropout's
    /// name of it.
    pub(crate) fn attention(
        &self,
        (q, k, v): (Tensor, Tensor, Tensor),
        layout: &Layout,
        query_rows: &[u32],
        shape: &AttentionShape,
        layer: u32,
    ) -> (Tensor, AttentionSaved) {
        let rows = kernels::Layout { spans: &layout.spans, positions: &layout.positions, query_rows };
        let mut out = self.uninitialised(q.rows(), q.columns());
        let mut log_sum_exp = self.uninitialised(q.rows(), shape.heads);
        let keys_values = KeysValues { k: k.data(), v: v.data(), past_k: &[], past_v: &[] };
        self.reserve(kernels::attention_scratch_len(&rows, shape));
        kernels::attention(
            &self.doing(Operation::Attention),
            out.data_mut(),
            log_sum_exp.data_mut(),
            q.data(),
            keys_values,
            rows,
            *shape,
            layout.dropout_at(layer),
        );
        (out, AttentionSaved { q, k, v, log_sum_exp })
    }

    /// The gradients of queries, keys and values.
    pub(crate) fn attention_backward(
        &self,
        d_out: &Tensor,
        saved: &AttentionSaved,
        layout: &Layout,
        query_rows: &[u32],
        shape: &AttentionShape,
        layer: u32,
    ) -> (Tensor, Tensor, Tensor) {
        let rows = kernels::Layout { spans: &layout.spans, positions: &layout.positions, query_rows };
        let mut d_q = self.uninitialised(saved.q.rows(), saved.q.columns());
        let mut d_k = self.uninitialised(saved.k.rows(), saved.k.columns());
        let mut d_v = self.uninitialised(saved.v.rows(), saved.v.columns());
        let mut delta = self.uninitialised(saved.q.rows(), shape.heads);
        let keys_values = KeysValues { k: saved.k.data(), v: saved.v.data(), past_k: &[], past_v: &[] };
        self.reserve(kernels::attention_scratch_len(&rows, shape));
        kernels::attention_backward(
            &self.doing(Operation::AttentionBackward),
            d_q.data_mut(),
            d_k.data_mut(),
            d_v.data_mut(),
            None,
            delta.data_mut(),
            d_out.data(),
            saved.q.data(),
            keys_values,
            saved.log_sum_exp.data(),
            rows,
            *shape,
            layout.dropout_at(layer),
        );
        (d_q, d_k, d_v)
    }

    // ---- rows ----------------------------------------------------------------------------------------------------

    /// These rows of `x`.
    pub(crate) fn gather_rows(&self, x: &Tensor, rows: &[u32]) -> Tensor {
        let mut y = self.uninitialised(rows.len(), x.columns());
        kernels::gather_rows(&self.doing(Operation::Rows), y.data_mut(), x.data(), rows, x.columns());
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

    // ---- loss ----------------------------------------------------------------------------------------------------

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

    // ---- trainable layers (the prompt encoder's) -----------------------------------------------------------------

    /// `y [rows, outputs] = x W^T + b` with a trainable weight `[outputs, inputs]`.
    pub(crate) fn dense(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        let (outputs, inputs) = (weight.rows(), weight.columns());
        let mut y = self.uninitialised(x.rows(), outputs);
        kernels::linear(
            &self.doing(Operation::PromptEncoder),
            y.data_mut(),
            x.data(),
            weight.data(),
            Some(bias.data()),
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
        d_bias: &mut Tensor,
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
            Some(d_bias.data_mut()),
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
