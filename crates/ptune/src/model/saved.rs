//! Trained weights as a checkpoint has them: under its names, in its layouts, so that any reader of the checkpoint can
//! read them. What loading changed (transposed, split) is undone.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::spec::Stored;
use crate::parameter::{Group, Parameter};
use crate::tensor::Tensor;

/// How a checkpoint has a parameter.
pub(super) struct SavedAs {
    /// The tensor's name.
    pub(super) name: String,
    /// Its shape: `[outputs, inputs]`, `[inputs, outputs]` when transposed, or `[outputs]`.
    pub(super) shape: Vec<usize>,
    /// Where the parameter's outputs stand in it.
    pub(super) stored: Stored,
}

impl SavedAs {
    /// A tensor of its own, as it is.
    pub(super) fn whole(name: String, shape: &[usize]) -> Self {
        SavedAs { name, shape: shape.into(), stored: Stored::alone(shape[0]) }
    }
}

/// A trained tensor of a checkpoint.
pub struct TrainedTensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape.
    pub shape: Cow<'a, [usize]>,
    /// The parameters that it is made of; one that is all of it says nothing else.
    parts: Vec<(&'a Parameter, Option<&'a SavedAs>)>,
}

impl<'a> TrainedTensor<'a> {
    /// Parameters that are no part of a checkpoint, under their own names, sorted by them: a row is a vector where it does
    /// not decay (a bias).
    pub(crate) fn of_parameters(parameters: &'a [Parameter]) -> Vec<TrainedTensor<'a>> {
        let tensor = |parameter: &'a Parameter| {
            let (rows, columns) = (parameter.value.rows(), parameter.value.columns());
            let shape = if parameter.decays { vec![rows, columns] } else { vec![columns] };
            TrainedTensor { name: &parameter.name, shape: shape.into(), parts: vec![(parameter, None)] }
        };
        let mut tensors: Vec<_> = parameters.iter().map(tensor).collect();
        tensors.sort_by_key(|tensor| tensor.name);
        tensors
    }

    /// Writes the numbers in row-major order into `out`, which keeps its memory between calls.
    pub fn read_into(&self, out: &mut Vec<f32>) {
        self.collect(out, |parameter| &parameter.value);
    }

    /// The same with the gradients of the last backward.
    pub fn read_gradient_into(&self, out: &mut Vec<f32>) {
        self.collect(out, |parameter| &parameter.gradient);
    }

    fn collect(&self, out: &mut Vec<f32>, which: impl Fn(&Parameter) -> &Tensor) {
        out.clear();
        out.resize(self.shape.iter().product(), 0.0);
        for (parameter, saved_as) in &self.parts {
            let value = which(parameter);
            let numbers = value.read();
            let Some(SavedAs { stored, .. }) = saved_as else {
                out.copy_from_slice(numbers);
                continue;
            };
            let inputs = if self.shape.len() == 1 { 1 } else { value.columns() };
            for (o, row) in numbers.chunks_exact(inputs).enumerate() {
                let place = stored.place(o);
                if stored.transposed {
                    let column = out.iter_mut().skip(place).step_by(stored.outputs);
                    column.zip(row).for_each(|(to, x)| *to = *x);
                } else {
                    out[place * inputs..][..inputs].copy_from_slice(row);
                }
            }
        }
    }
}

/// The trained tensors of a group, sorted by name.
pub(super) fn trained_tensors<'a>(
    parameters: &'a [Parameter],
    saved_as: &'a [SavedAs],
    group: Group,
) -> Vec<TrainedTensor<'a>> {
    let mut tensors: BTreeMap<&str, TrainedTensor<'a>> = BTreeMap::new();
    for (parameter, saved_as) in parameters.iter().zip(saved_as).filter(|(parameter, _)| parameter.group == group) {
        let (name, shape) = (saved_as.name.as_str(), Cow::Borrowed(saved_as.shape.as_slice()));
        let tensor = tensors.entry(name).or_insert_with(|| TrainedTensor { name, shape, parts: Vec::new() });
        tensor.parts.push((parameter, Some(saved_as)));
    }
    tensors.into_values().collect()
}
