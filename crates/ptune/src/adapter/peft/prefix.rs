//! A prompt before the text of a causal model, as keys and values: exactly, because no row of the prompt sees the text.
//!
//! The prompt is run alone, once; what every block makes of it as keys and values is PEFT's `PREFIX_TUNING` tensor, and ours
//! ([`Past::to_rows`](crate::model::Past::to_rows)). A text behind it then stands at positions p, p + 1, ..., as it stood
//! behind the prompt. What the conversion saves is the prompt's own rows in every request.

use crate::adapter::{Description, Matrix};
use crate::model::{Inject, Model};
use crate::ops::{Layout, Span};
use crate::prompt::Template;
use crate::prompt::template::PieceKind;
use crate::tensor::Device;

/// The keys and values of a prompt. The model computes in f32.
///
/// # Panics
/// A model that is not causal, or of another width.
pub(super) fn prefix_of_prompt(model: &Model, device: &Device, prompt: &Matrix) -> Matrix {
    assert!(model.spec().causal, "a masked model's prompt sees the text");
    let rows = prompt.rows;
    let layout = Layout {
        ids: vec![0; rows],
        positions: (0..rows as u32).collect(),
        spans: vec![Span { rows: 0..rows, end: rows, parent: None, past: 0..0 }],
        pseudo: (0..rows as u32).map(|row| (row, row)).collect(),
        ..Layout::default()
    };
    let prompt = prompt.upload(device);
    let past = model.run_past_with(&layout, &Inject { prompt_embeds: prompt.as_ref(), ..Inject::default() });
    Matrix::of(Some(&past.to_rows(device)))
}

/// The task behind the prefix: the template without its pseudo tokens, the rest of it as far from the answer as before.
pub(super) fn behind_prefix(description: &Description, template: &Template, tokens: usize) -> Description {
    let text = template.pieces().iter().find(|piece| !matches!(piece.kind, PieceKind::Pseudo(_)));
    let rest = text.map_or(String::new(), |piece| {
        let space = if piece.space { " " } else { "" };
        format!("{space}{}", &template.source()[piece.at..])
    });
    Description {
        template: rest,
        max_tokens: description.max_tokens.saturating_sub(tokens).max(1),
        encoder: None,
        shapes: None,
        prefix_tokens: Some(tokens),
        ..description.clone()
    }
}
