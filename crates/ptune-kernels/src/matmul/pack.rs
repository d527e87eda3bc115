//! The packed form of a matrix: panels of as many columns as the register tile covers, so that the inner loop reads
//! memory strictly forward.
//!
//! `panels[p][k][c]` is the factor of `x[.., k]` in column `p * width + c` of the product. The last panel is filled up
//! with zeros. Panels of bf16 hold a pair of factors where others hold one: those of `x[.., 2k]` and `x[.., 2k + 1]`.

use std::ops::{Deref, DerefMut, Range};

use super::tile::Tile;
use crate::Context;
use crate::aligned::Aligned;
use crate::isa::isa_shells;
use crate::transpose::transposed;

/// A matrix `[depth, columns]` in panels, in memory of its own or of another.
pub(super) struct Panels<D = Aligned> {
    data: D,
    pub(super) depth: usize,
    pub(super) columns: usize,
    pub(super) width: usize,
}

impl Panels<Aligned> {
    /// Panels of zeros.
    pub(super) fn zeros(ctx: &Context, depth: usize, columns: usize) -> Self {
        let width = panel_width(ctx.isa());
        Panels { data: Aligned::zeros(columns.div_ceil(width) * width * depth), depth, columns, width }
    }

    pub(super) fn numbers(&self) -> &[f32] {
        &self.data
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.numbers())
    }
}

impl<'a> Panels<&'a mut [f32]> {
    /// Panels in the first numbers of `memory`, to be filled, and the rest of it.
    pub(super) fn within(ctx: &Context, memory: &'a mut [f32], depth: usize, columns: usize) -> (Self, &'a mut [f32]) {
        let (data, rest) = memory.split_at_mut(panels_len(ctx, depth, columns));
        (Panels { data, depth, columns, width: panel_width(ctx.isa()) }, rest)
    }
}

/// Numbers of the panels of a matrix.
pub(super) fn panels_len(ctx: &Context, depth: usize, columns: usize) -> usize {
    let width = panel_width(ctx.isa());
    (columns.div_ceil(width) * width * depth).next_multiple_of(16)
}

impl<D: Deref<Target = [f32]>> Panels<D> {
    pub(super) fn view(&self) -> Panels<&[f32]> {
        Panels { data: &self.data, depth: self.depth, columns: self.columns, width: self.width }
    }
}

impl<D: DerefMut<Target = [f32]>> Panels<D> {
    /// Makes element (k, column) `weight[column * depth + k]`: for `y = x W^T`.
    pub(super) fn fill_from_rows(&mut self, ctx: &Context, weight: &[f32]) {
        let depth = self.depth;
        self.fill(ctx, |panel, width, columns| {
            transposed(ctx.isa(), panel, width, &weight[columns.start * depth..], depth, columns.len(), depth);
        });
    }

    /// The same from chosen rows of the weight: element (k, column) is `weight[rows[column] * depth + k]`.
    pub(super) fn fill_from_chosen_rows(&mut self, ctx: &Context, weight: &[f32], rows: &[u32]) {
        let depth = self.depth;
        self.fill(ctx, |panel, width, columns| {
            for (c, column) in columns.enumerate() {
                let from = &weight[rows[column] as usize * depth..][..depth];
                for (to, x) in panel.iter_mut().skip(c).step_by(width).zip(from) {
                    *to = *x;
                }
            }
        });
    }

    /// Makes element (k, column) `weight[row(k) * columns + column]`: for `d_x = d_y W`.
    pub(super) fn fill_from_columns(&mut self, ctx: &Context, weight: &[f32], row: impl Fn(usize) -> usize + Sync) {
        let stride = self.columns;
        self.fill(ctx, |panel, width, columns| {
            for (k, to) in panel.chunks_exact_mut(width).enumerate() {
                to[..columns.len()].copy_from_slice(&weight[row(k) * stride..][columns.clone()]);
                to[columns.len()..].fill(0.0);
            }
        });
    }

    pub(super) fn fill(&mut self, ctx: &Context, one: impl Fn(&mut [f32], usize, Range<usize>) + Sync) {
        let (depth, columns, width) = (self.depth, self.columns, self.width);
        let panels = columns.div_ceil(width);
        let data = &mut self.data[..panels * depth * width];
        ctx.run_rows(panels, 1, [(data, depth * width)], |range, [panel], _| {
            one(panel, width, range.start * width..columns.min(range.end * width));
        });
    }
}

impl<'a> Panels<&'a [f32]> {
    /// How many panels there are.
    pub(super) fn len(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    pub(super) fn panel(&self, panel: usize) -> &'a [f32] {
        &self.data[panel * self.depth * self.width..][..self.depth * self.width]
    }

    /// `len` numbers from number `start` of the first panel on; fewer at the end.
    pub(super) fn part(&self, start: usize, len: usize) -> &'a [f32] {
        &self.data[self.data.len().min(start)..self.data.len().min(start + len)]
    }
}

isa_shells! {
    fn panel_width(isa) -> usize = width;
    /// The most rows of a tile.
    pub(super) fn tile_rows(isa) -> usize = rows;
}

#[inline(always)]
fn width<S: Tile>(_: S) -> usize {
    S::COLUMNS
}

#[inline(always)]
fn rows<S: Tile>(_: S) -> usize {
    S::ROWS
}
