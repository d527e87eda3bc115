//! The three products of a layer: `y = x W^T + b`, and on the way back `d_x = d_y W` and, where the weight is trained,
//! `d_W = d_y^T x` (`matmul/gradient.rs`). A frozen weight is packed once, a trained one anew after every step.
//!
//! A weight holds its numbers as f32 or, when it is frozen, as bf16 (`matmul/bf16.rs`): half the memory and, where the
//! processor has the instruction, twice the speed.
//!
//! Every element is one chain of multiply-adds in the order of k, started at zero, with the bias added last. So the
//! same row gives the same bits alone and among a thousand, and for any number of threads.
//!
//! A work item is a block of rows against one or more panels. Its size follows from the shapes only. Items go panel by
//! panel, so a panel is read from memory once and from the cache for the other blocks of rows.
//!
//! The few rows of a prompt encoder are in `linear.rs`, which reads its weights as they stand.

mod bf16;
mod gradient;
mod pack;
#[cfg(test)]
mod tests;
mod tile;

use std::ops::Range;

pub use self::gradient::{matmul_backward_weight, matmul_backward_weight_scratch_len};
use self::pack::{Panels, tile_rows};
use self::tile::{Factors, Finish, Input, Output, Singles, Tile};
use crate::Context;
use crate::context::Disjoint;
use crate::isa::{Isa, isa_shells};
use crate::rows::{Dtype, Rows, RowsMut};

/// Multiply-adds of a work item: some ten microseconds with AVX-512, so that the last item to finish costs little and
/// claiming one next to nothing.
const ITEM: usize = 2_000_000;

/// A panel of more numbers than this (half a megabyte) is not fetched while another is in use: the two would not fit
/// into a second-level cache.
const LONG_PANEL: usize = 131_072;

/// How far before its use (in numbers: 8 KB) a panel is fetched that passes by once. Measured: with 8 rows and weights
/// from memory 160 GFLOP/s, against 110 without and 135 with half or four times the distance.
const DISTANCE: usize = 2048;

/// A weight `[outputs, inputs]` (PyTorch's `Linear` layout), packed for one instruction set.
pub struct Weight {
    forward: Panels,
    backward: Option<Panels>,
    inputs: usize,
    /// Whether the panels hold pairs of bf16.
    bf16: bool,
    isa: &'static str,
}

impl Weight {
    /// Packs `weight` `[outputs, inputs]`; with `gradient` also for [`matmul_backward_input`].
    pub fn pack(ctx: &Context, weight: &[f32], outputs: usize, inputs: usize, gradient: bool) -> Self {
        let mut packed = Self::zeros(ctx, outputs, inputs, gradient);
        packed.repack(ctx, weight);
        packed
    }

    /// Packs the given `rows` of `weight` `[any, inputs]` only: output i of the product is row `rows[i]`.
    pub fn pack_rows(ctx: &Context, weight: &[f32], inputs: usize, rows: &[u32], gradient: bool) -> Self {
        let mut packed = Self::zeros(ctx, rows.len(), inputs, gradient);
        packed.repack_rows(ctx, weight, rows);
        packed
    }

    fn zeros(ctx: &Context, outputs: usize, inputs: usize, gradient: bool) -> Self {
        Weight {
            forward: Panels::zeros(ctx, inputs, outputs),
            backward: gradient.then(|| Panels::zeros(ctx, outputs, inputs)),
            inputs,
            bf16: false,
            isa: ctx.isa().name(),
        }
    }

    /// Packs other numbers of the same shape into the same memory: what a step of the optimiser made of the weight.
    pub fn repack(&mut self, ctx: &Context, weight: &[f32]) {
        assert!(!self.bf16, "a weight in bf16 is frozen");
        assert_eq!(weight.len(), self.outputs() * self.inputs(), "weight: outputs x inputs");
        assert_eq!(self.isa, ctx.isa().name(), "the weight was packed for another instruction set");
        self.forward.fill_from_rows(ctx, weight);
        if let Some(backward) = &mut self.backward {
            backward.fill_from_columns(ctx, weight, |row| row);
        }
    }

    /// As [`Weight::repack`], for a weight packed with [`Weight::pack_rows`] and as many rows.
    pub fn repack_rows(&mut self, ctx: &Context, weight: &[f32], rows: &[u32]) {
        assert!(!self.bf16, "a weight in bf16 is frozen");
        assert_eq!(rows.len(), self.outputs(), "as many rows as were packed");
        assert_eq!(self.isa, ctx.isa().name(), "the weight was packed for another instruction set");
        let all = weight.len().checked_div(self.inputs()).unwrap_or(usize::MAX);
        assert!(rows.iter().all(|&row| (row as usize) < all), "a row beyond the weight");
        self.forward.fill_from_chosen_rows(ctx, weight, rows);
        if let Some(backward) = &mut self.backward {
            backward.fill_from_columns(ctx, weight, |row| rows[row] as usize);
        }
    }

    /// How its numbers are kept, and so the rows that it is multiplied with.
    pub fn dtype(&self) -> Dtype {
        if self.bf16 { Dtype::Bf16 } else { Dtype::F32 }
    }

    /// Columns of the product.
    pub fn outputs(&self) -> usize {
        self.forward.columns
    }

    /// Columns of the product's input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The packed numbers as they lie in memory, pairs of bf16 as one f32: for the forward and, where there are any, for
    /// the backward.
    pub fn numbers(&self) -> impl Iterator<Item = &[f32]> {
        [Some(&self.forward), self.backward.as_ref()].into_iter().flatten().map(Panels::numbers)
    }

    /// Memory of the packed numbers.
    pub fn bytes(&self) -> usize {
        self.forward.bytes() + self.backward.as_ref().map_or(0, Panels::bytes)
    }
}

/// `y = x W^T + bias`: y `[rows, outputs]`, x `[rows, inputs]`, bias `[outputs]`. The rows of x are kept as the weight is
/// ([`Weight::dtype`]); those of y as the caller wants them.
pub fn matmul(ctx: &Context, y: RowsMut, x: Rows, w: &Weight, bias: Option<&[f32]>) {
    assert!(bias.is_none_or(|b| b.len() == w.outputs()), "bias: one number an output");
    w.product(ctx, y, x, &w.forward.view(), w.inputs, bias.map_or(Finish::Overwrite, Finish::Bias));
}

/// `y = y + x W^T` in f32, else as [`matmul`].
pub fn matmul_add(ctx: &Context, y: &mut [f32], x: Rows, w: &Weight) {
    w.product(ctx, RowsMut::F32(y), x, &w.forward.view(), w.inputs, Finish::Add);
}

/// `d_x = d_y W`: d_x `[rows, inputs]`, d_y `[rows, outputs]`, kept as in [`matmul`]. The weight must have been packed
/// with its gradient.
pub fn matmul_backward_input(ctx: &Context, d_x: RowsMut, d_y: Rows, w: &Weight) {
    w.product(ctx, d_x, d_y, &w.for_backward(), w.outputs(), Finish::Overwrite);
}

/// `d_x = d_x + d_y W` in f32, else as [`matmul_backward_input`].
pub fn matmul_backward_input_add(ctx: &Context, d_x: &mut [f32], d_y: Rows, w: &Weight) {
    w.product(ctx, RowsMut::F32(d_x), d_y, &w.for_backward(), w.outputs(), Finish::Add);
}

impl Weight {
    fn for_backward(&self) -> Panels<&[f32]> {
        self.backward.as_ref().expect("a weight packed without gradient has no backward product").view()
    }

    /// Of `x [rows, depth]` and the weight's panels, whatever they hold.
    fn product(&self, ctx: &Context, y: RowsMut, x: Rows, panels: &Panels<&[f32]>, depth: usize, finish: Finish) {
        assert_eq!(self.isa, ctx.isa().name(), "the weight was packed for another instruction set");
        assert_eq!(self.dtype(), x.dtype(), "the rows of a product are kept as its weight is");
        let block = if self.bf16 { bf16::block } else { block };
        multiply(ctx, y, &Input { x: x.memory(), depth: self.dtype().stride(depth) }, panels, finish, block);
    }
}

fn product(ctx: &Context, y: &mut [f32], x: &[f32], panels: &Panels<&[f32]>, finish: Finish) {
    multiply(ctx, RowsMut::F32(y), &Input { x, depth: panels.depth }, panels, finish, block);
}

/// What does a work item; there is one for each content of the panels.
type Block = fn(Isa, &Output, &Input, &Panels<&[f32]>, &Plan, usize);

fn multiply(ctx: &Context, y: RowsMut, x: &Input, panels: &Panels<&[f32]>, finish: Finish, block: Block) {
    let (dtype, columns) = (y.dtype(), panels.columns);
    let y = y.memory();
    let rows = rows_of(x.x.len(), x.depth, y.len(), dtype.stride(columns));
    let plan = Plan::new(rows, panels, tile_rows(ctx.isa()), ctx.threads());
    let output = Output { y: Disjoint::new(y), dtype, columns, finish };
    ctx.run(plan.items(), |item, _| block(ctx.isa(), &output, x, panels, &plan, item));
}

/// Rows of a product; a matrix without columns is no matrix of rows, so the other one decides then.
fn rows_of(x: usize, depth: usize, y: usize, columns: usize) -> usize {
    let rows = y.checked_div(columns).or(x.checked_div(depth)).unwrap_or(0);
    assert!(
        rows * depth == x && rows * columns == y,
        "x: rows x {depth}, y: rows x {columns}; got {x} and {y} numbers"
    );
    rows
}

/// How a product is cut into tiles and items; a function of the shapes (and the tile) alone.
struct Plan {
    rows: usize,
    /// Tiles that the rows are spread over evenly: 14 rows are 7 + 7, not 12 + 2.
    tiles: usize,
    /// Tiles of one item.
    tiles_a_block: usize,
    blocks: usize,
    panels: usize,
    panels_an_item: usize,
    /// To guess what this thread does next; no result depends on it.
    threads: usize,
}

impl Plan {
    fn new(rows: usize, panels: &Panels<&[f32]>, tile_rows: usize, threads: usize) -> Self {
        let tiles = rows.div_ceil(tile_rows);
        let panel = (rows * panels.depth * panels.width).max(1);
        let blocks = (panel / ITEM).clamp(1, tiles.max(1));
        let tiles_a_block = tiles.div_ceil(blocks).max(1);
        let panels_an_item = (ITEM / panel).clamp(1, panels.len().max(1));
        Plan {
            rows,
            tiles,
            tiles_a_block,
            blocks: tiles.div_ceil(tiles_a_block),
            panels: panels.len(),
            panels_an_item,
            threads,
        }
    }

    fn items(&self) -> usize {
        self.blocks * self.panels.div_ceil(self.panels_an_item)
    }

    /// The panels and the tiles of an item: all blocks of rows for the first panels, then for the next ones.
    fn item(&self, item: usize) -> (Range<usize>, Range<usize>) {
        let (panels, tiles) = (item / self.blocks * self.panels_an_item, item % self.blocks * self.tiles_a_block);
        (panels..self.panels.min(panels + self.panels_an_item), tiles..self.tiles.min(tiles + self.tiles_a_block))
    }

    /// What to fetch during a tile. Where a panel serves several tiles: a share of the panel that is likely this
    /// thread's next one, so that all of it is there in time. Else what comes a little later.
    fn ahead<'a>(&self, panels: &Panels<&'a [f32]>, panel: usize, last: bool, tile: usize) -> &'a [f32] {
        let numbers = panels.depth * panels.width;
        if self.tiles == 1 || numbers > LONG_PANEL {
            return panels.part(panel * numbers + DISTANCE, numbers);
        }
        // The other threads take the items between.
        let skip = if last && self.blocks == 1 { (self.threads - 1) * self.panels_an_item } else { 0 };
        let share = numbers * tile / self.tiles..numbers * (tile + 1) / self.tiles;
        panels.part((panel + 1 + skip) * numbers + share.start, share.len())
    }

    /// The rows of a tile.
    fn tile(&self, tile: usize) -> Range<usize> {
        tile * self.rows / self.tiles..(tile + 1) * self.rows / self.tiles
    }
}

isa_shells! {
    fn block(isa, y: &Output, x: &Input, panels: &Panels<&[f32]>, plan: &Plan, item: usize) = block_of_singles;
}

#[inline(always)]
fn block_of_singles<S: Tile>(s: S, y: &Output, x: &Input, panels: &Panels<&[f32]>, plan: &Plan, item: usize) {
    block_of(s, Singles, y, x, panels, plan, item);
}

#[inline(always)]
fn block_of<S: Tile>(
    s: S,
    factors: impl Factors<S>,
    y: &Output,
    x: &Input,
    panels: &Panels<&[f32]>,
    plan: &Plan,
    item: usize,
) {
    let (panel_range, tiles) = plan.item(item);
    for p in panel_range.clone() {
        let columns = p * S::COLUMNS..y.columns.min((p + 1) * S::COLUMNS);
        for tile in tiles.clone() {
            let ahead = plan.ahead(panels, p, p + 1 == panel_range.end, tile);
            s.tile(factors, y, x, panels.panel(p), ahead, plan.tile(tile), columns.clone());
        }
    }
}
