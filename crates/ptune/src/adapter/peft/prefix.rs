//! A prompt before the text of a causal model, as keys and values: exactly, because no row of the prompt sees the text.
//!
//! The prompt is run alone, once; what every block makes of it as keys and values is PEFT's `PREFIX_TUNING` tensor. A text
//! behind it then stands at positions p, p + 1, ..., as it stood behind the prompt. What the conversion saves is the
//! prompt's own rows in every request.

use crate::model::{Inject, Model};
use crate::ops::{Layout, Span};
use crate::tensor::Device;

/// The keys and values of `prompt [rows, width]`, row-major, in PEFT's layout: `[rows, layers * 2 * kv_heads * head_dim]`,
/// of each row K0, V0, K1, V1, ... The model computes in f32.
///
/// # Panics
/// A model that is not causal, or of another width.
pub fn prefix_of_prompt(model: &Model, device: &Device, prompt: &[f32], rows: usize) -> Vec<f32> {
    assert!(model.spec().causal, "a masked model's prompt sees the text");
    let prompt = device.upload(rows, model.embedding_width(), prompt);
    let layout = Layout {
        ids: vec![0; rows],
        positions: (0..rows as u32).collect(),
        spans: vec![Span { rows: 0..rows, end: rows, parent: None, past: 0..0 }],
        pseudo: (0..rows as u32).map(|row| (row, row)).collect(),
        ..Layout::default()
    };
    let past = model.run_past(&layout, &Inject { prompt_embeds: Some(&prompt), ..Inject::default() });
    let blocks: Vec<_> = (0..model.spec().layers.len()).map(|layer| past.keys_values(layer)).collect();
    let mut numbers = Vec::new();
    for row in 0..rows {
        for (keys, values) in &blocks {
            for table in [keys, values] {
                let width = table.columns();
                numbers.extend_from_slice(&table.read()[row * width..][..width]);
            }
        }
    }
    numbers
}
