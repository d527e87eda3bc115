//! Language models, frozen or trained: one transformer described by a spec, with a forward above its backward in every file.
//!
//! ```text
//! layout + inject -> embeddings -> block 0 ... block n-1 -> final norm -> head -> logits of the answer rows
//! ```
//! A frozen model has no gradient buffers and keeps no layer's input; its backward gives the gradients of what a method
//! injected and stops there. A trained one ([`Gradients::Weights`]) owns its weights as parameters too: its backward goes
//! down to the tables and writes their gradients, and [`Model::repack`] follows each step of the optimiser. A family (`bert.rs`, `gpt2.rs`, ...) maps `config.json` and tensor names to a [`ModelSpec`].

mod albert;
mod attention;
mod bert;
mod block;
mod config;
mod distilbert;
mod electra;
mod embedding;
mod encoder;
mod frozen;
mod gpt2;
mod gpt_neox;
mod head;
mod heads;
mod inject;
mod layer;
mod llama;
mod load;
mod lora;
mod mlp;
mod modernbert;
mod opt;
mod past;
mod roberta;
mod rotary;
mod saved;
pub mod spec;

pub use head::{Columns, HeadSaved};
pub use inject::{Inject, InjectGradients};
pub use lora::{Additions, Lora, LoraRows, Projection};
pub use past::Past;
pub use saved::TrainedTensor;
use spec::ModelSpec;

use std::sync::atomic::AtomicUsize;

use crate::Result;
use crate::checkpoint::{ModelDirectory, Weights};
use crate::ops::{Layout, NormSaved};
use crate::parameter::{Group, Parameter};
use crate::tensor::{Device, Precision, Tensor};
use block::{Block, BlockSaved};
use embedding::{Embedding, EmbeddingSaved, normed_backward};
use head::Head;
use layer::{Learned, Norm};
use load::Loader;
use lora::LoraGradients;
use saved::SavedAs;

/// The gradients that a model must be able to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradients {
    /// None: it answers.
    None,
    /// Of what is injected: it is frozen under a trained prompt.
    Inputs,
    /// Of its weights too: it is trained.
    Weights,
}

/// A language model, masked or causal, on a device.
pub struct Model {
    spec: ModelSpec,
    device: Device,
    embedding: Embedding,
    blocks: Vec<Block>,
    final_norm: Option<Norm>,
    /// None of a model under a classifier.
    head: Option<Head>,
    /// The gradients that it can give.
    gradients: Gradients,
    /// What is trained: nothing of a frozen model.
    parameters: Vec<Parameter>,
    /// How the checkpoint has each of them.
    saved_as: Vec<SavedAs>,
    count: usize,
}

/// What a model's backward needs from its forward.
pub struct ModelSaved {
    embedding: EmbeddingSaved,
    /// Of every layer.
    blocks: Vec<BlockSaved>,
    final_norm: Option<NormSaved>,
    head: HeadSaved,
    all_rows: Vec<u32>,
}

impl Model {
    /// Loads a checkpoint, with the tensors of `tuned` in place of its own. Only with [`Gradients::Inputs`] or more can
    /// it run backward. A model whose weights are trained computes in f32 whatever the device's precision.
    /// `progress(loaded, total)` counts tensors.
    ///
    /// # Errors
    /// A family or an option that is not implemented, by its key; a tensor that is missing, of another shape, or not
    /// finite, by its name.
    pub fn load(
        directory: &ModelDirectory,
        tuned: &[Weights],
        device: &Device,
        gradients: Gradients,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let spec = ModelSpec::read(directory)?;
        let hidden = spec.hidden;
        let full = (gradients == Gradients::Weights).then(|| device.with_precision(Precision::F32));
        let device = full.as_ref().unwrap_or(device);
        let loaded = AtomicUsize::new(0);
        let mut loader = Loader::new(device, directory.weights(), tuned, gradients, &loaded, Some(progress));
        let embedding = Embedding::load(&mut loader, &spec)?;
        let rotaries = heads::rotaries(spec.blocks.iter().map(|block| &block.attention));
        let load =
            |loader: &mut Loader<'_>, i: usize| Block::load(loader, &spec.blocks[i], hidden, rotaries[i].clone());
        let blocks = loader.each(spec.blocks.len(), load)?;
        let final_norm = spec.final_norm.as_ref().map(|norm| loader.norm(norm, hidden)).transpose()?;
        loader.group = Group::Head;
        let head = Some(Head::load(&mut loader, &spec.head, &spec)?);
        let (parameters, saved_as) = (loader.parameters, loader.saved_as);
        let (device, count) = (device.clone(), count_parameters(directory));
        Ok(Model { device, embedding, blocks, final_norm, head, gradients, parameters, saved_as, count, spec })
    }

    /// The shapes and names it was built from.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Width of the vectors that replace word embeddings.
    pub fn embedding_width(&self) -> usize {
        self.word_table().columns()
    }

    /// The word table `[vocabulary, embedding width]`.
    pub fn word_table(&self) -> &Tensor {
        self.embedding.words.value(&self.parameters)
    }

    /// What is trained: nothing of a frozen model.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// What is trained, for an optimiser; [`Model::repack`] must follow.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    /// The trained tensors of a group as the checkpoint has them, sorted by name.
    pub fn trained_tensors(&self, group: Group) -> Vec<TrainedTensor<'_>> {
        saved::trained_tensors(&self.parameters, &self.saved_as, group)
    }

    /// The same model for a classifier: without its language-model head, which is neither trained nor saved then. Its
    /// [`Model::row_columns`] are the only ones that it has.
    pub fn without_head(mut self) -> Self {
        let below = self.parameters.iter().take_while(|parameter| parameter.group != Group::Head).count();
        self.parameters.truncate(below);
        self.saved_as.truncate(below);
        Model { head: None, ..self }
    }

    /// Whether it has its language-model head.
    pub fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// Packs the decoder for these token ids, or for the whole vocabulary: column `i` of the logits is `ids[i]`.
    ///
    /// # Panics
    /// A model [without its head](Model::without_head).
    pub fn columns(&self, ids: Option<&[u32]>, gradient: bool) -> Columns {
        let head = self.head.as_ref().expect("a model with its head");
        head.columns(&self.device, ids, gradient, &self.embedding.words, &self.parameters)
    }

    /// What a classifier reads: the rows behind the last block and its norm in f32, in the place of logits.
    pub fn row_columns(&self) -> Columns {
        Columns::of_rows(self.spec.hidden)
    }

    /// What the decoder reads of a batch, `[answer rows, decoder's width]`, in f32: a word's logit is the product of such a
    /// row with that of the word in the [decoder's table](Model::decoder_table), plus its bias.
    ///
    /// # Panics
    /// A model [without its head](Model::without_head).
    pub fn decoder_rows(&self, layout: &Layout, inject: &Inject<'_>) -> Tensor {
        let head = self.head.as_ref().expect("a model with its head");
        head.decoder_rows(&self.device, self.logits(layout, inject, &self.row_columns()))
    }

    /// The rows of the decoder `[vocabulary, decoder's width]`: often the word table.
    ///
    /// # Panics
    /// A model [without its head](Model::without_head).
    pub fn decoder_table(&self) -> &Tensor {
        let head = self.head.as_ref().expect("a model with its head");
        head.decoder_table(&self.embedding.words, &self.parameters)
    }

    /// The logits `[answer rows, columns]` of a batch.
    pub fn forward(&self, layout: &Layout, inject: &Inject<'_>, columns: &Columns) -> (Tensor, ModelSaved) {
        let mut blocks = Vec::with_capacity(self.spec.layers.len());
        let (logits, saved) = self.run(layout, inject, columns, true, &mut |block| blocks.push(block));
        (logits, ModelSaved { blocks, ..saved })
    }

    /// The same bits without what a backward needs: the buffers of a block serve the next one.
    pub fn logits(&self, layout: &Layout, inject: &Inject<'_>, columns: &Columns) -> Tensor {
        self.run(layout, inject, columns, false, &mut |_| {}).0
    }

    /// The logits, and what is saved beside that of the blocks, which goes to `each`. `keep` is for a backward.
    fn run(
        &self,
        layout: &Layout,
        inject: &Inject<'_>,
        columns: &Columns,
        keep: bool,
        each: &mut dyn FnMut(BlockSaved),
    ) -> (Tensor, ModelSaved) {
        let device = &self.device;
        let all_rows: Vec<u32> = (0..layout.rows() as u32).collect();
        let (mut x, embedding) = self.embedding.forward(device, layout, &all_rows, inject, &self.parameters);
        let layers = &self.spec.layers;
        for (layer, &at) in layers.iter().enumerate() {
            let (block, past) = (&self.blocks[at], inject.past_of(layer).rows);
            let queries = (layer + 1 == layers.len()).then_some(layout.targets.as_slice());
            let lora = inject.lora_of(at);
            let (y, saved) = block.forward(device, layer, x, past, layout, &all_rows, queries, lora);
            each(saved);
            x = y;
        }
        if columns.are_rows() {
            let (x, final_norm) = match &self.final_norm {
                Some(norm) => {
                    let (x, saved) = norm.forward(device, &x.exact, None);
                    (x.exact, Some(saved))
                }
                None => (x.exact, None),
            };
            let head = HeadSaved::default();
            return (x, ModelSaved { embedding, blocks: Vec::new(), final_norm, head, all_rows });
        }
        let (x, final_norm) = match &self.final_norm {
            Some(norm) => {
                let (x, saved) = norm.forward_narrow(device, &x.exact);
                (x, Some(saved))
            }
            None => (x.into_factor(), None),
        };
        let head = self.head.as_ref().expect("columns of a head");
        let (logits, head) = head.forward(device, x, columns, keep && self.gradients == Gradients::Weights);
        (logits, ModelSaved { embedding, blocks: Vec::new(), final_norm, head, all_rows })
    }

    /// The gradients of what was injected, from that of the logits, and those of the weights where they are trained.
    /// Without any of them nothing is computed.
    pub fn backward(
        &mut self,
        d_logits: &Tensor,
        saved: &ModelSaved,
        layout: &Layout,
        inject: &Inject<'_>,
        columns: &Columns,
    ) -> InjectGradients {
        let Model { spec, device, embedding, blocks, final_norm, head, parameters, .. } = self;
        let past_gradient = inject.past_gradient && inject.past.is_some();
        if inject.prompt_embeds.is_none() && !past_gradient && parameters.is_empty() && inject.lora.is_empty() {
            return InjectGradients { prompt_embeds: None, past: None, lora: Vec::new() };
        }
        let all_rows = &saved.all_rows;
        let learned = &mut Learned { parameters, lora: LoraGradients::new(&inject.lora) };
        let d_h = match head {
            Some(head) if !columns.are_rows() => {
                head.backward(device, d_logits, &saved.head, columns, &embedding.words, learned)
            }
            _ => {
                // No decoder has written the gradient of the word table, to which the embedding adds.
                embedding.words.gradient(learned.parameters).into_iter().for_each(|d_words| device.fill_zero(d_words));
                device.copy(d_logits)
            }
        };
        let mut d_x = normed_backward(device, d_h, saved.final_norm.as_ref(), final_norm.as_ref(), learned.parameters);
        let (lowest, mut d_past) = (embedding.wanted(layout), Vec::new());
        for (layer, saved) in saved.blocks.iter().enumerate().rev() {
            let (block, past) = (&blocks[spec.layers[layer]], inject.past_of(layer));
            let shared = spec.layers[layer + 1..].contains(&spec.layers[layer]);
            let from_above = shared.then(|| block.take_gradients(device, learned.parameters));
            let wanted = lowest.as_deref().filter(|_| layer == 0);
            let lora = inject.lora_of(spec.layers[layer]);
            let (d_below, d_keys) =
                block.backward(device, layer, d_x, saved, past, layout, all_rows, wanted, lora, learned);
            d_x = d_below;
            d_past.extend(d_keys);
            if let Some(from_above) = from_above {
                block.add_gradients(device, &from_above, learned.parameters);
            }
        }
        d_past.reverse();
        let past = past_gradient.then(|| Past::of_blocks(d_past));
        if inject.prompt_embeds.is_none() && lowest.is_some() {
            // No row of the embedding has a gradient.
            let lora = std::mem::take(&mut learned.lora).into_each(device, &inject.lora);
            return InjectGradients { prompt_embeds: None, past, lora };
        }
        let saved = &saved.embedding;
        let prompt_embeds =
            embedding.backward(device, d_x.exact, saved, layout, all_rows, lowest.as_deref(), inject, learned);
        let lora = std::mem::take(&mut learned.lora).into_each(device, &inject.lora);
        InjectGradients { prompt_embeds, past, lora }
    }

    /// Takes over what the optimiser made of the parameters, here and in `columns`. Nothing of a frozen model.
    pub fn repack(&mut self, columns: &mut Columns) {
        let Model { device, embedding, blocks, final_norm, head, parameters, .. } = self;
        if parameters.is_empty() {
            return;
        }
        blocks.iter_mut().for_each(|block| block.repack(device, parameters));
        embedding.repack(device, parameters);
        if let Some(norm) = final_norm {
            norm.repack(device, parameters);
        }
        if let Some(head) = head {
            head.repack(device, parameters);
            head.repack_columns(device, columns, &embedding.words, parameters);
        }
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
            "roberta" => roberta::spec(directory, "roberta", "Roberta"),
            "xlm-roberta" => roberta::spec(directory, "xlm-roberta", "XLMRoberta"),
            "albert" => albert::spec(directory),
            "electra" => electra::spec(directory),
            "distilbert" => distilbert::spec(directory),
            "gpt2" => gpt2::spec(directory),
            "gpt_neox" => gpt_neox::spec(directory),
            "llama" => llama::llama(directory),
            "mistral" => llama::mistral(directory),
            "modernbert" => modernbert::spec(directory),
            "qwen2" => llama::qwen2(directory),
            "qwen3" => llama::qwen3(directory),
            "opt" => opt::spec(directory),
            other => {
                let message = format!("model type '{other}' is not implemented; implemented: {}", FAMILIES.join(", "));
                Err(config.error("model_type", message))
            }
        }
    }
}

/// The model types that are implemented.
const FAMILIES: [&str; 14] = [
    "bert",
    "roberta",
    "xlm-roberta",
    "albert",
    "electra",
    "distilbert",
    "modernbert",
    "gpt2",
    "opt",
    "gpt_neox",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
];

fn count_parameters(directory: &ModelDirectory) -> usize {
    let weights = directory.weights();
    weights.names().filter_map(|name| weights.shape(name)).map(|shape| shape.iter().product::<usize>()).sum()
}
