//! A model directory: sizes, parameters by part, tokenizer, fingerprint, and whether ptune can use it.
//!
//! A model that cannot be used is no error: `usable` is false, `reason` is the sentence that any command would give, and
//! the facts that could be found all the same are there. To be sure, the model is loaded once, with every check.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::Result;
use crate::checkpoint::{Config, ModelDirectory, Tokenizer};
use crate::files::built_in;
use crate::model::spec::ModelSpec;
use crate::model::{Gradients, Model};
use crate::tensor::Device;
use crate::train::open_tokenizer;

/// What is known about a model directory; empty where it could not be found out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModelFacts {
    /// Where it is.
    pub path: String,
    /// Whether ptune can use it.
    pub usable: bool,
    /// Why not.
    pub reason: Option<String>,
    /// `model_type` of `config.json`.
    pub family: Option<String>,
    /// Sizes.
    pub shape: Option<ModelShape>,
    /// Numbers in its tensors, by part.
    pub parameters: Option<ModelParameters>,
    /// How many tensors are stored in each type, by its name in safetensors (`F32`, `F16`, `BF16`).
    pub dtypes: BTreeMap<String, usize>,
    /// The tokenizer.
    pub tokenizer: Option<TokenizerFacts>,
    /// Bytes of each file in the directory.
    pub files: BTreeMap<String, u64>,
    /// What an adapter knows its base by.
    pub fingerprint: Option<String>,
}

/// Sizes of a model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelShape {
    /// Whether it reads from left to right; else it fills in `[MASK]`.
    pub causal: bool,
    /// Width of the rows between blocks.
    pub width: usize,
    /// Width of the word vectors, and so of the vectors that a prompt is made of.
    pub embedding_width: usize,
    /// Transformer blocks that a row goes through.
    pub blocks: usize,
    /// Blocks with weights of their own: fewer than `blocks` where they are shared.
    pub own_blocks: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// Width inside a block's feed-forward part.
    pub inner: usize,
    /// Entries of the word table.
    pub vocabulary: usize,
    /// The longest row.
    pub positions: usize,
}

/// How many numbers the tensors hold.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModelParameters {
    /// Word, position and type tables and their norm.
    pub embeddings: usize,
    /// The blocks.
    pub blocks: usize,
    /// The language-model head, and the norm before it where there is one; without a decoder that is the word table.
    pub head: usize,
    /// Tensors that are of no use here: a pooler, another head, a mask, a copy of the word table.
    pub unused: usize,
    /// All of these.
    pub total: usize,
}

/// A tokenizer.
#[derive(Clone, Debug, Serialize)]
pub struct TokenizerFacts {
    /// The file that was read.
    pub file: String,
    /// `WordPiece`, `byte-level BPE`, `BPE`, `Unigram`, `word-level`.
    pub kind: String,
    /// One more than the largest token id.
    pub tokens: usize,
    /// The ids of the special tokens by role (`mask`, `cls`, ...); roles that it lacks are left out.
    pub special: BTreeMap<String, u32>,
}

impl ModelFacts {
    /// Finds out what there is to find out.
    pub(super) fn read(path: &Path, device: &Device, progress: &mut dyn FnMut(usize, usize)) -> ModelFacts {
        let mut facts = ModelFacts { path: path.to_string_lossy().into_owned(), files: files(path), ..Self::default() };
        match facts.fill(path, device, progress) {
            Ok(()) => facts.usable = true,
            Err(wrong) => facts.reason = Some(wrong.to_string()),
        }
        facts
    }

    /// Fills in one fact after the other, up to the first that makes the model unusable.
    fn fill(&mut self, path: &Path, device: &Device, progress: &mut dyn FnMut(usize, usize)) -> Result<()> {
        // The tokenizer and the family's name do not depend on the rest.
        let tokenizer = Tokenizer::open(path);
        self.tokenizer = tokenizer.as_ref().ok().map(TokenizerFacts::of);
        let config = Config::open(&path.join("config.json"))?;
        self.family = Some(config.model_type()?.into());
        let directory = ModelDirectory::open(path)?;
        let weights = directory.weights();
        for dtype in weights.names().filter_map(|name| weights.dtype(name)) {
            *self.dtypes.entry(dtype).or_default() += 1;
        }
        let spec = ModelSpec::read(&directory)?;
        self.shape = Some(ModelShape::of(&spec));
        self.parameters = Some(ModelParameters::of(&directory, &spec));
        tokenizer?;
        open_tokenizer(&directory, &spec)?;
        self.fingerprint = Some(directory.fingerprint(&spec.embeddings.words)?);
        Model::load(&directory, &[], device, Gradients::None, progress).map(drop)
    }
}

impl ModelShape {
    fn of(spec: &ModelSpec) -> ModelShape {
        let first = spec.blocks.first();
        ModelShape {
            causal: spec.causal,
            width: spec.hidden,
            embedding_width: spec.embeddings.width,
            blocks: spec.layers.len(),
            own_blocks: spec.blocks.len(),
            heads: first.map_or(0, |block| block.attention.heads),
            inner: first.map_or(0, |block| block.mlp.up.outputs),
            vocabulary: spec.vocabulary,
            positions: spec.positions,
        }
    }
}

impl ModelParameters {
    /// Sorts tensors by what the spec says of them: the layers of the embedding, those of the head, and of the others those
    /// with a number between dots, which is a block's in every family.
    fn of(directory: &ModelDirectory, spec: &ModelSpec) -> ModelParameters {
        let weights = directory.weights();
        let (embeddings, head) = (layers_of_embeddings(spec), layers_of_head(spec));
        let has = |layers: &[&str], name: &str| {
            let of =
                |layer: &&str| name.strip_prefix(*layer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            layers.iter().any(of)
        };
        let mut sums = ModelParameters::default();
        for name in weights.names() {
            let shape = weights.shape(name).unwrap_or_default();
            let numbers: usize = shape.iter().product();
            // Parameters are vectors and matrices; a GPT-2 may carry its causal mask, [1, 1, n, n].
            let buffer = !(1..=2).contains(&shape.len());
            let in_block = name.split('.').any(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
            *match () {
                () if buffer => &mut sums.unused,
                () if has(&embeddings, name) => &mut sums.embeddings,
                () if has(&head, name) => &mut sums.head,
                () if in_block => &mut sums.blocks,
                () => &mut sums.unused,
            } += numbers;
            sums.total += numbers;
        }
        sums
    }
}

/// Tensors, or the names in front of `.weight` and `.bias`.
fn layers_of_embeddings(spec: &ModelSpec) -> Vec<&str> {
    let part = &spec.embeddings;
    let mut names = vec![part.words.as_str()];
    names.extend(part.position_table.as_deref());
    names.extend(part.token_types.as_ref().map(|(name, _)| name.as_str()));
    names.extend(part.norm.as_ref().map(|norm| norm.name.as_str()));
    names.extend(part.projection.as_ref().map(|linear| linear.name.as_str()));
    names
}

/// See [`layers_of_embeddings`]; the last norm counts as the head's.
fn layers_of_head(spec: &ModelSpec) -> Vec<&str> {
    let part = &spec.head;
    let mut names: Vec<&str> = part.decoder.iter().chain(&part.decoder_bias).map(String::as_str).collect();
    names.extend(spec.final_norm.as_ref().map(|norm| norm.name.as_str()));
    names.extend(part.transform.iter().flat_map(|part| [part.dense.name.as_str(), part.norm.name.as_str()]));
    names
}

impl TokenizerFacts {
    fn of(tokenizer: &Tokenizer) -> TokenizerFacts {
        let special = tokenizer.special().roles();
        TokenizerFacts {
            file: tokenizer.file().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            kind: tokenizer.kind().into(),
            tokens: tokenizer.vocab_size(),
            special: special.into_iter().filter_map(|(role, id)| Some((role.into(), id?))).collect(),
        }
    }
}

/// The files of a directory with their sizes; hidden ones are left out, and links count as what they lead to.
fn files(path: &Path) -> BTreeMap<String, u64> {
    let built_in = built_in::files_of(path).iter().map(|(name, bytes)| ((*name).into(), bytes.len() as u64));
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let file = |entry: std::fs::DirEntry| {
        let about = entry.path().metadata().ok().filter(|about| about.is_file())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        (!name.starts_with('.')).then_some((name, about.len()))
    };
    entries.filter_map(file).chain(built_in).collect()
}
