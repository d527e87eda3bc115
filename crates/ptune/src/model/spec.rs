//! A language model described by values: what a family file (`bert.rs`) makes from `config.json` and the tensor names,
//! and all that the rest of `model/` knows. No code here or there asks which family it is.
//!
//! A new family is a new function that returns a [`ModelSpec`]; where it needs a value that does not exist yet (another
//! join, another norm), the enum gets one more variant and the compiler lists the places.

use ptune_kernels::Activation;

/// A whole model.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// The family, for messages: `bert`.
    pub family: &'static str,
    /// Whether a row sees only what stands before it: the answer is then predicted from the row before it.
    pub causal: bool,
    /// Width of the rows between blocks.
    pub hidden: usize,
    /// Entries of the word table.
    pub vocabulary: usize,
    /// Entries of the position table: no row of an example may stand beyond.
    pub positions: usize,
    /// The embedding layer.
    pub embeddings: EmbeddingSpec,
    /// The blocks, in order.
    pub blocks: Vec<BlockSpec>,
    /// The language-model head.
    pub head: HeadSpec,
}

/// Word + position + token-type embedding, then a norm. Names are those of the tensors.
#[derive(Clone, Debug)]
pub struct EmbeddingSpec {
    /// `[vocabulary, hidden]`
    pub words: String,
    /// `[positions, hidden]`
    pub position_table: String,
    /// `[token types, hidden]` and how many there are; row 0 is added to every row.
    pub token_types: Option<(String, usize)>,
    /// The norm after the sum.
    pub norm: NormSpec,
}

/// A transformer block: attention and MLP, each with its residual and norm, joined in one of a few ways.
#[derive(Clone, Debug)]
pub struct BlockSpec {
    /// Where norms and residuals stand.
    pub join: Join,
    /// The attention.
    pub attention: AttentionSpec,
    /// Its norm.
    pub attention_norm: NormSpec,
    /// The feed-forward part.
    pub mlp: MlpSpec,
    /// Its norm.
    pub mlp_norm: NormSpec,
}

/// Where norms and residuals stand in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// `h = norm(x + attention(x)); y = norm(h + mlp(h))` (BERT).
    Post,
}

/// Multi-head attention.
#[derive(Clone, Debug)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; fewer than `heads` when they are shared by groups.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether a row sees only itself and what stands before it.
    pub causal: bool,
    /// Projections `hidden -> heads * head_dim` (keys and values: `kv_heads * head_dim`).
    pub query: LinearSpec,
    /// See `query`.
    pub key: LinearSpec,
    /// See `query`.
    pub value: LinearSpec,
    /// Projection `heads * head_dim -> hidden`.
    pub output: LinearSpec,
}

/// `down(activation(up(x)))`.
#[derive(Clone, Debug)]
pub struct MlpSpec {
    /// `hidden -> inner`
    pub up: LinearSpec,
    /// The activation.
    pub activation: Activation,
    /// `inner -> hidden`
    pub down: LinearSpec,
}

/// A linear layer: tensors `<name>.weight [outputs, inputs]` and `<name>.bias [outputs]`.
#[derive(Clone, Debug)]
pub struct LinearSpec {
    /// The tensors' common name.
    pub name: String,
    /// Rows of the weight.
    pub outputs: usize,
    /// Columns of the weight.
    pub inputs: usize,
}

/// A layer norm: tensors `<name>.weight` and `<name>.bias` (old checkpoints: `.gamma`, `.beta`).
#[derive(Clone, Debug)]
pub struct NormSpec {
    /// The tensors' common name.
    pub name: String,
    /// Added to the variance.
    pub eps: f32,
}

/// The language-model head: `decoder(norm(activation(dense(h))))`, the decoder usually tied to the word table.
#[derive(Clone, Debug)]
pub struct HeadSpec {
    /// `hidden -> hidden`
    pub dense: LinearSpec,
    /// The activation.
    pub activation: Activation,
    /// The norm.
    pub norm: NormSpec,
    /// The decoder `[vocabulary, hidden]`; `None` when it is the word table.
    pub decoder: Option<String>,
    /// The decoder's bias `[vocabulary]`.
    pub decoder_bias: String,
}
