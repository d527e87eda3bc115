//! Prompt encoders: a small trainable network that computes the prompt, one vector a pseudo token.
//!
//! With L prompt rows and embedding width d, in the shapes of the paper's LAMA code (`LAMA/p_tuning/prompt_encoder.py`):
//!
//! ```text
//! embedding   E [L, d]
//! mlp         E [L, d] -> linear d, d -> relu -> linear d, d
//! lstm        E [L, d] -> bidirectional LSTM, 2 layers, hidden d/2 each way -> linear d, d -> relu -> linear d, d
//! ```
//! Parameters have PyTorch's names and default initialisation (nothing in the reference overrides it):
//! E ~ N(0, 1); LSTM weights and biases ~ U(+-1/sqrt(d/2)); linear weights and biases ~ U(+-1/sqrt(d)).
//! The encoder runs once a step; after training only its output is kept.

use serde::{Deserialize, Serialize};

use ptune_kernels::{LstmCell, LstmCellGradient, LstmShape};

use crate::ops::{Activation, LstmSaved};
use crate::parameter::{Group, Parameter};
use crate::rng::Rng;
use crate::tensor::{Device, Tensor};

/// Which network computes the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderKind {
    /// A plain table.
    Embedding,
    /// A table and two linear layers.
    Mlp,
    /// A table, a bidirectional LSTM and two linear layers.
    Lstm,
}

impl EncoderKind {
    /// The name in run files and adapters.
    pub fn name(self) -> &'static str {
        match self {
            EncoderKind::Embedding => "embedding",
            EncoderKind::Mlp => "mlp",
            EncoderKind::Lstm => "lstm",
        }
    }

    /// Whether it can give rows of this width: an LSTM's two directions make half a row each.
    pub fn fits(self, width: usize) -> bool {
        self != EncoderKind::Lstm || width.is_multiple_of(2)
    }
}

const LSTM_LAYERS: usize = 2;

/// A trainable prompt encoder.
pub struct PromptEncoder {
    kind: EncoderKind,
    lstm: LstmShape,
    /// In the order: table; LSTM cells (layer by layer, forward before reverse) of four each; MLP of four.
    parameters: Vec<Parameter>,
}

/// What an encoder's backward needs from its forward.
#[derive(Default)]
pub struct EncoderSaved {
    lstm: Option<(Tensor, LstmSaved)>,
    /// The first linear layer's output, before the relu.
    hidden: Option<Tensor>,
}

impl PromptEncoder {
    /// An encoder for `rows` prompt rows of `width` numbers with random parameters. The table of a plain `embedding`
    /// is drawn from N(0, `word_deviation`) instead of N(0, 1): its rows *are* the prompt, and PyTorch's default would
    /// make them twenty times as long as any word embedding (spec: P-tuning section 2.4).
    pub fn new(
        device: &Device,
        kind: EncoderKind,
        rows: usize,
        width: usize,
        word_deviation: f32,
        rng: &mut Rng,
    ) -> Self {
        let hidden = width / 2;
        let lstm = LstmShape { steps: rows, input: width, hidden, layers: LSTM_LAYERS };
        let mut parameters = Vec::new();
        let mut add = |name: String, rows: usize, columns: usize, draw: &mut dyn FnMut() -> f32| {
            let data: Vec<f32> = (0..rows * columns).map(|_| draw()).collect();
            parameters.push(Parameter::new(device, name, Group::Prompt, device.upload(rows, columns, &data)));
        };
        let deviation = if kind == EncoderKind::Embedding { word_deviation } else { 1.0 };
        add("embedding.weight".into(), rows, width, &mut || rng.normal() * deviation);
        if kind == EncoderKind::Lstm {
            let bound = 1.0 / (hidden as f32).sqrt();
            for layer in 0..LSTM_LAYERS {
                let input = if layer == 0 { width } else { 2 * hidden };
                for direction in ["", "_reverse"] {
                    let name = |part: &str| format!("lstm.{part}_l{layer}{direction}");
                    add(name("weight_ih"), 4 * hidden, input, &mut || rng.symmetric(bound));
                    add(name("weight_hh"), 4 * hidden, hidden, &mut || rng.symmetric(bound));
                    add(name("bias_ih"), 1, 4 * hidden, &mut || rng.symmetric(bound));
                    add(name("bias_hh"), 1, 4 * hidden, &mut || rng.symmetric(bound));
                }
            }
        }
        if kind != EncoderKind::Embedding {
            let bound = 1.0 / (width as f32).sqrt();
            for layer in ["mlp.0", "mlp.2"] {
                add(format!("{layer}.weight"), width, width, &mut || rng.symmetric(bound));
                add(format!("{layer}.bias"), 1, width, &mut || rng.symmetric(bound));
            }
        }
        PromptEncoder { kind, lstm, parameters }
    }

    /// Prompt rows.
    pub fn rows(&self) -> usize {
        self.lstm.steps
    }

    /// The trainable parameters.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The trainable parameters, for an optimiser.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    /// The numbers of the table `[rows, width]`, to start it from words.
    pub fn table_mut(&mut self) -> &mut [f32] {
        self.parameters[0].value.data_mut()
    }

    /// The prompt `[rows, width]`.
    pub fn forward(&self, device: &Device) -> (Tensor, EncoderSaved) {
        let table = &self.parameters[0].value;
        let mut saved = EncoderSaved::default();
        if self.kind == EncoderKind::Embedding {
            return (device.copy(table), saved);
        }
        if self.kind == EncoderKind::Lstm {
            saved.lstm = Some(device.lstm(table, &self.cells(), &self.lstm));
        }
        let x = saved.lstm.as_ref().map_or(table, |(y, _)| y);
        let [w0, b0, w2, b2] = self.mlp();
        let hidden = device.dense(x, &w0.value, &b0.value);
        let prompt = device.dense(&device.activation(&hidden, Activation::Relu), &w2.value, &b2.value);
        saved.hidden = Some(hidden);
        (prompt, saved)
    }

    /// Writes the gradient of every parameter from that of the prompt; uses up what the forward saved.
    pub fn backward(&mut self, device: &Device, d_prompt: &Tensor, mut saved: EncoderSaved) {
        let Some(hidden) = &saved.hidden else {
            self.parameters[0].gradient = device.copy(d_prompt);
            return;
        };
        let count = self.parameters.len();
        let (below, mlp) = self.parameters.split_at_mut(count - 4);
        let [w0, b0, w2, b2] = mlp else { unreachable!("split at four") };
        let active = device.activation(hidden, Activation::Relu);
        let d_active = device.dense_backward(d_prompt, &active, &w2.value, &mut w2.gradient, &mut b2.gradient);
        let d_hidden = device.activation_backward(&d_active, hidden, Activation::Relu);
        let (table, cells) = below.split_at_mut(1);
        let x = saved.lstm.as_ref().map_or(&table[0].value, |(y, _)| y);
        let d_x = device.dense_backward(&d_hidden, x, &w0.value, &mut w0.gradient, &mut b0.gradient);
        table[0].gradient = match &mut saved.lstm {
            None => d_x,
            Some((_, saved)) => {
                let (values, mut gradients) = split_cells(cells);
                device.lstm_backward(&d_x, &table[0].value, saved, &values, &mut gradients, &self.lstm)
            }
        };
    }

    fn cells(&self) -> Vec<LstmCell<'_>> {
        self.parameters[1..self.parameters.len() - 4].chunks_exact(4).map(cell).collect()
    }

    fn mlp(&self) -> [&Parameter; 4] {
        let at = self.parameters.len() - 4;
        std::array::from_fn(|i| &self.parameters[at + i])
    }
}

fn cell(four: &[Parameter]) -> LstmCell<'_> {
    let [weight_ih, weight_hh, bias_ih, bias_hh] = std::array::from_fn(|i| four[i].value.data());
    LstmCell { weight_ih, weight_hh, bias_ih, bias_hh }
}

/// The cells' values and, apart from them, their gradients.
fn split_cells(parameters: &mut [Parameter]) -> (Vec<LstmCell<'_>>, Vec<LstmCellGradient<'_>>) {
    let mut values = Vec::new();
    let mut gradients = Vec::new();
    for four in parameters.chunks_exact_mut(4) {
        let mut fields = four.iter_mut().map(|p| (p.value.data(), p.gradient.data_mut()));
        let mut next = || fields.next().expect("chunks of four");
        let ((weight_ih, d_weight_ih), (weight_hh, d_weight_hh)) = (next(), next());
        let ((bias_ih, d_bias_ih), (bias_hh, d_bias_hh)) = (next(), next());
        values.push(LstmCell { weight_ih, weight_hh, bias_ih, bias_hh });
        gradients.push(LstmCellGradient {
            weight_ih: d_weight_ih,
            weight_hh: d_weight_hh,
            bias_ih: d_bias_ih,
            bias_hh: d_bias_hh,
        });
    }
    (values, gradients)
}

#[cfg(test)]
mod tests;
