//! Frozen language models: one transformer described by a spec, with a forward above its backward in every file.
//!
//! ```text
//! layout + inject -> embeddings -> block 0 ... block n-1 -> head -> logits of the answer rows
//! ```
//! A model has no trainable weights and no gradient buffers. Its backward gives the gradients of what a method
//! injected and stops there. A family (`bert.rs`) maps `config.json` and tensor names to a [`ModelSpec`].

mod attention;
mod bert;
mod block;
mod head;
mod inject;
mod load;
mod mlp;
pub mod spec;

pub use head::{Columns, HeadSaved};
pub use inject::{Inject, InjectGradients};
use spec::ModelSpec;

use crate::Result;
use crate::checkpoint::{Config, ModelDirectory};
use crate::ops::{Activation, EmbeddingTables, LayerNorm, Layout, NormSaved};
use crate::tensor::{Device, Tensor};
use block::{Block, BlockSaved};
use head::Head;
use load::Loader;

/// A frozen masked language model on a device.
pub struct Model {
    spec: ModelSpec,
    device: Device,
    tables: EmbeddingTables,
    embedding_norm: LayerNorm,
    blocks: Vec<Block>,
    head: Head,
    parameters: usize,
}

/// What a model's backward needs from its forward.
pub struct ModelSaved {
    embedding_norm: NormSaved,
    blocks: Vec<BlockSaved>,
    head: HeadSaved,
    all_rows: Vec<u32>,
}

impl Model {
    /// Loads a checkpoint. With `gradient`, its layers are also packed for the backward. `progress(loaded, total)`
    /// counts tensors.
    ///
    /// # Errors
    /// A family or an option that is not implemented, by its key; a tensor that is missing, of another shape, or not
    /// finite, by its name.
    pub fn load(
        directory: &ModelDirectory,
        device: &Device,
        gradient: bool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let spec = ModelSpec::read(directory)?;
        let mut loader = Loader::new(device, directory.weights(), gradient, progress);
        let (hidden, names) = (spec.hidden, &spec.embeddings);
        let token_type = match &names.token_types {
            Some((name, types)) => {
                let table = loader.matrix(name, &[*types, hidden])?;
                Some(device.upload(1, hidden, &table.read()[..hidden]))
            }
            None => None,
        };
        let tables = EmbeddingTables {
            words: loader.matrix(&names.words, &[spec.vocabulary, hidden])?,
            positions: loader.matrix(&names.position_table, &[spec.positions, hidden])?,
            token_type,
        };
        let embedding_norm = loader.norm(&names.norm, hidden)?;
        let blocks = spec.blocks.iter().map(|block| Block::load(&mut loader, block, hidden)).collect::<Result<_>>()?;
        let head = Head::load(&mut loader, &spec.head, &spec)?;
        let parameters = count_parameters(directory);
        Ok(Model { device: device.clone(), tables, embedding_norm, blocks, head, parameters, spec })
    }

    /// The shapes and names it was built from.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Width of the vectors that replace word embeddings.
    pub fn embedding_width(&self) -> usize {
        self.tables.words.columns()
    }

    /// The word table `[vocabulary, embedding width]`.
    pub fn word_table(&self) -> &Tensor {
        &self.tables.words
    }

    /// How many numbers the checkpoint's tensors hold.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// Packs the decoder for these token ids, or for the whole vocabulary: column `i` of the logits is `ids[i]`.
    pub fn columns(&self, ids: Option<&[u32]>, gradient: bool) -> Columns {
        let decoder = self.head.decoder.as_ref().unwrap_or(&self.tables.words);
        let bias = &self.head.decoder_bias;
        match ids {
            Some(ids) => Columns::new(self.device.pack_linear_rows(decoder, Some(bias), ids, gradient), ids.len()),
            None => {
                let (outputs, inputs) = (decoder.rows(), decoder.columns());
                let packed = self.device.pack_linear(decoder.read(), Some(bias.read()), outputs, inputs, gradient);
                Columns::new(packed, outputs)
            }
        }
    }

    /// The logits `[answer rows, columns]` of a batch.
    pub fn forward(&self, layout: &Layout, inject: &Inject<'_>, columns: &Columns) -> (Tensor, ModelSaved) {
        let device = &self.device;
        let all_rows: Vec<u32> = (0..layout.rows() as u32).collect();
        let embedded = device.embed(layout, &self.tables, inject.prompt_embeds);
        let (mut x, embedding_norm) = device.layer_norm(&embedded, None, &self.embedding_norm);
        drop(embedded);
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            let queries = (i + 1 == self.blocks.len()).then_some(layout.targets.as_slice());
            let (y, saved) = block.forward(device, &x, layout, &all_rows, queries);
            blocks.push(saved);
            x = y;
        }
        let (logits, head) = self.head.forward(device, &x, columns);
        (logits, ModelSaved { embedding_norm, blocks, head, all_rows })
    }

    /// The gradients of what was injected, from that of the logits. Without anything injected nothing is computed.
    pub fn backward(
        &self,
        d_logits: &Tensor,
        saved: &ModelSaved,
        layout: &Layout,
        inject: &Inject<'_>,
        columns: &Columns,
    ) -> InjectGradients {
        let Some(prompt) = inject.prompt_embeds else { return InjectGradients { prompt_embeds: None } };
        let device = &self.device;
        let pseudo_rows: Vec<u32> = layout.pseudo.iter().map(|(row, _)| *row).collect();
        let mut d_x = self.head.backward(device, d_logits, &saved.head, columns);
        for (i, (block, saved_block)) in self.blocks.iter().zip(&saved.blocks).enumerate().rev() {
            let wanted = (i == 0).then_some(pseudo_rows.as_slice());
            d_x = block.backward(device, &d_x, saved_block, layout, &saved.all_rows, wanted);
        }
        let norm = device.gather_saved(&saved.embedding_norm, &pseudo_rows);
        let d_pseudo = device.layer_norm_backward(&d_x, &norm, &self.embedding_norm);
        InjectGradients { prompt_embeds: Some(device.embed_backward(&d_pseudo, layout, prompt.rows())) }
    }
}

impl ModelSpec {
    /// The spec of a checkpoint, by its family. No tensor is read.
    ///
    /// # Errors
    /// A family or an option that is not implemented, by its key of `config.json`.
    pub fn read(directory: &ModelDirectory) -> Result<ModelSpec> {
        let config = directory.config();
        match config.model_type()? {
            "bert" => bert::spec(directory),
            other => {
                let message = format!("model type '{other}' is not implemented; implemented: bert");
                Err(config.error("model_type", message))
            }
        }
    }
}

/// The activation that a key of `config.json` names, by its name in transformers.
fn activation_named(config: &Config, key: &str) -> Result<Activation> {
    match config.str(key)? {
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        "tanh" => Ok(Activation::Tanh),
        other => {
            let message = format!(
                "activation '{other}' is not implemented; implemented: gelu, gelu_new, gelu_pytorch_tanh, relu, tanh"
            );
            Err(config.error(key, message))
        }
    }
}

fn count_parameters(directory: &ModelDirectory) -> usize {
    let weights = directory.weights();
    weights.names().filter_map(|name| weights.shape(name)).map(|shape| shape.iter().product::<usize>()).sum()
}
