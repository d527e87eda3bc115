//! Frozen language models: one transformer described by a spec, with a forward above its backward in every file.
//!
//! ```text
//! layout + inject -> embeddings -> block 0 ... block n-1 -> final norm -> head -> logits of the answer rows
//! ```
//! A model has no trainable weights and no gradient buffers. Its backward gives the gradients of what a method
//! injected and stops there. A family (`bert.rs`, `roberta.rs`, `gpt2.rs`) maps `config.json` and tensor names to a [`ModelSpec`].

mod attention;
mod bert;
mod block;
mod gpt2;
mod head;
mod inject;
mod load;
mod mlp;
mod roberta;
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

/// A frozen language model, masked or causal, on a device.
pub struct Model {
    spec: ModelSpec,
    device: Device,
    tables: EmbeddingTables,
    embedding_norm: Option<LayerNorm>,
    blocks: Vec<Block>,
    final_norm: Option<LayerNorm>,
    head: Head,
    parameters: usize,
}

/// What a model's backward needs from its forward.
pub struct ModelSaved {
    embedding_norm: Option<NormSaved>,
    blocks: Vec<BlockSaved>,
    final_norm: Option<NormSaved>,
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
        let words = loader.matrix(&names.words, &[spec.vocabulary, hidden])?;
        let mut positions = loader.matrix(&names.position_table, &[names.first_position + spec.positions, hidden])?;
        if names.first_position > 0 {
            positions = device.upload(spec.positions, hidden, &positions.read()[names.first_position * hidden..]);
        }
        let tables = EmbeddingTables { words, positions, token_type };
        let embedding_norm = names.norm.as_ref().map(|norm| loader.norm(norm, hidden)).transpose()?;
        let blocks = spec.blocks.iter().map(|block| Block::load(&mut loader, block, hidden)).collect::<Result<_>>()?;
        let final_norm = spec.final_norm.as_ref().map(|norm| loader.norm(norm, hidden)).transpose()?;
        let head = Head::load(&mut loader, &spec.head, &spec)?;
        let parameters = count_parameters(directory);
        Ok(Model { device: device.clone(), tables, embedding_norm, blocks, final_norm, head, parameters, spec })
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
        let bias = self.head.decoder_bias.as_ref();
        match ids {
            Some(ids) => Columns::new(self.device.pack_linear_rows(decoder, bias, ids, gradient), ids.len()),
            None => {
                let (outputs, inputs) = (decoder.rows(), decoder.columns());
                let bias = bias.map(Tensor::read);
                let packed = self.device.pack_linear(decoder.read(), bias, outputs, inputs, gradient);
                Columns::new(packed, outputs)
            }
        }
    }

    /// The logits `[answer rows, columns]` of a batch.
    pub fn forward(&self, layout: &Layout, inject: &Inject<'_>, columns: &Columns) -> (Tensor, ModelSaved) {
        let device = &self.device;
        let all_rows: Vec<u32> = (0..layout.rows() as u32).collect();
        let embedded = device.embed(layout, &self.tables, inject.prompt_embeds);
        let (mut x, embedding_norm) = normed(device, embedded, self.embedding_norm.as_ref());
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            let queries = (i + 1 == self.blocks.len()).then_some(layout.targets.as_slice());
            let (y, saved) = block.forward(device, &x, layout, &all_rows, queries);
            blocks.push(saved);
            x = y;
        }
        let (x, final_norm) = normed(device, x, self.final_norm.as_ref());
        let (logits, head) = self.head.forward(device, &x, columns);
        (logits, ModelSaved { embedding_norm, blocks, final_norm, head, all_rows })
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
        let d_head = self.head.backward(device, d_logits, &saved.head, columns);
        let mut d_x = normed_backward(device, d_head, saved.final_norm.as_ref(), self.final_norm.as_ref());
        for (i, (block, saved_block)) in self.blocks.iter().zip(&saved.blocks).enumerate().rev() {
            let wanted = (i == 0).then_some(pseudo_rows.as_slice());
            d_x = block.backward(device, &d_x, saved_block, layout, &saved.all_rows, wanted);
        }
        let norm = saved.embedding_norm.as_ref().map(|norm| device.gather_saved(norm, &pseudo_rows));
        let d_pseudo = normed_backward(device, d_x, norm.as_ref(), self.embedding_norm.as_ref());
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
            "roberta" => roberta::spec(directory),
            "gpt2" => gpt2::spec(directory),
            other => {
                let message = format!("model type '{other}' is not implemented; implemented: bert, roberta, gpt2");
                Err(config.error("model_type", message))
            }
        }
    }
}

/// The norm of `x`, where there is one, and what its backward needs.
fn normed(device: &Device, x: Tensor, norm: Option<&LayerNorm>) -> (Tensor, Option<NormSaved>) {
    let Some(norm) = norm else { return (x, None) };
    let (y, saved) = device.layer_norm(&x, None, norm);
    (y, Some(saved))
}

/// `d_y -> d_x` of [`normed`].
fn normed_backward(device: &Device, d_y: Tensor, saved: Option<&NormSaved>, norm: Option<&LayerNorm>) -> Tensor {
    match (saved, norm) {
        (Some(saved), Some(norm)) => device.layer_norm_backward(&d_y, saved, norm),
        _ => d_y,
    }
}

/// More blocks than any model has: a damaged number must not become a billion specs.
const MOST_LAYERS: usize = 1024;

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
