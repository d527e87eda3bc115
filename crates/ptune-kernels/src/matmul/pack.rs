//! The packed form of a weight: panels of as many columns as the register tile covers, so that the inner loop reads
//! memory strictly forward.
//!
//! `panels[p][k][c]` is the factor of `x[.., k]` in column `p * width + c` of the product. The last panel is filled up
//! with zeros.

use std::ops::Range;

use super::tile::Tile;
use crate::Context;
use crate::aligned::Aligned;
use crate::isa::isa_shells;

/// A matrix `[depth, columns]` in panels.
pub(super) struct Panels {
    data: Aligned,
    pub(super) depth: usize,
    pub(super) columns: usize,
    pub(super) width: usize,
}

impl Panels {
    /// Panels whose element (k, column) is `weight[row(column) * inputs + k]`: for `y = x W^T`.
    pub(super) fn of_rows(
        ctx: &Context,
        weight: &[f32],
        inputs: usize,
        rows: usize,
        row: impl Fn(usize) -> usize + Sync,
    ) -> Self {
        Self::fill(ctx, inputs, rows, |panel, width, columns| {
            for (c, column) in columns.enumerate() {
                let from = &weight[row(column) * inputs..][..inputs];
                for (to, x) in panel.iter_mut().skip(c).step_by(width).zip(from) {
                    *to = *x;
                }
            }
        })
    }

    /// Panels whose element (k, column) is `weight[row(k) * inputs + column]`: for `d_x = d_y W`.
    pub(super) fn of_columns(
        ctx: &Context,
        weight: &[f32],
        inputs: usize,
        rows: usize,
        row: impl Fn(usize) -> usize + Sync,
    ) -> Self {
        Self::fill(ctx, rows, inputs, |panel, width, columns| {
            for (k, to) in panel.chunks_exact_mut(width).enumerate() {
                to[..columns.len()].copy_from_slice(&weight[row(k) * inputs..][columns.clone()]);
            }
        })
    }

    fn fill(ctx: &Context, depth: usize, columns: usize, one: impl Fn(&mut [f32], usize, Range<usize>) + Sync) -> Self {
        let width = panel_width(ctx.isa());
        let panels = columns.div_ceil(width);
        let mut data = Aligned::zeros(panels * depth * width);
        let numbers = panels * depth * width;
        ctx.run_rows(panels, 1, [(&mut data[..numbers], depth * width)], |range, [panel], _| {
            one(panel, width, range.start * width..columns.min(range.end * width));
        });
        Panels { data, depth, columns, width }
    }

    /// How many panels there are.
    pub(super) fn len(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    pub(super) fn panel(&self, panel: usize) -> &[f32] {
        &self.data[panel * self.depth * self.width..][..self.depth * self.width]
    }

    /// `len` numbers from number `start` of the first panel on; fewer at the end.
    pub(super) fn part(&self, start: usize, len: usize) -> &[f32] {
        &self.data[self.data.len().min(start)..self.data.len().min(start + len)]
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val::<[f32]>(&self.data)
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
