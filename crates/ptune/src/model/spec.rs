//! A language model described by values: what a family file (`bert.rs`) makes from `config.json` and the tensor names,
//! and all that the rest of `model/` knows. No code here or there asks which family it is.
//!
//! A new family is a new function that returns a [`ModelSpec`]; where it needs a value that does not exist yet (another
//! join, another norm), the enum gets one more variant and the compiler lists the places.

use ptune_kernels::{Activation, NormKind};

/// A whole model.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// The family, as `model_type` has it: `bert`.
    pub family: &'static str,
    /// What transformers' classes with a head have before the names of the model's own modules, as checkpoints mostly do:
    /// `bert`.
    pub base_model_prefix: &'static str,
    /// Whether a row sees only what stands before it: the answer is then predicted from the row before it.
    pub causal: bool,
    /// Whether a text stands between the tokenizer's class token and its separator, as `[CLS]` and `[SEP]`.
    pub enclosed: bool,
    /// Whether a text begins with what its tokenizer puts in front of it, as `<s>`; of what is not enclosed.
    pub begins: bool,
    /// Width of the rows between blocks.
    pub hidden: usize,
    /// Entries of the word table.
    pub vocabulary: usize,
    /// Positions that rows can have: no row of an example may stand beyond.
    pub positions: usize,
    /// The embedding layer.
    pub embeddings: EmbeddingSpec,
    /// The blocks' weights.
    pub blocks: Vec<BlockSpec>,
    /// The layers, from the input up: each the index of its weights among `blocks`. Several may have the same.
    pub layers: Vec<usize>,
    /// The norm behind the last block, where norms stand in front of attention and MLP.
    pub final_norm: Option<NormSpec>,
    /// The language-model head.
    pub head: HeadSpec,
    /// What a classifier trained on this model looks like.
    pub classifier: ClassifierSpec,
}

/// A classifier as the family's `ForSequenceClassification` has it: `out(norm(activation(dense(h))))`, or without norm, or
/// `out(h)`, on some of a text's rows. Names are those of the class.
#[derive(Clone, Debug)]
pub struct ClassifierSpec {
    /// Which rows of a text it reads.
    pub pooling: Pooling,
    /// What stands in front of the last layer, if anything.
    pub dense: Option<ClassifierDense>,
    /// Whether the last layer has a bias.
    pub bias: bool,
    /// The last layer's name.
    pub out: &'static str,
    /// Whether the class takes keys and values of rows before the text.
    pub takes_past: bool,
}

/// The rows of a text that a classifier reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The first one.
    First,
    /// The last one, which in a causal model is the only one that sees all.
    Last,
    /// The mean of all of them.
    Mean,
}

/// The layer `hidden -> hidden` in front of a classifier's last one.
#[derive(Clone, Debug)]
pub struct ClassifierDense {
    /// Behind it.
    pub activation: Activation,
    /// Its name.
    pub name: &'static str,
    /// Whether it is a part of what checkpoints may have (a pooler, the layers of the language-model head): then it starts from
    /// that.
    pub pooler: bool,
    /// Whether it has a bias.
    pub bias: bool,
    /// Behind the activation; starts from the checkpoint's where that has it.
    pub norm: Option<NormSpec>,
}

impl ClassifierSpec {
    /// On the first token, the model's pooler and an activation before the last layer.
    pub fn pooled(activation: Activation, pooler: &'static str) -> Self {
        let dense = ClassifierDense { activation, name: pooler, pooler: true, bias: true, norm: None };
        let (pooling, out) = (Pooling::First, "classifier");
        ClassifierSpec { pooling, dense: Some(dense), bias: true, out, takes_past: true }
    }

    /// On the first token, a layer of its own and an activation before the last layer.
    pub fn first_token(activation: Activation, dense: &'static str, out: &'static str) -> Self {
        let dense = ClassifierDense { activation, name: dense, pooler: false, bias: true, norm: None };
        ClassifierSpec { pooling: Pooling::First, dense: Some(dense), bias: true, out, takes_past: true }
    }

    /// On the last token, one layer without a bias.
    pub fn last_token() -> Self {
        ClassifierSpec { pooling: Pooling::Last, dense: None, bias: false, out: "score", takes_past: true }
    }

    /// The same of a class that takes no keys and values.
    pub fn without_past(self) -> Self {
        ClassifierSpec { takes_past: false, ..self }
    }
}

/// Word + position + token-type embedding, then perhaps a norm and a projection. Names are those of the tensors.
#[derive(Clone, Debug)]
pub struct EmbeddingSpec {
    /// Width of the tables, and so of the vectors that may replace a word's.
    pub width: usize,
    /// `[vocabulary, width]`
    pub words: String,
    /// `[first_position + positions, width]`; `None` where only the attention knows positions.
    pub position_table: Option<String>,
    /// The entry of the position table for the first row of an example; those before it are never read.
    pub first_position: usize,
    /// `[token types, width]` and how many there are; row 0 is added to every row.
    pub token_types: Option<(String, usize)>,
    /// The norm after the sum.
    pub norm: Option<NormSpec>,
    /// `width -> hidden`, behind the norm; `None` where they are equal.
    pub projection: Option<LinearSpec>,
}

impl EmbeddingSpec {
    /// Nothing but a word table of this width.
    pub fn words(words: String, width: usize) -> Self {
        let (token_types, norm, projection) = (None, None, None);
        EmbeddingSpec { width, words, position_table: None, first_position: 0, token_types, norm, projection }
    }
}

/// A transformer block: attention and MLP, each with its residual and norm, joined in one of a few ways.
#[derive(Clone, Debug)]
pub struct BlockSpec {
    /// Where norms and residuals stand.
    pub join: Join,
    /// The attention.
    pub attention: AttentionSpec,
    /// Its norm, if it has one.
    pub attention_norm: Option<NormSpec>,
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
    /// `h = x + attention(norm(x)); y = h + mlp(norm(h))` (GPT-2).
    Pre,
    /// `y = x + attention(norm(x)) + mlp(norm(x))`, each with a norm of its own (GPT-NeoX).
    Parallel,
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
    /// Factor of the scores `q k^T`.
    pub scale: f32,
    /// Whether a row sees only itself and what stands before it.
    pub causal: bool,
    /// Positions that a row sees: causal its own and those less than `window` before it, else those up to `window / 2` away
    /// to either side.
    pub window: Option<u32>,
    /// How queries and keys are turned by their positions.
    pub rotary: Option<RotarySpec>,
    /// Norms over each head of the queries and of the keys, before they are turned.
    pub head_norms: Option<[NormSpec; 2]>,
    /// Projections `hidden -> heads * head_dim` (keys and values: `kv_heads * head_dim`).
    pub query: LinearSpec,
    /// See `query`.
    pub key: LinearSpec,
    /// See `query`.
    pub value: LinearSpec,
    /// Projection `heads * head_dim -> hidden`.
    pub output: LinearSpec,
}

/// Rotary positions: the numbers i and `i + n` of a head, of the first `2 n`, are turned by `position * frequencies[i]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RotarySpec {
    /// The n angles of a step.
    pub frequencies: Vec<f32>,
    /// A factor on what was turned.
    pub factor: f32,
}

/// `down(activation(up(x)))`, or `down(activation(gate(x)) up(x))`.
#[derive(Clone, Debug)]
pub struct MlpSpec {
    /// `hidden -> inner`
    pub gate: Option<LinearSpec>,
    /// `hidden -> inner`
    pub up: LinearSpec,
    /// The activation.
    pub activation: Activation,
    /// `inner -> hidden`
    pub down: LinearSpec,
}

/// A linear layer `y = x W^T + b`, W `[outputs, inputs]`: tensors `<name>.weight` and, with a bias, `<name>.bias`, stored
/// as [`Stored`] says. Whoever writes weights back undoes it.
#[derive(Clone, Debug)]
pub struct LinearSpec {
    /// The tensors' common name.
    pub name: String,
    /// Rows of the weight.
    pub outputs: usize,
    /// Columns of the weight.
    pub inputs: usize,
    /// Whether it has a bias.
    pub bias: bool,
    /// How the file holds it.
    pub stored: Stored,
}

/// How a file holds the weight and the bias of a linear layer: alone and as they are, or transposed, or as a part of
/// larger tensors, in which several layers stand one behind the other or take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The file's weight is `[inputs, outputs]` (the Conv1D of GPT-2) instead of `[outputs, inputs]`.
    pub transposed: bool,
    /// Outputs of the file's tensors: the layer's own, or those of all layers that share them.
    pub outputs: usize,
    /// The layer's first output among them.
    pub first: usize,
    /// So many of the layer's outputs follow one another (all of them, or those of a head) ...
    pub run: usize,
    /// ... and the next ones begin so many behind the beginning of these.
    pub step: usize,
}

impl Stored {
    /// Outputs of one layer, alone in their tensors.
    pub fn alone(outputs: usize) -> Self {
        Self::part(outputs, 0, outputs)
    }

    /// `outputs` outputs that follow one another, from `first` on among the `all` of the tensors.
    pub fn part(outputs: usize, first: usize, all: usize) -> Self {
        Stored { transposed: false, outputs: all, first, run: outputs, step: outputs }
    }

    /// Where the layer's output `o` stands in the tensors.
    pub fn place(&self, o: usize) -> usize {
        self.first + o / self.run * self.step + o % self.run
    }
}

impl LinearSpec {
    /// A layer with tensors of its own, `[outputs, inputs]` and `[outputs]`.
    pub fn plain(name: String, outputs: usize, inputs: usize) -> Self {
        LinearSpec { name, outputs, inputs, bias: true, stored: Stored::alone(outputs) }
    }

    /// The same with or without a bias.
    pub fn with_bias(self, bias: bool) -> Self {
        LinearSpec { bias, ..self }
    }

    /// Where the file's weight, row by row, has the number of an output and an input of this layer.
    pub fn place(&self, output: usize, input: usize) -> usize {
        let place = self.stored.place(output);
        if self.stored.transposed { input * self.stored.outputs + place } else { place * self.inputs + input }
    }

    /// The shape of the weight in the file.
    pub fn stored_shape(&self) -> [usize; 2] {
        let Stored { transposed, outputs, .. } = self.stored;
        if transposed { [self.inputs, outputs] } else { [outputs, self.inputs] }
    }
}

/// A norm: tensors `<name>.weight` and, with a bias, `<name>.bias` (old checkpoints: `.gamma`, `.beta`).
#[derive(Clone, Debug)]
pub struct NormSpec {
    /// The tensors' common name.
    pub name: String,
    /// Layer norm or RMS norm.
    pub kind: NormKind,
    /// Whether it has a bias.
    pub bias: bool,
    /// Added to the variance.
    pub eps: f32,
}

impl NormSpec {
    /// A layer norm with a bias.
    pub fn layer(name: String, eps: f32) -> Self {
        NormSpec { name, kind: NormKind::Layer, bias: true, eps }
    }

    /// An RMS norm.
    pub fn rms(name: String, eps: f32) -> Self {
        NormSpec { name, kind: NormKind::Rms, bias: false, eps }
    }
}

/// The language-model head: `decoder(transform(h)) + bias`, the decoder usually tied to the word table.
#[derive(Clone, Debug)]
pub struct HeadSpec {
    /// What stands in front of the decoder, if anything.
    pub transform: Option<TransformSpec>,
    /// The decoder `[vocabulary, inputs]`, which reads what stands in front of it; `None` when it is the word table.
    pub decoder: Option<String>,
    /// The decoder's bias `[vocabulary]`, if it has one.
    pub decoder_bias: Option<String>,
}

/// `norm(activation(dense(h)))`.
#[derive(Clone, Debug)]
pub struct TransformSpec {
    /// `hidden ->` the decoder's inputs
    pub dense: LinearSpec,
    /// The activation.
    pub activation: Activation,
    /// The norm.
    pub norm: NormSpec,
}
