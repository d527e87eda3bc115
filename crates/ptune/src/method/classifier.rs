//! A classifier on the rows of the model itself: no label words, no language-model head.
//!
//! ```text
//! first token, where rows see both sides    scores = out(activation(dense(h)))          BERT: its pooler, tanh
//! the same, or the mean of all rows         scores = out(norm(activation(dense(h))))    ModernBERT: its head
//! last token, in a causal model             scores = out(h)                             GPT-2: `score`, no bias
//! ```
//! `h` is the row behind the last block and its norm. The layers are those of the family's `ForSequenceClassification`
//! ([`ClassifierSpec`]), without its dropout; all of them are trained, also those that start from the checkpoint, in f32.

use crate::checkpoint::Weights;
use crate::error::Result;
use crate::model::spec::{ClassifierDense, ClassifierSpec, Pooling};
use crate::ops::{Layout, Norm, NormSaved};
use crate::parameter::{Group, Parameter};
use crate::rng::Rng;
use crate::tensor::{Device, Precision, Tensor};

/// The standard deviation of new weights, as transformers draws them.
const DEVIATION: f32 = 0.02;

/// The layers of a classifier.
pub struct Classifier {
    pooling: Pooling,
    /// What stands in front of the last layer, if anything.
    dense: Option<ClassifierDense>,
    /// `dense.weight`, `dense.bias`, `norm.weight`, `norm.bias`, `weight`, `bias`: those that there are.
    parameters: Vec<Parameter>,
}

/// What a classifier's backward needs from its forward.
pub struct ClassifierSaved {
    /// The rows that it read, or the mean of each example's, and how many those are (empty: one each).
    h: Tensor,
    groups: Vec<usize>,
    /// The output of the first layer, before and behind the activation.
    dense: Option<(Tensor, Tensor)>,
    /// The norm as it was, its output, and what its backward needs.
    norm: Option<(Norm, Tensor, NormSaved)>,
}

impl Classifier {
    /// A classifier of rows of `width` numbers with random weights and biases of zero; its first layer starts from the
    /// pooler of the checkpoint, where that has one, and so does a norm.
    ///
    /// # Errors
    /// A pooler or norm of another shape, or one that cannot be read.
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
        let pooler = spec.dense.as_ref().filter(|dense| dense.pooler).map(|dense| dense.name);
        let norm = spec.dense.as_ref().and_then(|dense| Some(dense.norm.as_ref()?.name.as_str()));
        for parameter in &mut classifier.parameters {
            let starts_from =
                |part: &str, layer: Option<&str>| Some(format!("{}.{}", layer?, parameter.name.strip_prefix(part)?));
            let dense = starts_from("classifier.dense.", pooler);
            let named = dense.or_else(|| starts_from("classifier.norm.", norm));
            match named.filter(|name| checkpoint.contains(name)) {
                Some(name) => fill(parameter, checkpoint, &name)?,
                None if parameter.name == "classifier.norm.weight" => parameter.value.data_mut().fill(1.0),
                None => {}
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
            parameters.push(Parameter { decays: name.ends_with("weight") && name != "norm.weight", ..parameter });
        };
        if let Some(dense) = &spec.dense {
            add("dense.weight", width, width);
            if dense.bias {
                add("dense.bias", 1, width);
            }
            if let Some(norm) = &dense.norm {
                add("norm.weight", 1, width);
                if norm.bias {
                    add("norm.bias", 1, width);
                }
            }
        }
        add("weight", labels, width);
        if spec.bias {
            add("bias", 1, labels);
        }
        Classifier { pooling: spec.pooling, dense: spec.dense.clone(), parameters }
    }

    /// How many rows of this batch each example has for it, where it reads their mean; empty where it reads one of each.
    pub fn groups(&self, layout: &Layout) -> Vec<usize> {
        match self.pooling {
            Pooling::First | Pooling::Last => Vec::new(),
            Pooling::Mean => layout.spans.iter().map(|span| span.rows.len()).collect(),
        }
    }

    /// `h [answer rows, width]` -> scores `[examples, labels]`; `groups` are those of [`Classifier::groups`].
    pub fn forward(&self, device: &Device, h: Tensor, groups: Vec<usize>) -> (Tensor, ClassifierSaved) {
        let device = &device.with_precision(Precision::F32);
        let h = if groups.is_empty() { h } else { device.mean_rows(&h, &groups) };
        let [first, second, out] = self.parts();
        let dense = self.dense.as_ref().map(|dense| {
            let x = device.dense(&h, &first[0].value, first.get(1).map(|bias| &bias.value));
            let y = device.activation(&x, dense.activation);
            (x, y)
        });
        let norm = self.dense.as_ref().zip(dense.as_ref()).and_then(|(spec, (_, y))| {
            let spec = spec.norm.as_ref()?;
            let beta = second.get(1).map(|bias| device.copy(&bias.value));
            let norm = Norm { kind: spec.kind, gamma: device.copy(&second[0].value), beta, eps: spec.eps };
            let (y, saved) = device.norm(y, None, &norm);
            Some((norm, y.exact, saved))
        });
        let saved = ClassifierSaved { h, groups, dense, norm };
        let scores = device.dense(saved.input(), &out[0].value, out.get(1).map(|bias| &bias.value));
        (scores, saved)
    }

    /// `d_scores -> d_h`, and the gradients of the parameters.
    pub fn backward(&mut self, device: &Device, d_scores: &Tensor, saved: &ClassifierSaved) -> Tensor {
        let device = &device.with_precision(Precision::F32);
        let [first, second] = ends(self.dense.as_ref());
        let (before, out) = self.parameters.split_at_mut(second);
        let (first, second) = before.split_at_mut(first);
        let mut d = backward(device, d_scores, saved.input(), out);
        if let Some((norm, _, rows)) = &saved.norm {
            let (gamma, beta) = second.split_at_mut(1);
            let d_beta = beta.first_mut().map(|beta| &mut beta.gradient);
            device.norm_backward_weight(&d, rows, &mut gamma[0].gradient, d_beta);
            d = device.norm_backward(&d, None, rows, norm).exact;
        }
        if let (Some((x, _)), Some(dense)) = (&saved.dense, &self.dense) {
            let d_x = device.activation_backward(d, x, dense.activation);
            d = backward(device, &d_x, &saved.h, first);
        }
        if saved.groups.is_empty() { d } else { device.mean_rows_backward(&d, &saved.groups) }
    }

    /// The parameters of the first layer, of the norm and of the last layer.
    fn parts(&self) -> [&[Parameter]; 3] {
        let [first, second] = ends(self.dense.as_ref());
        [&self.parameters[..first], &self.parameters[first..second], &self.parameters[second..]]
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

impl ClassifierSaved {
    /// What the last layer read.
    fn input(&self) -> &Tensor {
        match (&self.norm, &self.dense) {
            (Some((_, y, _)), _) | (None, Some((_, y))) => y,
            (None, None) => &self.h,
        }
    }
}

/// Where the parameters of the first layer end, and those of the norm.
fn ends(dense: Option<&ClassifierDense>) -> [usize; 2] {
    let Some(dense) = dense else { return [0, 0] };
    let first = 1 + usize::from(dense.bias);
    [first, first + dense.norm.as_ref().map_or(0, |norm| 1 + usize::from(norm.bias))]
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
