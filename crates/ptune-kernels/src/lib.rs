//! The compute kernels of ptune: slices in, slices out, and the only `unsafe` code of the project.
//!
//! Every kernel takes its output first, then its inputs, then sizes, and a [`Context`] (instruction set, threads,
//! scratch). Kernels assert shapes at the top; they never allocate, log or return an error. A kernel's backward stands
//! directly below its forward and overwrites its output; where gradients meet, a function named `_add` adds.
//! Work is cut by shapes only and every output element is one chain of sums in index order, so a result has the same
//! bits for any number of threads and does not depend on the other rows.
//!
//! All matrices are row-major and packed: a batch is one matrix `[rows, columns]` without padding.

mod activation;
mod aligned;
mod attention;
mod context;
mod dropout;
mod embedding;
mod gated;
mod isa;
mod linear;
mod loss;
mod lstm;
mod math;
mod matmul;
mod norm;
mod optimizer;
mod peak;
mod philox;
mod pool;
mod rotary;
mod rows;
mod simd;
#[cfg(test)]
mod testing;
mod transpose;

pub use activation::{Activation, activation, activation_backward};
pub use aligned::Aligned;
pub use attention::{
    AttentionShape, Dropout, KeysValues, Layout, Span, SpanKey, attention, attention_backward,
    attention_backward_work_len, attention_scratch_len,
};
pub use context::Context;
pub use dropout::dropout_rows;
pub use embedding::{
    add, add_rows_at, column_sums, embed, embed_backward_prompt, embed_backward_words_add, gather_rows, scatter_rows,
    scatter_rows_add,
};
pub use gated::{gated, gated_backward};
pub use isa::Isa;
pub use linear::{linear, linear_backward_input, linear_backward_input_add, linear_backward_weight};
pub use loss::{
    log_probabilities, log_probabilities_backward, softmax, softmax_cross_entropy, softmax_cross_entropy_backward,
};
pub use lstm::{LstmCell, LstmCellGradient, LstmShape, lstm, lstm_backward, lstm_saved_len, lstm_scratch_len};
pub use matmul::{
    Weight, matmul, matmul_add, matmul_backward_input, matmul_backward_input_add, matmul_backward_weight,
    matmul_backward_weight_scratch_len,
};
pub use norm::{NormKind, NormOutput, norm, norm_backward_input, norm_backward_weight, norm_scratch_len};
pub use optimizer::{AdamStep, Decay, adam, squared_norm};
pub use peak::{bf16_multiply_add_peak, multiply_add_peak};
pub use philox::{philox, unit_f32};
pub use rotary::{RotaryTable, rotary, rotary_backward, rotary_scratch_len};
pub use rows::{Dtype, Rows, RowsMut, round_rows, widen_rows};
