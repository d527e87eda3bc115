//! One transformer block: attention and MLP joined by residuals and norms.
//!
//! A block reads all rows of the batch but may be asked for some of them only: the last block computes its queries,
//! MLP and output for the answer rows alone, and the first block's backward gives the gradient of the pseudo-token
//! rows alone. What attention and MLP add to the residual goes through dropout, when the batch asks for it.

use std::ops::Range;
use std::sync::Arc;

use super::attention::{Attention, AttentionInputs, AttentionSaved};
use super::embedding::normed_backward;
use super::layer::{Learned, Norm};
use super::load::Loader;
use super::lora::BlockLora;
use super::mlp::{Mlp, MlpSaved};
use super::past::BlockPast;
use super::spec::{BlockSpec, Join};
use crate::Result;
use crate::ops::{Hidden, KeysValues, Layout, NormSaved, Rotary};
use crate::parameter::Parameter;
use crate::tensor::{Device, Tensor};

pub(super) struct Block {
    join: Join,
    /// Its places among the model's parameters: none of a frozen one.
    parameters: Range<usize>,
    attention: Attention,
    attention_norm: Option<Norm>,
    mlp: Mlp,
    mlp_norm: Norm,
}

/// What a block's backward needs.
pub(super) struct BlockSaved {
    attention: AttentionSaved,
    /// Where a projection is trained.
    inputs: Option<AttentionInputs>,
    attention_norm: Option<NormSaved>,
    mlp: MlpSaved,
    mlp_norm: NormSaved,
    /// The rows that were computed; `None` for all.
    queries: Option<Vec<u32>>,
}

impl BlockSaved {
    pub(super) fn into_keys_values(self) -> KeysValues {
        self.attention.into_keys_values()
    }
}

impl Block {
    /// `rotary` is that of its spec.
    pub(super) fn load(
        loader: &mut Loader<'_>,
        spec: &BlockSpec,
        hidden: usize,
        rotary: Option<Arc<Rotary>>,
    ) -> Result<Self> {
        let first = loader.parameters.len();
        let mut block = Block {
            join: spec.join,
            parameters: first..first,
            attention: Attention::load(loader, &spec.attention, rotary)?,
            attention_norm: spec.attention_norm.as_ref().map(|norm| loader.norm(norm, hidden)).transpose()?,
            mlp: Mlp::load(loader, &spec.mlp)?,
            mlp_norm: loader.norm(&spec.mlp_norm, hidden)?,
        };
        block.parameters.end = loader.parameters.len();
        Ok(block)
    }

    /// As layer `layer` of the model: `x [rows, hidden]`, behind the rows of `past` -> the block's output at `queries` (at
    /// all rows when `None`).
    pub(super) fn forward(
        &self,
        device: &Device,
        layer: usize,
        x: Hidden,
        past: Option<&KeysValues>,
        layout: &Layout,
        all_rows: &[u32],
        queries: Option<&[u32]>,
        lora: BlockLora<'_>,
    ) -> (Hidden, BlockSaved) {
        let query_rows = queries.unwrap_or(all_rows);
        let rows = [all_rows, query_rows];
        let sites = sites(layer);
        match self.join {
            Join::Post => {
                let chosen = queries.map(|rows| device.gather_hidden(&x, rows));
                let x_queries = chosen.as_ref().unwrap_or(&x);
                let (mut a, attention) =
                    self.attention.forward(device, layer, x.factor(), x_queries.factor(), past, layout, rows, lora);
                device.dropout(&mut a, query_rows, layout, sites[0]);
                let (h, attention_norm) = added_and_normed(device, a, &x_queries.exact, self.attention_norm.as_ref());
                let inputs = self.attention.needs_inputs(lora, all_rows).then(|| {
                    let queries = chosen.map(Hidden::into_factor);
                    AttentionInputs { x: x.into_factor(), queries }
                });
                let (mut m, mlp) = self.mlp.forward(device, h.factor(), lora, query_rows);
                device.dropout(&mut m, query_rows, layout, sites[1]);
                let (y, mlp_norm) = self.mlp_norm.forward(device, &m, Some(&h.exact));
                let mlp = mlp.with_input(self.mlp.needs_input(lora, query_rows).then(|| h.into_factor()));
                let queries = queries.map(<[u32]>::to_vec);
                (y, BlockSaved { attention, inputs, attention_norm, mlp, mlp_norm, queries })
            }
            Join::Pre | Join::Parallel => {
                let x = x.exact;
                let gathered = |x: &Tensor| queries.map(|rows| device.gather_rows(x, rows));
                let (n, attention_norm) = normed_narrow(device, &x, self.attention_norm.as_ref());
                let n_chosen = gathered(&n);
                let n_queries = n_chosen.as_ref().unwrap_or(&n);
                let (mut h, attention) = self.attention.forward(device, layer, &n, n_queries, past, layout, rows, lora);
                device.dropout(&mut h, query_rows, layout, sites[0]);
                let x = gathered(&x).unwrap_or(x);
                device.add(&mut h, &x);
                let inputs =
                    self.attention.needs_inputs(lora, all_rows).then_some(AttentionInputs { x: n, queries: n_chosen });
                let beside = self.join == Join::Parallel;
                let (n, mlp_norm) = self.mlp_norm.forward_narrow(device, if beside { &x } else { &h });
                drop(x);
                let (mut y, mlp) = self.mlp.forward(device, &n, lora, query_rows);
                device.dropout(&mut y, query_rows, layout, sites[1]);
                device.add(&mut y, &h);
                let mlp = mlp.with_input(self.mlp.needs_input(lora, query_rows).then_some(n));
                let queries = queries.map(<[u32]>::to_vec);
                (y.into(), BlockSaved { attention, inputs, attention_norm, mlp, mlp_norm, queries })
            }
        }
    }

    /// `d_y [queries, hidden]` -> `d_x` at the rows `wanted` (at all rows when `None`) and that of a trained past, and the
    /// gradients of trained weights.
    pub(super) fn backward(
        &self,
        device: &Device,
        layer: usize,
        d_y: Hidden,
        saved: &BlockSaved,
        past: BlockPast<'_>,
        layout: &Layout,
        all_rows: &[u32],
        wanted: Option<&[u32]>,
        lora: BlockLora<'_>,
        learned: &mut Learned<'_>,
    ) -> (Hidden, Option<KeysValues>) {
        let queries = saved.queries.as_deref();
        let query_rows = queries.unwrap_or(all_rows);
        let (sites, hidden) = (sites(layer), d_y.exact.columns());
        // The gradient of what was dropped out, where it is not the same.
        let through_dropout =
            |d: &Hidden, site: usize| device.dropout_backward(&d.exact, query_rows, layout, sites[site]);
        let mlp_backward = |d_m: &Hidden, learned: &mut Learned<'_>| {
            let d_dropped = through_dropout(d_m, 1);
            let d_m = d_dropped.as_ref().unwrap_or(d_m.factor());
            self.mlp.backward(device, d_m, &saved.mlp, lora, query_rows, learned)
        };
        let attention_backward = |d_a: &Hidden, learned: &mut Learned<'_>| {
            let d_dropped = through_dropout(d_a, 0);
            let d_a = d_dropped.as_ref().unwrap_or(d_a.factor());
            let kept = (&saved.attention, saved.inputs.as_ref());
            let rows = [all_rows, query_rows];
            self.attention.backward(device, layer, d_a, kept, past, layout, rows, wanted, lora, learned)
        };
        // Where no row is wanted.
        let none = || device.zeros(0, hidden).into();
        match self.join {
            Join::Post => {
                let d_m = self.mlp_norm.backward(device, &d_y.exact, None, &saved.mlp_norm, learned.parameters);
                drop(d_y);
                let mut d_h = mlp_backward(&d_m, learned);
                device.add(&mut d_h, &d_m.exact);
                drop(d_m);
                // The gradient of the attention's output and of the residual x.
                let (norm, saved_norm) = (self.attention_norm.as_ref(), saved.attention_norm.as_ref());
                let d_a = normed_backward(device, d_h, saved_norm, norm, learned.parameters);
                let (gradients, d_past) = attention_backward(&d_a, learned);
                let Some((mut d_queries, mut d_x)) = gradients else { return (none(), d_past) };
                device.add(&mut d_queries, &d_a.exact);
                add_queries(device, &mut d_x, &d_queries, queries, wanted, layout.rows());
                (d_x.into(), d_past)
            }
            Join::Pre | Join::Parallel => {
                let d_n = mlp_backward(&d_y, learned);
                // Through the MLP and the residual: that of h, or of x.
                let d_h = self.mlp_norm.backward(device, &d_n, Some(&d_y.exact), &saved.mlp_norm, learned.parameters);
                drop(d_n);
                let d_a = if self.join == Join::Parallel { &d_y } else { &d_h };
                let (gradients, d_past) = attention_backward(d_a, learned);
                drop(d_y);
                let Some((d_queries, mut d_n)) = gradients else { return (none(), d_past) };
                add_queries(device, &mut d_n, &d_queries, queries, wanted, layout.rows());
                drop(d_queries);
                let residual = at_wanted(device, &d_h.exact, queries, wanted, layout.rows());
                let residual = residual.as_ref().unwrap_or(&d_h.exact);
                let (Some(norm), Some(all)) = (&self.attention_norm, &saved.attention_norm) else {
                    device.add(&mut d_n, residual);
                    return (d_n.into(), d_past);
                };
                let chosen = wanted.map(|rows| device.gather_saved(all, rows));
                let at_wanted = chosen.as_ref().unwrap_or(all);
                (norm.backward(device, &d_n, Some(residual), at_wanted, learned.parameters), d_past)
            }
        }
    }

    /// The keys and values of `x [rows, hidden]` alone.
    pub(super) fn keys_values(
        &self,
        device: &Device,
        x: &Hidden,
        layout: &Layout,
        all_rows: &[u32],
        lora: BlockLora<'_>,
    ) -> KeysValues {
        if self.join == Join::Post {
            return self.attention.keys_values(device, x.factor(), layout, all_rows, lora);
        }
        let (n, _) = normed_narrow(device, &x.exact, self.attention_norm.as_ref());
        self.attention.keys_values(device, &n, layout, all_rows, lora)
    }

    /// Takes the gradients that a layer above left for the weights that it shares with the next one: a backward
    /// overwrites.
    pub(super) fn take_gradients(&self, device: &Device, parameters: &mut [Parameter]) -> Vec<Tensor> {
        let take = |parameter: &mut Parameter| {
            let empty = device.uninitialised(parameter.value.rows(), parameter.value.columns());
            std::mem::replace(&mut parameter.gradient, empty)
        };
        parameters[self.parameters.clone()].iter_mut().map(take).collect()
    }

    /// Adds what [`Block::take_gradients`] took.
    pub(super) fn add_gradients(&self, device: &Device, taken: &[Tensor], parameters: &mut [Parameter]) {
        for (parameter, taken) in parameters[self.parameters.clone()].iter_mut().zip(taken) {
            device.add(&mut parameter.gradient, taken);
        }
    }

    /// The numbers that stay, into `all`.
    pub(super) fn frozen<'a>(&'a self, all: &mut Vec<&'a [f32]>) {
        self.attention.frozen(all);
        self.mlp.frozen(all);
        self.attention_norm.iter().chain([&self.mlp_norm]).for_each(|norm| norm.frozen(all));
    }

    pub(super) fn repack(&mut self, device: &Device, parameters: &[Parameter]) {
        self.attention.repack(device, parameters);
        if let Some(norm) = &mut self.attention_norm {
            norm.repack(device, parameters);
        }
        self.mlp.repack(device, parameters);
        self.mlp_norm.repack(device, parameters);
    }
}

/// The norm of `x + residual`, or the sum where there is no norm.
fn added_and_normed(
    device: &Device,
    mut x: Tensor,
    residual: &Tensor,
    norm: Option<&Norm>,
) -> (Hidden, Option<NormSaved>) {
    let Some(norm) = norm else {
        device.add(&mut x, residual);
        return (x.into(), None);
    };
    let (y, saved) = norm.forward(device, &x, Some(residual));
    (y, Some(saved))
}

/// The norm of `x`, or `x` itself, for products alone to read.
fn normed_narrow(device: &Device, x: &Tensor, norm: Option<&Norm>) -> (Tensor, Option<NormSaved>) {
    let Some(norm) = norm else { return (device.narrow_copy(x), None) };
    let (y, saved) = norm.forward_narrow(device, x);
    (y, Some(saved))
}

/// Dropout's names of what the attention and the MLP of a layer give; 0 is the embedding's.
fn sites(layer: usize) -> [u32; 2] {
    let layer = layer as u32;
    [1 + 2 * layer, 2 + 2 * layer]
}

/// Adds `d_queries`, which stand at `queries`, to `d_x`, which stands at `wanted`; `None` means all of the `rows` rows.
fn add_queries(
    device: &Device,
    d_x: &mut Tensor,
    d_queries: &Tensor,
    queries: Option<&[u32]>,
    wanted: Option<&[u32]>,
    rows: usize,
) {
    match (queries, wanted) {
        (Some(queries), None) => device.scatter_rows_add(d_x, d_queries, queries),
        _ => device.add(d_x, at_wanted(device, d_queries, queries, wanted, rows).as_ref().unwrap_or(d_queries)),
    }
}

/// The rows `wanted` of `x`, which stands at `queries`, zeros where it has none; `None` where that is `x` itself.
fn at_wanted(
    device: &Device,
    x: &Tensor,
    queries: Option<&[u32]>,
    wanted: Option<&[u32]>,
    rows: usize,
) -> Option<Tensor> {
    let spread = queries.map(|queries| device.scatter_rows(x, queries, rows));
    wanted.map(|wanted| device.gather_rows(spread.as_ref().unwrap_or(x), wanted)).or(spread)
}
