//! The loop: everything that was asked is run once as one batch, then a row a text and token.
//!
//! ```text
//! kept rows   | asked 0, tokens 0 ...     | asked 1, tokens 1 ...     |     keys and values of every block
//! a step                            row 0                       row 1       each behind its own, at its next position
//! ```
//! What several examples begin with alike is run once and copied into the room of each. A text that is over takes no row.

use std::ops::Range;

use crate::model::{Columns, Inject, Model};
use crate::ops::{Layout, Span};
use crate::tensor::Device;
use crate::{Error, Result};

const NOT_FINITE: &str = "the model's answers are not finite numbers; its weights or its config.json cannot be right, \
                          or the prompt was trained at too high a learning rate";

/// What is written behind.
pub(super) struct Asked<'a> {
    /// A span or more an example, one answer row each: its last.
    pub(super) layout: &'a Layout,
    /// The prompt of it.
    pub(super) inject: &'a Inject<'a>,
    /// The most tokens of a text.
    pub(super) longest: usize,
}

/// A text that is not over.
struct Open {
    example: usize,
    /// Its rows among the kept ones, so far.
    rows: Range<usize>,
    /// The position of its next row.
    position: usize,
    /// How many more tokens it may have.
    left: usize,
    /// What it wrote last.
    token: u32,
}

/// Writes behind every example: `choose(example, scores)` gives the next token, or `None` where the text is over.
pub(super) fn write_tokens(
    device: &Device,
    model: &Model,
    columns: &Columns,
    asked: Asked<'_>,
    mut choose: impl FnMut(usize, &[f32]) -> Option<u32>,
) -> Result<()> {
    let layout = asked.layout;
    let (scores, run) = model.logits_and_past(layout, asked.inject, columns);
    let positions = model.spec().positions;
    let mut open: Vec<Open> = Vec::new();
    let mut room = 0;
    for (example, &row) in layout.targets.iter().enumerate() {
        let position = layout.positions[row as usize] as usize + 1;
        // The last token is not run.
        let left = asked.longest.min((positions + 1).saturating_sub(position));
        let seen: usize = rows_seen(layout, row).map(|(_, rows)| rows.len()).sum();
        open.push(Open { example, rows: room..room + seen, position, left, token: 0 });
        room += seen + left;
    }
    let mut kept = run.with_room(device, room);
    for (text, &row) in open.iter().zip(&layout.targets) {
        let mut at = text.rows.start;
        for (from, rows) in rows_seen(layout, row) {
            let length = rows.len();
            let past = match from {
                From::Batch => Some(&run),
                From::Past => asked.inject.past, // none: no rows of it
            };
            if let Some(past) = past {
                kept.copy_rows(device, at, past, rows);
            }
            at += length;
        }
    }
    drop(run);
    choose_all(&mut open, scores.read(), scores.columns(), &mut choose)?;
    while !open.is_empty() {
        let layout = next_rows(&open);
        let inject = Inject { past: Some(&kept), lora: asked.inject.lora.clone(), ..Inject::default() };
        let (scores, run) = model.logits_and_past(&layout, &inject, columns);
        for (row, text) in open.iter_mut().enumerate() {
            kept.copy_rows(device, text.rows.end, &run, row..row + 1);
            text.rows.end += 1;
            text.position += 1;
        }
        choose_all(&mut open, scores.read(), scores.columns(), &mut choose)?;
    }
    Ok(())
}

/// Where rows were run.
enum From {
    Past,
    Batch,
}

/// The rows that a row sees, itself included, in their order: of the past, of the ancestors of its span, of its span.
fn rows_seen(layout: &Layout, row: u32) -> impl Iterator<Item = (From, Range<usize>)> {
    let row = row as usize;
    let own = layout.spans.iter().position(|span| span.rows.contains(&row)).expect("spans cover all rows");
    let mut line: Vec<usize> = std::iter::successors(Some(own), |span| layout.spans[*span].parent).collect();
    line.reverse();
    let past = layout.spans[own].past.clone();
    let batch = line.into_iter().map(move |span| {
        let rows = layout.spans[span].rows.clone();
        (From::Batch, rows.start..if span == own { row + 1 } else { rows.end })
    });
    std::iter::once((From::Past, past)).chain(batch)
}

/// The next token of every text; those that are over leave.
fn choose_all(
    open: &mut Vec<Open>,
    scores: &[f32],
    columns: usize,
    choose: &mut impl FnMut(usize, &[f32]) -> Option<u32>,
) -> Result<()> {
    if scores.iter().any(|score| !score.is_finite()) {
        return Err(Error::Failed(NOT_FINITE.into()));
    }
    let mut rows = scores.chunks_exact(columns);
    open.retain_mut(|text| {
        let Some(scores) = rows.next().filter(|_| text.left > 0) else { return false };
        let Some(token) = choose(text.example, scores) else { return false };
        text.token = token;
        text.left -= 1;
        text.left > 0
    });
    Ok(())
}

/// A row for the last token of each text.
fn next_rows(open: &[Open]) -> Layout {
    let span =
        |(row, text): (usize, &Open)| Span { rows: row..row + 1, end: row + 1, parent: None, past: text.rows.clone() };
    Layout {
        ids: open.iter().map(|text| text.token).collect(),
        positions: open.iter().map(|text| text.position as u32).collect(),
        spans: open.iter().enumerate().map(span).collect(),
        targets: (0..open.len() as u32).collect(),
        ..Layout::default()
    }
}
