//! Prompt encoders: a small trainable network that computes the prompt, one vector a pseudo token or a row of a prefix.
//!
//! ```text
//! embedding   E [L, d]
//! mlp         E [L, d] -> linear (-> relu -> linear)+
//! lstm        E [L, d] -> bidirectional LSTM -> linear -> relu -> linear
//! prefix      E [L, w], or E [L, d] -> linear -> tanh -> linear [L, w]      encoder/prefix.rs
//! ```
//! L prompt rows of the model's embedding width d; whose sizes the layers have stands in `encoder/shape.rs`.
//! Parameters have the names of the LAMA code and of PEFT (`lstm_head.weight_ih_l0`, `mlp_head.0.weight`) and PyTorch's
//! default initialisation, which no source overrides: E ~ N(0, 1); LSTM weights and biases ~ U(+-1/sqrt(hidden));
//! linear weights and biases ~ U(+-1/sqrt(inputs)). There is no dropout between the layers of an LSTM: all sources
//! have it off by default. The encoder runs once a step; after training only its output is kept.

mod prefix;
mod shape;

use ptune_kernels::{LstmCell, LstmCellGradient, LstmShape};

pub use prefix::PrefixShape;
pub use shape::{EncoderKind, EncoderShape, Shapes};

use crate::ops::{Activation, LstmSaved};
use crate::parameter::{Group, Parameter};
use crate::rng::Rng;
use crate::tensor::{Device, Tensor};

/// A trainable prompt encoder.
pub struct PromptEncoder {
    rows: usize,
    lstm: Option<LstmShape>,
    /// How many linear layers.
    linears: usize,
    /// What stands between two of them.
    activation: Activation,
    /// In the order: table; LSTM cells (layer by layer, forward before reverse) of four each; linear layers of two.
    parameters: Vec<Parameter>,
}

/// What an encoder's backward needs from its forward.
#[derive(Default)]
pub struct EncoderSaved {
    lstm: Option<(Tensor, LstmSaved)>,
    /// The outputs of all linear layers but the last, before the activation.
    hidden: Vec<Tensor>,
}

impl PromptEncoder {
    /// An encoder for `rows` prompt rows of `width` numbers with random parameters. The table of a plain `embedding`
    /// is drawn from N(0, `word_deviation`) instead of N(0, 1): its rows *are* the prompt, and PyTorch's default would
    /// make them twenty times as long as any word embedding (spec: P-tuning section 2.4). The shape must fit the width.
    pub fn new(
        device: &Device,
        shape: &EncoderShape,
        rows: usize,
        width: usize,
        word_deviation: f32,
        rng: &mut Rng,
    ) -> Self {
        assert!(shape.fits(width), "rows of {width} numbers from a lama LSTM");
        let lstm = shape.lstm(width).map(|(hidden, layers)| LstmShape { steps: rows, input: width, hidden, layers });
        let linears = shape.linears(width);
        let mut parameters = Vec::new();
        let mut add = |name: String, rows: usize, columns: usize, draw: &mut dyn FnMut() -> f32| {
            let data: Vec<f32> = (0..rows * columns).map(|_| draw()).collect();
            parameters.push(Parameter::new(device, name, Group::Prompt, device.upload(rows, columns, &data)));
        };
        let deviation = if linears.is_empty() { word_deviation } else { 1.0 };
        add("embedding.weight".into(), rows, width, &mut || rng.normal() * deviation);
        if let Some(LstmShape { hidden, layers, .. }) = lstm {
            let bound = 1.0 / (hidden as f32).sqrt();
            for layer in 0..layers {
                let input = if layer == 0 { width } else { 2 * hidden };
                for direction in ["", "_reverse"] {
                    let name = |part: &str| format!("lstm_head.{part}_l{layer}{direction}");
                    add(name("weight_ih"), 4 * hidden, input, &mut || rng.symmetric(bound));
                    add(name("weight_hh"), 4 * hidden, hidden, &mut || rng.symmetric(bound));
                    add(name("bias_ih"), 1, 4 * hidden, &mut || rng.symmetric(bound));
                    add(name("bias_hh"), 1, 4 * hidden, &mut || rng.symmetric(bound));
                }
            }
        }
        for (i, &(inputs, outputs)) in linears.iter().enumerate() {
            let bound = 1.0 / (inputs as f32).sqrt();
            // PyTorch counts the relus too.
            add(format!("mlp_head.{}.weight", 2 * i), outputs, inputs, &mut || rng.symmetric(bound));
            add(format!("mlp_head.{}.bias", 2 * i), 1, outputs, &mut || rng.symmetric(bound));
        }
        PromptEncoder { rows, lstm, linears: linears.len(), activation: Activation::Relu, parameters }
    }

    /// Prompt rows.
    pub fn rows(&self) -> usize {
        self.rows
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
        let (table, cells, linears) = self.parts();
        let mut saved = EncoderSaved::default();
        if let Some(shape) = &self.lstm {
            let cells: Vec<_> = cells.chunks_exact(4).map(cell).collect();
            saved.lstm = Some(device.lstm(&table.value, &cells, shape));
        }
        let mut prompt = None;
        for layer in linears.chunks_exact(2) {
            let (weight, bias) = (&layer[0].value, Some(&layer[1].value));
            prompt = Some(match prompt {
                None => device.dense(saved.lstm.as_ref().map_or(&table.value, |(y, _)| y), weight, bias),
                Some(hidden) => {
                    let y = device.dense(&device.activation(&hidden, self.activation), weight, bias);
                    saved.hidden.push(hidden);
                    y
                }
            });
        }
        (prompt.unwrap_or_else(|| device.copy(&table.value)), saved)
    }

    /// Writes the gradient of every parameter from that of the prompt; uses up what the forward saved.
    pub fn backward(&mut self, device: &Device, d_prompt: &Tensor, mut saved: EncoderSaved) {
        let split = self.parameters.len() - 2 * self.linears;
        let (below, linears) = self.parameters.split_at_mut(split);
        let (table, cells) = below.split_at_mut(1);
        let mut d_y = device.copy(d_prompt);
        for (i, layer) in linears.chunks_exact_mut(2).enumerate().rev() {
            let [weight, bias] = layer else { unreachable!("chunks of two") };
            let (d_weight, d_bias) = (&mut weight.gradient, Some(&mut bias.gradient));
            d_y = if i > 0 {
                let hidden = &saved.hidden[i - 1];
                let x = device.activation(hidden, self.activation);
                let d_x = device.dense_backward(&d_y, &x, &weight.value, d_weight, d_bias);
                device.activation_backward(d_x, hidden, self.activation)
            } else {
                let x = saved.lstm.as_ref().map_or(&table[0].value, |(y, _)| y);
                device.dense_backward(&d_y, x, &weight.value, d_weight, d_bias)
            };
        }
        table[0].gradient = match (&mut saved.lstm, &self.lstm) {
            (Some((_, saved)), Some(shape)) => {
                let (values, mut gradients) = split_cells(cells);
                device.lstm_backward(&d_y, &table[0].value, saved, &values, &mut gradients, shape)
            }
            _ => d_y,
        };
    }

    /// The table, the LSTM's parameters, the linear layers' parameters.
    fn parts(&self) -> (&Parameter, &[Parameter], &[Parameter]) {
        let split = self.parameters.len() - 2 * self.linears;
        (&self.parameters[0], &self.parameters[1..split], &self.parameters[split..])
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
