//! Every kernel against the obvious loop, at awkward widths, with several work items.

use super::*;
use crate::testing::{assert_close, central_differences, numbers, on_every_isa, wide};

const WIDTHS: [usize; 9] = [1, 7, 8, 9, 15, 16, 17, 26, 50];

/// 9 rows; prompt row 1 stands twice, prompt row 2 nowhere.
const PSEUDO: [(u32, u32); 4] = [(0, 1), (3, 0), (4, 1), (8, 3)];
const PROMPT_ROWS: usize = 4;
/// The ids of pseudo rows are outside the table: nobody may look at them.
const IDS: [u32; 9] = [99, 4, 0, 99, 99, 4, 2, 1, 99];
const POSITIONS: [u32; 9] = [0, 1, 2, 0, 1, 2, 3, 4, 5];

/// The naive twin of [`embed`]; an empty table is none.
fn embed_f64(words: &[f32], table: &[f32], token_type: &[f32], prompt: &[f64], width: usize) -> Vec<f64> {
    let mut y = vec![0.0; 9 * width];
    for (row, y) in y.chunks_mut(width).enumerate() {
        let prompt_row = PSEUDO.iter().find(|(at, _)| *at as usize == row).map(|(_, p)| *p as usize);
        for i in 0..width {
            let word = match prompt_row {
                Some(p) => prompt[p * width + i],
                None => f64::from(words[IDS[row] as usize * width + i]),
            };
            let position = table.get(POSITIONS[row] as usize * width + i).map_or(0.0, |p| f64::from(*p));
            y[i] = word + position + token_type.get(i).map_or(0.0, |t| f64::from(*t));
        }
    }
    y
}

#[test]
fn embed_replaces_the_word_rows_of_pseudo_tokens() {
    for width in WIDTHS {
        let (words, prompt) = (numbers(5 * width, 1), numbers(PROMPT_ROWS * width, 3));
        let tables = [vec![], numbers(6 * width, 2)];
        let token_types = [vec![], numbers(width, 4)];
        for (table, token_type) in tables.iter().flat_map(|t| token_types.iter().map(move |other| (t, other))) {
            let want = embed_f64(&words, table, token_type, &wide(&prompt), width);
            let positions = (!table.is_empty()).then_some((&POSITIONS[..], table.as_slice()));
            let token_type = (!token_type.is_empty()).then_some(token_type.as_slice());
            let kernel = |ctx: &Context| {
                let mut y = vec![9.0; 9 * width];
                embed(ctx, &mut y, &IDS, &words, positions, token_type, &PSEUDO, &prompt, width);
                y
            };
            on_every_isa(kernel, |name, y| assert_close(name, y, &want, 2e-7));
        }
    }
}

#[test]
fn the_prompt_gradient_sums_the_places_of_each_row() {
    for width in WIDTHS {
        let (words, table) = (numbers(5 * width, 1), numbers(6 * width, 2));
        let (prompt, d_y) = (numbers(PROMPT_ROWS * width, 3), numbers(9 * width, 5));
        let loss = |prompt: &[f64]| -> f64 {
            let y = embed_f64(&words, &table, &[], prompt, width);
            y.iter().zip(&d_y).map(|(y, d)| y * f64::from(*d)).sum()
        };
        let want = central_differences(&wide(&prompt), loss);
        let rows: Vec<u32> = PSEUDO.iter().map(|(row, _)| *row).collect();
        let kernel = |ctx: &Context| {
            let (mut d_pseudo, mut d_prompt) = (vec![9.0; 4 * width], vec![9.0; PROMPT_ROWS * width]);
            gather_rows(ctx, &mut d_pseudo, &d_y, &rows, width);
            embed_backward_prompt(ctx, &mut d_prompt, &d_pseudo, &PSEUDO, width);
            d_prompt
        };
        on_every_isa(kernel, |name, d| assert_close(name, d, &want, 1e-6));
    }
}

#[test]
fn the_tables_gradients_sum_the_places_of_each_row() {
    for width in WIDTHS {
        let (words, table) = (numbers(5 * width, 1), numbers(6 * width, 2));
        let (prompt, d_y) = (numbers(PROMPT_ROWS * width, 3), numbers(9 * width, 5));
        let loss = |tables: &[f64]| -> f64 {
            let tables: Vec<f32> = tables.iter().map(|&x| x as f32).collect();
            let (words, table) = tables.split_at(5 * width);
            let y = embed_f64(words, table, &[], &wide(&prompt), width);
            y.iter().zip(&d_y).map(|(y, d)| y * f64::from(*d)).sum()
        };
        // The tables enter linearly: differences of f32 tables are exact enough with a wide step.
        let at = wide(&[words, table].concat());
        let want: Vec<f64> = (0..at.len())
            .map(|i| {
                let (mut above, mut below) = (at.clone(), at.clone());
                above[i] += 0.5;
                below[i] -= 0.5;
                loss(&above) - loss(&below)
            })
            .collect();
        // What was there before stays beneath.
        let start = numbers(11 * width, 6);
        let want: Vec<f64> = want.iter().zip(&start).map(|(d, s)| d + f64::from(*s)).collect();
        let kernel = |ctx: &Context| {
            let mut d = start.clone();
            let (d_words, d_table) = d.split_at_mut(5 * width);
            embed_backward_words_add(ctx, d_words, &d_y, &IDS, &PSEUDO, width);
            add_rows_at(ctx, d_table, &d_y, &POSITIONS, width);
            d
        };
        on_every_isa(kernel, |name, d| assert_close(name, d, &want, 2e-6));
    }
}

#[test]
fn rows_are_added_in_their_order_over_several_items() {
    let (rows, columns) = (1000, 70);
    let x = numbers(rows * columns, 1);
    let places: Vec<u32> = (0..rows as u32).map(|row| row * row % 7).collect();
    let mut want = vec![0.0f32; 7 * columns];
    for (row, place) in places.iter().enumerate() {
        for c in 0..columns {
            want[*place as usize * columns + c] += x[row * columns + c];
        }
    }
    let kernel = |ctx: &Context| {
        let mut y = vec![0.0; 7 * columns];
        add_rows_at(ctx, &mut y, &x, &places, columns);
        y
    };
    on_every_isa(kernel, |name, y| assert_eq!(y, want, "{name}"));
}

#[test]
fn many_rows_are_cut_into_items_and_still_meet_their_pseudo_tokens() {
    let (rows, width) = (1000, 100);
    let ids = vec![0; rows];
    let pseudo: Vec<(u32, u32)> = (0..rows as u32).filter(|row| row % 3 == 0).map(|row| (row, row % 2)).collect();
    let (words, zeros) = (numbers(width, 1), vec![0.0; width]);
    let prompt = numbers(2 * width, 2);
    let want: Vec<f64> = (0..rows)
        .flat_map(|row| if row % 3 == 0 { wide(part(&prompt, row as u32 % 2, width)) } else { wide(&words) })
        .collect();
    let kernel = |ctx: &Context| {
        let mut y = vec![9.0; rows * width];
        embed(ctx, &mut y, &ids, &words, Some((&ids, &zeros)), None, &pseudo, &prompt, width);
        y
    };
    on_every_isa(kernel, |name, y| assert_close(name, y, &want, 0.0));
}

#[test]
fn scatter_undoes_gather_and_adds() {
    let rows = [1u32, 2, 6];
    for width in WIDTHS {
        let (x, start) = (numbers(3 * width, 1), numbers(8 * width, 2));
        let place = |row: usize| rows.iter().position(|r| *r as usize == row);
        let at = |row: usize, i: usize| place(row).map_or(0.0, |p| x[p * width + i]);
        let alone: Vec<f64> = (0..8 * width).map(|i| f64::from(at(i / width, i % width))).collect();
        let added: Vec<f64> = (0..8 * width).map(|i| f64::from(start[i] + at(i / width, i % width))).collect();
        let scattered = |ctx: &Context| {
            let mut y = start.clone();
            scatter_rows(ctx, &mut y, &x, &rows, width);
            y
        };
        on_every_isa(scattered, |name, y| assert_close(name, y, &alone, 0.0));
        let summed = |ctx: &Context| {
            let mut y = start.clone();
            scatter_rows_add(ctx, &mut y, &x, &rows, width);
            y
        };
        on_every_isa(summed, |name, y| assert_close(name, y, &added, 0.0));
    }
}

#[test]
fn sums_of_columns_and_of_slices() {
    for (rows, columns) in [(0, 3), (1, 1), (3, 7), (2, 17), (5, 50), (3000, 70)] {
        let x = numbers(rows * columns, 1);
        let want: Vec<f64> = (0..columns).map(|c| (0..rows).map(|row| f64::from(x[row * columns + c])).sum()).collect();
        let sums = |ctx: &Context| {
            let mut y = vec![9.0; columns];
            column_sums(ctx, &mut y, &x, columns);
            y
        };
        on_every_isa(sums, |name, y| assert_close(name, y, &want, 1e-5));
        let doubled: Vec<f64> = x.iter().map(|x| f64::from(x + x)).collect();
        let twice = |ctx: &Context| {
            let mut y = x.clone();
            add(ctx, &mut y, &x);
            y
        };
        on_every_isa(twice, |name, y| assert_close(name, y, &doubled, 0.0));
    }
}

#[test]
fn no_rows_and_no_pseudo_tokens() {
    let ctx = Context::new(crate::Isa::detect(), 2);
    embed(&ctx, &mut [], &[], &[], Some((&[], &[])), None, &[], &[], 8);
    let mut d_prompt = [9.0; 8];
    embed_backward_prompt(&ctx, &mut d_prompt, &[], &[], 8);
    assert_eq!(d_prompt, [0.0; 8]);
    gather_rows(&ctx, &mut [], &[], &[], 8);
}
