//! Tensors of a checkpoint -> layers: read one at a time into one reused buffer, packed at once. A frozen tensor is never
//! held twice; a trained one is also a parameter. Where nothing is trained, several threads load, each with its buffer.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Gradients;
use super::layer::{Linear, Norm, Table, Trained};
use super::saved::SavedAs;
use super::spec::{LinearSpec, NormSpec, Stored};
use crate::Result;
use crate::checkpoint::Weights;
use crate::ops;
use crate::parameter::{Group, Parameter};
use crate::tensor::{Device, Tensor};

/// Threads that read and pack at the same time: more would wait for the memory.
const MOST_THREADS: usize = 4;

/// Reads layers by name and tells how far it is.
pub(super) struct Loader<'a> {
    pub(super) device: &'a Device,
    weights: &'a Weights,
    /// Trained tensors that replace those of `weights`.
    tuned: &'a [Weights],
    gradients: Gradients,
    /// The group of what is loaded next.
    pub(super) group: Group,
    /// What is trained, and how a checkpoint has it.
    pub(super) parameters: Vec<Parameter>,
    pub(super) saved_as: Vec<SavedAs>,
    buffer: Vec<f32>,
    bias: Vec<f32>,
    /// A layer's own numbers, where the file has them otherwise.
    part: Vec<f32>,
    /// The name of the shared tensors that `buffer` and `bias` hold.
    fused: Option<String>,
    /// Of all threads together.
    loaded: &'a AtomicUsize,
    total: usize,
    /// Of the first thread only.
    progress: Option<&'a mut dyn FnMut(usize, usize)>,
}

impl<'a> Loader<'a> {
    /// `loaded` counts tensors from 0; `progress(loaded, total)` is called now and then until it is the `total` that the
    /// checkpoint holds.
    pub(super) fn new(
        device: &'a Device,
        weights: &'a Weights,
        tuned: &'a [Weights],
        gradients: Gradients,
        loaded: &'a AtomicUsize,
        progress: Option<&'a mut dyn FnMut(usize, usize)>,
    ) -> Self {
        let total = weights.names().count();
        Loader {
            device,
            weights,
            tuned,
            gradients,
            group: Group::Backbone,
            parameters: Vec::new(),
            saved_as: Vec::new(),
            buffer: Vec::new(),
            bias: Vec::new(),
            part: Vec::new(),
            fused: None,
            loaded,
            total,
            progress,
        }
    }

    /// `load` of 0 to `count` - 1, in this order in the result; several at a time unless they are trained, for then the
    /// order of the parameters is that of loading. The first thing that is wrong is the error.
    pub(super) fn each<T: Send>(
        &mut self,
        count: usize,
        load: impl Fn(&mut Loader<'_>, usize) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let threads = if self.gradients == Gradients::Weights { 1 } else { self.threads().min(count) };
        let next = AtomicUsize::new(0);
        // What is claimed is loaded to its end, whatever happens elsewhere: the lowest error is always found.
        let work = |loader: &mut Loader<'_>| {
            let mut mine = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    return mine;
                }
                let part = load(loader, i);
                let failed = part.is_err();
                mine.push((i, part));
                if failed {
                    return mine;
                }
            }
        };
        let (device, weights, tuned, gradients, loaded) =
            (self.device, self.weights, self.tuned, self.gradients, self.loaded);
        let mut parts = std::thread::scope(|scope| {
            let helper = || work(&mut Loader::new(device, weights, tuned, gradients, loaded, None));
            let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(helper)).collect();
            let mut parts = work(self);
            for helper in helpers {
                parts.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            parts
        });
        parts.sort_by_key(|(i, _)| *i);
        parts.into_iter().map(|(_, part)| part).collect()
    }

    fn threads(&self) -> usize {
        self.device.threads().min(MOST_THREADS)
    }

    /// A linear layer.
    pub(super) fn linear(&mut self, spec: &LinearSpec) -> Result<Linear> {
        let (weight, bias) = (format!("{}.weight", spec.name), format!("{}.bias", spec.name));
        // Layers that share a tensor come one after the other: it is read once.
        if self.fused.as_ref() != Some(&spec.name) {
            self.source(&weight).read_into(&weight, &spec.stored_shape(), &mut self.buffer)?;
            if spec.bias {
                self.source(&bias).read_into(&bias, &[spec.stored.outputs], &mut self.bias)?;
            }
            self.fused = (spec.stored.outputs > spec.outputs).then(|| spec.name.clone());
            self.count(1 + usize::from(spec.bias));
        }
        let Stored { transposed, outputs: stored, first, run, .. } = spec.stored;
        let numbers = if transposed {
            transpose(&mut self.part, &self.buffer, stored, first..first + spec.outputs);
            &self.part[..]
        } else if run == spec.outputs {
            &self.buffer[first * spec.inputs..][..spec.outputs * spec.inputs]
        } else {
            take_rows(&mut self.part, &self.buffer, spec.inputs, &spec.stored, spec.outputs);
            &self.part[..]
        };
        let biases = spec.bias.then(|| {
            let mut biases = Vec::new();
            take_rows(&mut biases, &self.bias, 1, &spec.stored, spec.outputs);
            biases
        });
        let gradient = self.gradients != Gradients::None;
        let packed = self.device.pack_linear(numbers, biases.as_deref(), spec.outputs, spec.inputs, gradient);
        if self.gradients != Gradients::Weights {
            return Ok(Linear { packed, trained: None });
        }
        let numbers = self.device.upload(spec.outputs, spec.inputs, numbers);
        let as_weight = SavedAs { name: weight, shape: spec.stored_shape().into(), stored: spec.stored };
        let weight = self.parameter(numbers, as_weight, true);
        let bias = biases.map(|biases| {
            let stored = Stored { transposed: false, ..spec.stored };
            let as_bias = SavedAs { name: bias, shape: vec![stored.outputs], stored };
            self.parameter(self.device.upload(1, spec.outputs, &biases), as_bias, false)
        });
        let trained = Some(Trained { weight, bias });
        Ok(Linear { packed, trained })
    }

    /// A norm over `width` columns.
    pub(super) fn norm(&mut self, spec: &NormSpec, width: usize) -> Result<Norm> {
        let old = format!("{}.gamma", spec.name);
        let (gamma_name, beta) =
            if self.weights.contains(&old) { (old, "beta") } else { (spec.name.clone() + ".weight", "bias") };
        let beta_name = format!("{}.{beta}", spec.name);
        let gamma = self.matrix(&gamma_name, &[width])?;
        let beta = if spec.bias { Some(self.matrix(&beta_name, &[width])?) } else { None };
        let trained = (self.gradients == Gradients::Weights).then(|| {
            let mut copy =
                |x: &Tensor, name| self.parameter(self.device.copy(x), SavedAs::whole(name, &[width]), false);
            let weight = copy(&gamma, gamma_name);
            Trained { weight, bias: beta.as_ref().map(|beta| copy(beta, beta_name)) }
        });
        Ok(Norm { norm: ops::Norm { kind: spec.kind, gamma, beta, eps: spec.eps }, trained })
    }

    /// A table `[rows, columns]`.
    pub(super) fn table(&mut self, name: &str, shape: &[usize; 2]) -> Result<Table> {
        let tensor = self.matrix(name, shape)?;
        Ok(self.as_table(tensor, SavedAs::whole(name.into(), shape), true))
    }

    /// A bias that is read as it stands.
    pub(super) fn bias(&mut self, name: &str, len: usize) -> Result<Table> {
        let tensor = self.matrix(name, &[len])?;
        Ok(self.as_table(tensor, SavedAs::whole(name.into(), &[len]), false))
    }

    fn as_table(&mut self, tensor: Tensor, saved_as: SavedAs, decays: bool) -> Table {
        match self.gradients {
            Gradients::Weights => Table::Trained(self.parameter(tensor, saved_as, decays)),
            _ => Table::Frozen(tensor),
        }
    }

    /// Makes a tensor a parameter of the model; its place.
    fn parameter(&mut self, value: Tensor, saved_as: SavedAs, decays: bool) -> usize {
        let name = if saved_as.stored.first > 0 {
            format!("{}.{}", saved_as.name, saved_as.stored.first)
        } else {
            saved_as.name.clone()
        };
        self.parameters.push(Parameter { decays, ..Parameter::new(self.device, name, self.group, value) });
        self.saved_as.push(saved_as);
        self.parameters.len() - 1
    }

    /// A matrix, or a vector as one row.
    fn matrix(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.fused = None;
        let columns = shape[shape.len() - 1];
        let mut tensor = self.device.uninitialised(shape.iter().product::<usize>() / columns, columns);
        self.source(name).read(name, shape, tensor.data_mut(), self.threads())?;
        self.count(1);
        Ok(tensor)
    }

    /// The file of a tensor: a trained one if there is one.
    fn source(&self, name: &str) -> &'a Weights {
        self.tuned.iter().find(|weights| weights.contains(name)).unwrap_or(self.weights)
    }

    fn count(&mut self, tensors: usize) {
        let loaded = self.loaded.fetch_add(tensors, Ordering::Relaxed) + tensors;
        if let Some(progress) = &mut self.progress {
            progress(loaded.min(self.total), self.total);
        }
    }
}

/// The rows of a layer's `outputs` in a matrix that has others too.
fn take_rows(out: &mut Vec<f32>, matrix: &[f32], columns: usize, stored: &Stored, outputs: usize) {
    out.clear();
    for o in (0..outputs).step_by(stored.run) {
        out.extend_from_slice(&matrix[stored.place(o) * columns..][..stored.run * columns]);
    }
}

/// The columns `mine` of a matrix with `columns` columns, as rows.
fn transpose(out: &mut Vec<f32>, matrix: &[f32], columns: usize, mine: Range<usize>) {
    /// Rows taken together, so that a cache line is read for all its columns at once.
    const BLOCK: usize = 16;
    let rows = matrix.len() / columns;
    out.clear();
    out.resize(mine.len() * rows, 0.0);
    for start in (0..rows).step_by(BLOCK) {
        let block = start..rows.min(start + BLOCK);
        for (to, column) in mine.clone().enumerate() {
            for row in block.clone() {
                out[to * rows + row] = matrix[row * columns + column];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::checkpoint::ModelDirectory;

    #[test]
    fn parts_come_in_order_and_the_lowest_error_is_told_whatever_the_threads() {
        let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tiny-mlm");
        let directory = ModelDirectory::open(&model).expect("the example model");
        for threads in 1..=4 {
            let (device, loaded) = (Device::processor(Some(threads)), AtomicUsize::new(0));
            let mut loader = Loader::new(&device, directory.weights(), &[], Gradients::None, &loaded, None);
            assert_eq!(loader.each(9, |_, i| Ok(i)).expect("no error"), (0..9).collect::<Vec<_>>());
            assert!(loader.each(0, |_, i| Ok(i)).expect("no error").is_empty());
            let failing = |_: &mut Loader<'_>, i: usize| {
                // So that a later part fails before an earlier one.
                std::thread::sleep(std::time::Duration::from_millis(9 - i as u64));
                if i < 3 { Ok(i) } else { Err(Error::Failed(i.to_string())) }
            };
            assert_eq!(loader.each(9, failing).unwrap_err().to_string(), Error::Failed("3".into()).to_string());
        }
    }

    #[test]
    fn chosen_columns_become_rows_for_awkward_sizes() {
        for (rows, columns, mine) in [(1, 1, 0..1), (3, 6, 2..4), (17, 5, 0..5), (33, 9, 6..9)] {
            let matrix: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let mut out = vec![-1.0; 3];
            transpose(&mut out, &matrix, columns, mine.clone());
            let expected: Vec<f32> =
                mine.flat_map(|column| (0..rows).map(move |row| (row * columns + column) as f32)).collect();
            assert_eq!(out, expected, "{rows} x {columns}");
        }
    }

    #[test]
    fn outputs_that_take_turns_are_found() {
        // Three layers, two heads of two outputs each, three inputs: the second layer's.
        let stored = Stored { first: 2, run: 2, step: 6, ..Stored::alone(12) };
        let matrix: Vec<f32> = (0..12 * 3).map(|i| i as f32).collect();
        let mut out = vec![-1.0];
        take_rows(&mut out, &matrix, 3, &stored, 4);
        let want: Vec<f32> = [2, 3, 8, 9].iter().flat_map(|row| (0..3).map(move |i| (row * 3 + i) as f32)).collect();
        assert_eq!(out, want);
        assert_eq!([0, 1, 2, 3].map(|o| stored.place(o)), [2, 3, 8, 9]);
    }
}
