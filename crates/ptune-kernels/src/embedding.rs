//! The embedding rows a model starts from, with pseudo tokens spliced in; and moving, adding and summing rows.
//!
//! `y[row] = word + position[positions[row]] + token type`, the last two where there are such, where word is `words[ids[row]]` or, for a pseudo token, a
//! row of the prompt instead. Pseudo tokens come as `(row, prompt row)` pairs with ascending rows; the id of such a row
//! is not looked at. Gradients are gathered: a prompt row, or the row of a trained table, sums its places in row order.

use crate::Context;
use crate::context::rows_per_item;
use crate::isa::isa_shells;
use crate::simd::{Simd, load_up_to, store_up_to};

/// `y` `[rows, width]` from `words` and, where there is one, a position table (`[any, width]` each; with the position of
/// each row), `token_type` (`[width]`, added to every row), and `prompt` `[prompt rows, width]`.
pub fn embed(
    ctx: &Context,
    y: &mut [f32],
    ids: &[u32],
    words: &[f32],
    positions: Option<(&[u32], &[f32])>,
    token_type: Option<&[f32]>,
    pseudo: &[(u32, u32)],
    prompt: &[f32],
    width: usize,
) {
    assert!(positions.is_none_or(|(positions, _)| positions.len() == ids.len()));
    assert!(token_type.is_none_or(|t| t.len() == width));
    assert_pseudo(pseudo, ids.len(), prompt.len(), width);
    ctx.run_rows(ids.len(), rows_per_item(width), [(y, width)], |range, [y], _| {
        let mut pseudo = &pseudo[pseudo.partition_point(|(row, _)| (*row as usize) < range.start)..];
        for (row, y) in range.zip(y.chunks_exact_mut(width)) {
            let word = match pseudo.split_first() {
                Some((&(at, prompt_row), rest)) if at as usize == row => {
                    pseudo = rest;
                    part(prompt, prompt_row, width)
                }
                _ => part(words, ids[row], width),
            };
            let position = positions.map(|(positions, table)| part(table, positions[row], width));
            match (token_type, position) {
                // Word and type first, as the models do it: the sum of three depends on the order.
                (Some(token_type), Some(position)) => {
                    add_rows(ctx.isa(), y, word, token_type);
                    add_row(ctx.isa(), y, position);
                }
                (Some(other), None) | (None, Some(other)) => add_rows(ctx.isa(), y, word, other),
                (None, None) => y.copy_from_slice(word),
            }
        }
    });
}

/// `d_prompt` `[prompt rows, width]` from `d_pseudo` `[pseudo.len(), width]`, the gradient rows of the pseudo tokens in
/// the order of `pseudo`. A prompt row sums its places in that order; one without a place gets zeros.
pub fn embed_backward_prompt(
    ctx: &Context,
    d_prompt: &mut [f32],
    d_pseudo: &[f32],
    pseudo: &[(u32, u32)],
    width: usize,
) {
    assert_eq!(d_pseudo.len(), pseudo.len() * width);
    assert_pseudo(pseudo, u32::MAX as usize, d_prompt.len(), width);
    let rows = d_prompt.len().checked_div(width).unwrap_or(0);
    // A prompt row adds pseudo.len() / rows places on average; a few rows an item.
    let block = (rows_per_item(width) * rows / (pseudo.len() + rows).max(1)).max(1);
    ctx.run_rows(rows, block, [(d_prompt, width)], |range, [d_prompt], _| {
        d_prompt.fill(0.0);
        for (place, (_, prompt_row)) in pseudo.iter().enumerate() {
            let prompt_row = *prompt_row as usize;
            if range.contains(&prompt_row) {
                let y = &mut d_prompt[(prompt_row - range.start) * width..][..width];
                add_row(ctx.isa(), y, &d_pseudo[place * width..][..width]);
            }
        }
    });
}

/// `d_words[ids[row]] += d_y[row]` for every row but the pseudo tokens, in row order: d_words `[any, width]`, d_y
/// `[rows, width]`. It adds, because a decoder may share the table.
pub fn embed_backward_words_add(
    ctx: &Context,
    d_words: &mut [f32],
    d_y: &[f32],
    ids: &[u32],
    pseudo: &[(u32, u32)],
    width: usize,
) {
    assert_eq!(d_y.len(), ids.len() * width);
    add_at(ctx, d_words, d_y, width, |row| {
        let is_pseudo = pseudo.binary_search_by_key(&row, |(at, _)| *at as usize).is_ok();
        (!is_pseudo).then(|| ids[row])
    });
}

/// `y[places[i]] += x[i]` in the order of i, whatever the places: y `[any, columns]`, x `[places.len(), columns]`. The
/// gradient of a table from that of the rows which were taken from it.
pub fn add_rows_at(ctx: &Context, y: &mut [f32], x: &[f32], places: &[u32], columns: usize) {
    assert_eq!(x.len(), places.len() * columns);
    add_at(ctx, y, x, columns, |row| Some(places[row]));
}

/// Adds each row of `x` to the row of `y` that `place` names. An item owns some rows of `y` and looks for theirs.
fn add_at(ctx: &Context, y: &mut [f32], x: &[f32], columns: usize, place: impl Fn(usize) -> Option<u32> + Sync) {
    let (all, rows) = (y.len().checked_div(columns).unwrap_or(0), x.len().checked_div(columns).unwrap_or(0));
    assert!((0..rows).all(|row| place(row).is_none_or(|at| (at as usize) < all)), "a place beyond the table");
    let block = all.div_ceil(rows.div_ceil(rows_per_item(columns)).max(1)).max(1);
    ctx.run_rows(all, block, [(y, columns)], |range, [y], _| {
        for row in 0..rows {
            if let Some(at) = place(row).map(|at| at as usize).filter(|at| range.contains(at)) {
                add_row(ctx.isa(), &mut y[(at - range.start) * columns..][..columns], part(x, row as u32, columns));
            }
        }
    });
}

fn assert_pseudo(pseudo: &[(u32, u32)], rows: usize, prompt: usize, width: usize) {
    assert!(pseudo.is_sorted_by(|a, b| a.0 < b.0), "rows of pseudo tokens ascend");
    assert!(pseudo.last().is_none_or(|(row, _)| (*row as usize) < rows));
    assert!(pseudo.iter().all(|(_, prompt_row)| (*prompt_row as usize + 1) * width <= prompt));
}

/// `y[i] = x[rows[i]]`: `y` is `[rows.len(), columns]`.
pub fn gather_rows(ctx: &Context, y: &mut [f32], x: &[f32], rows: &[u32], columns: usize) {
    ctx.run_rows(rows.len(), rows_per_item(columns), [(y, columns)], |range, [y], _| {
        for (row, y) in rows[range].iter().zip(y.chunks_exact_mut(columns.max(1))) {
            y.copy_from_slice(part(x, *row, columns));
        }
    });
}

/// `y[rows[i]] = x[i]` and zeros elsewhere: the backward of [`gather_rows`]. `rows` ascend and are distinct; `x` is
/// `[rows.len(), columns]`.
pub fn scatter_rows(ctx: &Context, y: &mut [f32], x: &[f32], rows: &[u32], columns: usize) {
    scatter(ctx, y, x, rows, columns, |y, x| match x {
        Some(x) => y.copy_from_slice(x),
        None => y.fill(0.0),
    });
}

/// `y[rows[i]] += x[i]`; other rows stay. `rows` ascend and are distinct.
pub fn scatter_rows_add(ctx: &Context, y: &mut [f32], x: &[f32], rows: &[u32], columns: usize) {
    let isa = ctx.isa();
    scatter(ctx, y, x, rows, columns, |y, x| {
        if let Some(x) = x {
            add_row(isa, y, x);
        }
    });
}

/// Calls `f(row of y, its row of x if it has one)` for every row of `y`.
fn scatter(
    ctx: &Context,
    y: &mut [f32],
    x: &[f32],
    rows: &[u32],
    columns: usize,
    f: impl Fn(&mut [f32], Option<&[f32]>) + Sync,
) {
    let all = y.len().checked_div(columns).unwrap_or(0);
    assert_eq!(x.len(), rows.len() * columns);
    assert!(rows.is_sorted_by(|a, b| a < b), "rows ascend and are distinct");
    assert!(columns == 0 || rows.last().is_none_or(|row| (*row as usize) < all));
    ctx.run_rows(all, rows_per_item(columns), [(y, columns)], |range, [y], _| {
        let mut next = rows.partition_point(|row| (*row as usize) < range.start);
        for (row, y) in range.zip(y.chunks_exact_mut(columns)) {
            let is_next = rows.get(next).is_some_and(|r| *r as usize == row);
            f(y, is_next.then(|| part(x, next as u32, columns)));
            next += usize::from(is_next);
        }
    });
}

/// `y += x`.
pub fn add(ctx: &Context, y: &mut [f32], x: &[f32]) {
    assert_eq!(y.len(), x.len());
    ctx.run_rows(x.len(), rows_per_item(1), [(y, 1)], |range, [y], _| add_row(ctx.isa(), y, &x[range]));
}

/// `y[column] = sum over rows of x[row, column]`, in row order; `x` is `[rows, columns]`.
pub fn column_sums(ctx: &Context, y: &mut [f32], x: &[f32], columns: usize) {
    assert_eq!(y.len(), columns);
    assert_eq!(x.len(), x.len().checked_div(columns).unwrap_or(0) * columns);
    let rows = x.len().checked_div(columns).unwrap_or(0);
    // Whole cache lines, so that two workers never write the same.
    let block = rows_per_item(rows).next_multiple_of(16);
    // The output as a matrix of one column: its rows are the columns of `x`.
    ctx.run_rows(columns, block, [(y, 1)], |range, [y], _| {
        y.fill(0.0);
        for x in x.chunks_exact(columns) {
            add_row(ctx.isa(), y, &x[range.clone()]);
        }
    });
}

/// Row `row` of a matrix.
fn part(matrix: &[f32], row: u32, columns: usize) -> &[f32] {
    &matrix[row as usize * columns..][..columns]
}

#[inline(always)]
fn add_row_generic<S: Simd>(s: S, y: &mut [f32], x: &[f32]) {
    for i in (0..x.len()).step_by(S::LANES) {
        let v = s.add(load_up_to(s, &y[i..]), load_up_to(s, &x[i..]));
        store_up_to(s, v, &mut y[i..]);
    }
}

#[inline(always)]
fn add_rows_generic<S: Simd>(s: S, y: &mut [f32], a: &[f32], b: &[f32]) {
    for i in (0..a.len()).step_by(S::LANES) {
        let v = s.add(load_up_to(s, &a[i..]), load_up_to(s, &b[i..]));
        store_up_to(s, v, &mut y[i..]);
    }
}

isa_shells! {
    /// `y += x`.
    fn add_row(isa, y: &mut [f32], x: &[f32]) = add_row_generic;
    /// `y = a + b`.
    fn add_rows(isa, y: &mut [f32], a: &[f32], b: &[f32]) = add_rows_generic;
}

#[cfg(test)]
mod tests;
