//! The closed list of operations on tensors, each backward below its forward.
//!
//! | file | operations on |
//! |---|---|
//! | `layers.rs` | linear layers, activations and gates of a model |
//! | `norm.rs`, `rotary.rs` | its norms; queries and keys turned by their positions |
//! | `embedding.rs` | the embedding layer, and rows: gather, scatter, add |
//! | `attention.rs` | attention |
//! | `dropout.rs` | what a model drops while it trains |
//! | `parts.rs` | several batches as one |
//! | `weights.rs` | the weights of a trained model |
//! | `low_rank.rs` | low-rank additions to linear layers |
//! | `loss.rs` | logits |
//! | `encoder.rs` | the prompt encoder's layers, and the optimiser |
//!
//! Models and encoders call these and never touch a slice. An operation takes what it reads and returns what it
//! writes; `*_backward` turns the gradient of the output into that of the input (`d_x` is the gradient of `x`).
//! A model's layers have the gradients of their weights apart (`weights.rs`), because a frozen one has none; the
//! prompt encoder's (`dense`, `lstm`) write those of their parameters too.

mod attention;
mod dropout;
mod embedding;
mod encoder;
mod layers;
mod loss;
mod low_rank;
mod norm;
mod parts;
mod pooling;
mod rotary;
mod weights;

pub(crate) use attention::AttentionGradients;
pub use attention::{AttentionSaved, KeysValues};
pub use dropout::Dropout;
pub(crate) use embedding::EmbeddingTables;
pub use encoder::LstmSaved;
pub(crate) use layers::Hidden;
pub use layers::Linear;
pub(crate) use loss::LogProbabilitiesSaved;
pub use loss::LossSaved;
pub(crate) use low_rank::LowRank;
pub use norm::{Norm, NormSaved};
pub(crate) use parts::Part;
pub use ptune_kernels::{Activation, NormKind, Span};
pub use rotary::Rotary;

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
    /// The same behind the first `rows` rows of the past, which every row of it sees: positions go on from there, as in
    /// transformers, whatever the family.
    pub fn behind(mut self, rows: usize) -> Layout {
        for span in &mut self.spans {
            assert!(span.past.is_empty(), "these rows stand behind others already");
            span.past = 0..rows;
        }
        self.positions.iter_mut().for_each(|position| *position += rows as u32);
        self
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.ids.len()
    }
}
