//! A classifier on the rows of the model itself: no label words, no language-model head.
//!
//! ```text
//! first token, where rows see both sides    scores = out(activation(dense(h)))      BERT: its pooler, tanh
//! last token, in a causal model             scores = out(h)                         GPT-2: `score`, no bias
//! ```
//! `h` is the row behind the last block and its norm. The layers are those of the family's `ForSequenceClassification`
//! ([`ClassifierSpec`]), without its dropout; all of them are trained, also a pooler that the checkpoint has, in f32.

use crate::checkpoint::Weights;
use crate::error::Result;
use crate::model::spec::ClassifierSpec;
use crate::ops::Activation;
use crate::parameter::{Group, Parameter};
use crate::rng::Rng;
use crate::tensor::{Device, Tensor};

/// The standard deviation of new weights, as transformers draws them.
const DEVIATION: f32 = 0.02;

/// The layers of a classifier.
pub struct Classifier {
    /// Between the two layers; `None` where there is one.
    activation: Option<Activation>,
    bias: bool,
    /// `dense.weight`, `dense.bias`, `weight`, `bias`: those that there are.
    parameters: Vec<Parameter>,
}

/// What a classifier's backward needs from its forward.
pub struct ClassifierSaved {
    /// The rows that it read.
    h: Tensor,
    /// The output of the first layer, before and behind the activation.
    dense: Option<(Tensor, Tensor)>,
}

impl Classifier {
    /// A classifier of rows of `width` numbers with random weights and biases of zero; its first layer starts from the
    /// pooler of the checkpoint, where that has one.
    ///
    /// # Errors
    /// A pooler of another shape, or one that cannot be read.
    pub fn new(
        device: &Device,
        spec: &ClassifierSpec,
        width: usize,
        labels: usize,
        checkpoint: &Weights,
        rng: &mut Rng,
    ) -> Result<Self> {
        let mut classifier = Self::empty(device, spec, width, labels);
        let weights = classifier.parameters.iter_mut().filter(|parameter| parameter.decays);
        weights.flat_map(|weight| weight.value.data_mut()).for_each(|x| *x = rng.normal() * DEVIATION);
        let pooler = spec.dense.as_ref().filter(|dense| dense.pooler).and_then(|dense| dense.name);
        if let Some(pooler) = pooler {
            for (part, parameter) in ["weight", "bias"].iter().zip(&mut classifier.parameters) {
                let name = format!("{pooler}.{part}");
                if checkpoint.contains(&name) {
                    fill(parameter, checkpoint, &name)?;
                }
            }
        }
        Ok(classifier)
    }

    /// The one that `head.safetensors` of an adapter holds.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape or not finite.
    pub fn read(device: &Device, spec: &ClassifierSpec, width: usize, labels: usize, file: &Weights) -> Result<Self> {
        let mut classifier = Self::empty(device, spec, width, labels);
        for parameter in &mut classifier.parameters {
            let name = parameter.name.clone();
            fill(parameter, file, &name)?;
        }
        Ok(classifier)
    }

    /// Whether a file of an adapter's weights holds a classifier.
    pub fn is_in(file: &Weights) -> bool {
        file.contains("classifier.weight")
    }

    fn empty(device: &Device, spec: &ClassifierSpec, width: usize, labels: usize) -> Self {
        let mut parameters = Vec::new();
        let mut add = |name: &str, rows: usize, columns: usize| {
            let value = device.zeros(rows, columns);
            let parameter = Parameter::new(device, format!("classifier.{name}"), Group::Head, value);
            parameters.push(Parameter { decays: name.ends_with("weight"), ..parameter });
        };
        if spec.dense.is_some() {
            add("dense.weight", width, width);
            add("dense.bias", 1, width);
        }
        add("weight", labels, width);
        if spec.bias {
            add("bias", 1, labels);
        }
        Classifier { activation: spec.dense.as_ref().map(|dense| dense.activation), bias: spec.bias, parameters }
    }

    /// `h [examples, width]` -> scores `[examples, labels]`.
    pub fn forward(&self, device: &Device, h: Tensor) -> (Tensor, ClassifierSaved) {
        let (dense, out) = self.parts();
        let dense = self.activation.map(|activation| {
            let x = device.dense(&h, &dense[0].value, Some(&dense[1].value));
            let y = device.activation(&x, activation);
            (x, y)
        });
        let input = dense.as_ref().map_or(&h, |(_, y)| y);
        let scores = device.dense(input, &out[0].value, out.get(1).map(|bias| &bias.value));
        (scores, ClassifierSaved { h, dense })
    }

    /// `d_scores -> d_h`, and the gradients of the parameters.
    pub fn backward(&mut self, device: &Device, d_scores: &Tensor, saved: &ClassifierSaved) -> Tensor {
        let split = self.parameters.len() - 1 - usize::from(self.bias);
        let (dense, out) = self.parameters.split_at_mut(split);
        let input = saved.dense.as_ref().map_or(&saved.h, |(_, y)| y);
        let d_input = backward(device, d_scores, input, out);
        match (&saved.dense, self.activation) {
            (Some((x, _)), Some(activation)) => {
                let d_x = device.activation_backward(d_input, x, activation);
                backward(device, &d_x, &saved.h, dense)
            }
            _ => d_input,
        }
    }

    fn parts(&self) -> (&[Parameter], &[Parameter]) {
        self.parameters.split_at(self.parameters.len() - 1 - usize::from(self.bias))
    }

    /// The trainable parameters.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The trainable parameters, for an optimiser.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }
}

/// The backward of one layer: its weight, and its bias where there is one.
fn backward(device: &Device, d_y: &Tensor, x: &Tensor, layer: &mut [Parameter]) -> Tensor {
    let (weight, bias) = layer.split_at_mut(1);
    let (weight, d_bias) = (&mut weight[0], bias.first_mut().map(|bias| &mut bias.gradient));
    device.dense_backward(d_y, x, &weight.value, &mut weight.gradient, d_bias)
}

/// Reads a tensor of that name into a parameter.
fn fill(parameter: &mut Parameter, file: &Weights, name: &str) -> Result<()> {
    let (rows, columns) = (parameter.value.rows(), parameter.value.columns());
    let shape: &[usize] = if parameter.decays { &[rows, columns] } else { &[columns] };
    let mut values = Vec::new();
    file.read_into(name, shape, &mut values)?;
    parameter.value.data_mut().copy_from_slice(&values);
    Ok(())
}
