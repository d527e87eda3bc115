//! What a prefix is computed from: keys and values of every block for each of its rows.
//!
//! With L rows, the model's key width d and w = 2 x blocks x d numbers a row (the matrix of
//! `Model::past_of_rows`):
//!
//! ```text
//! plain        E [L, w]                                             Li & Liang 2021 at inference; P-tuning v2
//! projected    E [L, d] -> linear d,h -> tanh -> linear h,w         the reparametrisation of Li & Liang
//! ```
//! Names, shapes and starting values are those of PEFT's `PrefixEncoder` (`embedding.weight`, `transform.0.weight`), with
//! `prefix.` in front. After training only the computed rows are kept, so that both are the same to whoever reads them.

use super::PromptEncoder;
use crate::ops::Activation;
use crate::parameter::{Group, Parameter};
use crate::prompt::initial::PrefixInit;
use crate::rng::Rng;
use crate::tensor::Device;

/// Sizes of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixShape {
    /// Rows.
    pub rows: usize,
    /// Numbers of a row: keys and values of every block.
    pub width: usize,
    /// The widths of the table's rows and of the hidden layer where the prefix is projected.
    pub projected: Option<(usize, usize)>,
}

impl PromptEncoder {
    /// What computes a prefix, with its starting values.
    pub fn prefix(device: &Device, shape: &PrefixShape, init: PrefixInit, rng: &mut Rng) -> Self {
        let mut parameters = Vec::new();
        let mut add = |name: &str, rows: usize, columns: usize, draw: &mut dyn FnMut() -> f32| {
            let data: Vec<f32> = (0..rows * columns).map(|_| draw()).collect();
            let name = format!("prefix.{name}");
            parameters.push(Parameter::new(device, name, Group::Prompt, device.upload(rows, columns, &data)));
        };
        let start = |bound: f32| if init == PrefixInit::Zero { 0.0 } else { bound };
        match shape.projected {
            None => {
                let deviation = start(PLAIN_DEVIATION);
                add("embedding.weight", shape.rows, shape.width, &mut || rng.normal() * deviation);
            }
            Some((table, hidden)) => {
                add("embedding.weight", shape.rows, table, &mut || rng.normal());
                let bound = 1.0 / (table as f32).sqrt();
                add("transform.0.weight", hidden, table, &mut || rng.symmetric(bound));
                add("transform.0.bias", 1, hidden, &mut || rng.symmetric(bound));
                let bound = start(1.0 / (hidden as f32).sqrt());
                add("transform.2.weight", shape.width, hidden, &mut || rng.symmetric(bound));
                add("transform.2.bias", 1, shape.width, &mut || rng.symmetric(bound));
            }
        }
        let linears = if shape.projected.is_some() { 2 } else { 0 };
        PromptEncoder { rows: shape.rows, lstm: None, linears, activation: Activation::Tanh, parameters }
    }
}

/// Of the numbers of a plain table, as PyTorch has it. On the sentiment task of `examples/` smaller ones (0.3) learn no faster, and
/// zeros slower; a text's keys and values learn as fast.
const PLAIN_DEVIATION: f32 = 1.0;
