//! The embedding layer: word (or, at pseudo tokens, prompt) + position + token type, then perhaps a norm and a projection
//! to the width of the blocks.

use super::Inject;
use super::layer::{Learned, Linear, Norm, Table};
use super::load::Loader;
use super::lora::LayerLora;
use super::spec::ModelSpec;
use crate::Result;
use crate::ops::{EmbeddingTables, Hidden, Layout, NormSaved};
use crate::parameter::Parameter;
use crate::tensor::{Device, Tensor};

/// The first of the places where numbers are dropped; see [`super::block::Block`] for the others.
const DROPOUT_SITE: u32 = 0;

pub(super) struct Embedding {
    pub(super) words: Table,
    positions: Option<Table>,
    /// The entry of the position table for the first row of an example.
    first_position: usize,
    token_types: Option<Table>,
    norm: Option<Norm>,
    projection: Option<Linear>,
}

/// What the backward needs.
pub(super) struct EmbeddingSaved {
    norm: Option<NormSaved>,
    /// The input of a trained projection.
    projected: Option<Tensor>,
}

impl Embedding {
    pub(super) fn load(loader: &mut Loader<'_>, spec: &ModelSpec) -> Result<Self> {
        let (names, width) = (&spec.embeddings, spec.embeddings.width);
        let (token_types, positions) = (names.token_types.as_ref(), names.position_table.as_ref());
        let entries = names.first_position + spec.positions;
        Ok(Embedding {
            token_types: token_types.map(|(name, types)| loader.table(name, &[*types, width])).transpose()?,
            words: loader.table(&names.words, &[spec.vocabulary, width])?,
            positions: positions.map(|name| loader.table(name, &[entries, width])).transpose()?,
            first_position: names.first_position,
            norm: names.norm.as_ref().map(|norm| loader.norm(norm, width)).transpose()?,
            projection: names.projection.as_ref().map(|projection| loader.linear(projection)).transpose()?,
        })
    }

    /// The rows `[rows, hidden]` that enter the first block.
    pub(super) fn forward(
        &self,
        device: &Device,
        layout: &Layout,
        all_rows: &[u32],
        inject: &Inject<'_>,
        parameters: &[Parameter],
    ) -> (Hidden, EmbeddingSaved) {
        let tables = EmbeddingTables {
            words: self.words.value(parameters),
            positions: self.positions.as_ref().map(|table| table.value(parameters)),
            first_position: self.first_position,
            token_types: self.token_types.as_ref().map(|table| table.value(parameters)),
        };
        let x = device.embed(layout, &tables, inject.prompt_embeds);
        let (mut x, norm) = normed(device, x, self.norm.as_ref());
        if layout.dropout.is_some() {
            device.dropout(&mut x.exact, all_rows, layout, DROPOUT_SITE);
            // What the norm rounded was not dropped.
            x.rounded = None;
        }
        let Some(projection) = &self.projection else { return (x, EmbeddingSaved { norm, projected: None }) };
        let y = projection.forward(device, x.factor(), &LayerLora::default());
        let projected = projection.trained.is_some().then_some(x.exact);
        (y.into(), EmbeddingSaved { norm, projected })
    }

    /// The rows whose gradient is needed: all of them when the tables are trained (`None`), else the pseudo tokens.
    pub(super) fn wanted(&self, layout: &Layout) -> Option<Vec<u32>> {
        match self.words {
            Table::Trained(_) => None,
            Table::Frozen(_) => Some(layout.pseudo.iter().map(|(row, _)| *row).collect()),
        }
    }

    /// From the gradient of the rows `wanted`, that of the injected prompt, and those of trained tables. The word table's
    /// is added to what a tied decoder has left there.
    pub(super) fn backward(
        &self,
        device: &Device,
        mut d_x: Tensor,
        saved: &EmbeddingSaved,
        layout: &Layout,
        all_rows: &[u32],
        wanted: Option<&[u32]>,
        inject: &Inject<'_>,
        learned: &mut Learned<'_>,
    ) -> Option<Tensor> {
        if let Some(projection) = &self.projection {
            d_x = projection.backward(device, &d_x, saved.projected.as_ref(), &LayerLora::default(), learned);
        }
        let parameters = &mut *learned.parameters;
        device.dropout(&mut d_x, wanted.unwrap_or(all_rows), layout, DROPOUT_SITE);
        let norm = saved.norm.as_ref();
        let chosen = wanted.and_then(|rows| norm.map(|norm| device.gather_saved(norm, rows)));
        let mut d_x = normed_backward(device, d_x, chosen.as_ref().or(norm), self.norm.as_ref(), parameters).exact;
        if wanted.is_none() {
            self.backward_tables(device, &d_x, layout, parameters);
            let pseudo: Vec<u32> = layout.pseudo.iter().map(|(row, _)| *row).collect();
            d_x = device.gather_rows(&d_x, &pseudo);
        }
        inject.prompt_embeds.map(|prompt| device.embed_backward(&d_x, layout, prompt.rows()))
    }

    fn backward_tables(&self, device: &Device, d_x: &Tensor, layout: &Layout, parameters: &mut [Parameter]) {
        if let Some(d_words) = self.words.gradient(parameters) {
            device.embed_backward_words_add(d_x, layout, d_words);
        }
        if let Some(d_positions) = self.positions.as_ref().and_then(|table| table.gradient(parameters)) {
            device.embed_backward_positions(d_x, layout, self.first_position, d_positions);
        }
        if let Some(d_types) = self.token_types.as_ref().and_then(|table| table.gradient(parameters)) {
            device.embed_backward_token_type(d_x, d_types);
        }
    }

    /// The numbers that stay, into `all`.
    pub(super) fn frozen<'a>(&'a self, all: &mut Vec<&'a [f32]>) {
        let tables = [&self.positions, &self.token_types].into_iter().flatten();
        tables.chain([&self.words]).for_each(|table| table.frozen(all));
        self.norm.iter().for_each(|norm| norm.frozen(all));
        self.projection.iter().for_each(|projection| projection.frozen(all));
    }

    pub(super) fn repack(&mut self, device: &Device, parameters: &[Parameter]) {
        if let Some(norm) = &mut self.norm {
            norm.repack(device, parameters);
        }
        if let Some(projection) = &mut self.projection {
            projection.repack(device, parameters);
        }
    }
}

/// The norm of `x`, where there is one, and what its backward needs.
fn normed(device: &Device, x: Tensor, norm: Option<&Norm>) -> (Hidden, Option<NormSaved>) {
    let Some(norm) = norm else { return (x.into(), None) };
    let (y, saved) = norm.forward(device, &x, None);
    (y, Some(saved))
}

/// `d_y -> d_x` of a norm, where there is one.
pub(super) fn normed_backward(
    device: &Device,
    d_y: Tensor,
    saved: Option<&NormSaved>,
    norm: Option<&Norm>,
    parameters: &mut [Parameter],
) -> Hidden {
    match (saved, norm) {
        (Some(saved), Some(norm)) => norm.backward(device, &d_y, None, saved, parameters),
        _ => d_y.into(),
    }
}
