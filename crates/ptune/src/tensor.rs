//! A matrix on a device, and the device.
//!
//! There is one device, the processor. A [`Tensor`] is a plain row-major matrix without strides or views, of f32 or of
//! what the device multiplies (its *narrow* dtype: bf16 where its precision is bf16, else f32 too); what can be done with
//! it is the closed list in `ops.rs`. Buffers come from the device's free list and return to it when
//! the tensor is dropped, so a training step in its steady state allocates nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ptune_kernels::{Aligned, Context, Dtype, Isa, Rows, RowsMut};

use crate::profile::{Doing, Operation, Profile};

/// Where the work is done: threads, instruction set, free buffers. Clones share all of it.
#[derive(Clone)]
pub struct Device {
    /// Only [`Device::doing`] lends it: an operation cannot reach a kernel without saying what it does.
    context: Arc<Context>,
    profile: Option<Arc<Profile>>,
    pub(crate) precision: Precision,
    free: Arc<FreeList>,
}

/// The precision of frozen weights and of the rows they are multiplied with. Everything else is f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits: the reference.
    F32,
    /// bf16 numbers, f32 sums.
    Bf16,
}

impl Precision {
    /// Both.
    pub const ALL: [Precision; 2] = [Precision::F32, Precision::Bf16];

    /// The name in run files and adapters.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.name() == name)
    }

    /// The fastest for frozen weights on this processor.
    pub fn fastest() -> Self {
        if Isa::detect().multiplies_bf16() { Precision::Bf16 } else { Precision::F32 }
    }
}

/// A row-major matrix `[rows, columns]`.
pub struct Tensor {
    rows: usize,
    columns: usize,
    dtype: Dtype,
    /// At least `rows * dtype.stride(columns)` places.
    buffer: Aligned,
    home: Arc<FreeList>,
}

impl Device {
    /// This machine's processor with `threads` threads (all that the process may use when `None`) and the best
    /// instruction set.
    pub fn processor(threads: Option<usize>) -> Self {
        Self::with_context(match threads {
            Some(threads) => Context::new(Isa::detect(), threads),
            None => Context::detect(),
        })
    }

    /// A device with a chosen instruction set and number of threads.
    pub fn with_context(context: Context) -> Self {
        Device { context: Arc::new(context), precision: Precision::F32, profile: None, free: Arc::default() }
    }

    /// The same device, packing frozen weights in `precision`.
    pub fn with_precision(&self, precision: Precision) -> Self {
        Device { precision, ..self.clone() }
    }

    /// The name of the instruction set; results have the same bits only where it is the same.
    pub fn instruction_set(&self) -> &'static str {
        self.context.isa().name()
    }

    /// Threads.
    pub fn threads(&self) -> usize {
        self.context.threads()
    }

    /// The same device, counting from now on where the time goes; so do the clones made of it.
    pub fn with_profile(mut self) -> Self {
        self.profile = Some(Arc::default());
        self
    }

    /// Where the time goes; `None` without [`Device::with_profile`].
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_deref()
    }

    /// What kernels need, for as long as they do this.
    pub(crate) fn doing(&self, operation: Operation) -> Doing<'_> {
        self.doing_sums(operation, 0)
    }

    /// The same, with the number of multiply-adds that the report shall count.
    pub(crate) fn doing_sums(&self, operation: Operation, multiply_adds: usize) -> Doing<'_> {
        Doing::begin(&self.context, self.profile.as_deref(), operation, multiply_adds)
    }

    /// Runs a loop of multiply-adds (of the device's precision) in registers on every thread; how many floating-point operations that were.
    pub(crate) fn multiply_add_peak(&self, turns: usize) -> f64 {
        match self.precision {
            Precision::F32 => ptune_kernels::multiply_add_peak(&self.context, turns),
            Precision::Bf16 => ptune_kernels::bf16_multiply_add_peak(&self.context, turns),
        }
    }

    /// Makes sure that kernels have this much scratch.
    pub(crate) fn reserve(&self, floats: usize) {
        self.context.reserve(floats);
    }

    /// Buffers made so far: in the steady state of a loop it stays.
    pub fn buffers_made(&self) -> usize {
        self.free.made.load(Ordering::Relaxed)
    }

    /// A tensor for an operation to write: its numbers are whatever a former tensor left there.
    pub(crate) fn uninitialised(&self, rows: usize, columns: usize) -> Tensor {
        self.uninitialised_as(Dtype::F32, rows, columns)
    }

    /// The same in the given dtype.
    pub(crate) fn uninitialised_as(&self, dtype: Dtype, rows: usize, columns: usize) -> Tensor {
        let buffer = self.free.take(rows * dtype.stride(columns));
        Tensor { rows, columns, dtype, buffer, home: Arc::clone(&self.free) }
    }

    /// The dtype of what the device multiplies: frozen weights and the rows that meet them.
    pub(crate) fn narrow(&self) -> Dtype {
        match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::Bf16 => Dtype::Bf16,
        }
    }

    /// A tensor of zeros.
    pub(crate) fn zeros(&self, rows: usize, columns: usize) -> Tensor {
        let mut tensor = self.uninitialised(rows, columns);
        tensor.data_mut().fill(0.0);
        tensor
    }

    /// A tensor from numbers in row-major order; panics when there are not `rows * columns`.
    pub fn upload(&self, rows: usize, columns: usize, data: &[f32]) -> Tensor {
        let mut tensor = self.uninitialised(rows, columns);
        tensor.data_mut().copy_from_slice(data);
        tensor
    }
}

impl Tensor {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How the numbers are kept.
    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The numbers, row-major: waits for the device. Only of f32.
    pub fn read(&self) -> &[f32] {
        self.data()
    }

    /// The numbers of a tensor in f32.
    pub(crate) fn data(&self) -> &[f32] {
        assert_eq!(self.dtype, Dtype::F32);
        self.memory()
    }

    pub(crate) fn data_mut(&mut self) -> &mut [f32] {
        assert_eq!(self.dtype, Dtype::F32);
        self.memory_mut()
    }

    /// What a kernel reads.
    pub(crate) fn view(&self) -> Rows<'_> {
        Rows::new(self.dtype, self.memory())
    }

    /// What a kernel writes.
    pub(crate) fn view_mut(&mut self) -> RowsMut<'_> {
        RowsMut::new(self.dtype, self.memory_mut())
    }

    /// f32 places, whatever stands in them: rows that are only moved.
    pub(crate) fn memory(&self) -> &[f32] {
        &self.buffer[..self.rows * self.stride()]
    }

    pub(crate) fn memory_mut(&mut self) -> &mut [f32] {
        let len = self.rows * self.stride();
        &mut self.buffer[..len]
    }

    /// f32 places of a row.
    pub(crate) fn stride(&self) -> usize {
        self.dtype.stride(self.columns)
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        self.home.give(std::mem::take(&mut self.buffer));
    }
}

/// Buffers by size class. A class is a power of two or one and a half of it, so that at most a third of a buffer is
/// idle when it is made. Batches differ in size: a smaller one uses the large buffers of a larger one, and where a larger
/// one needs a new buffer, one that has become too small is given back. So what is held is about what the largest batch
/// needs, not a set for each size. Buffers start on a cache line.
#[derive(Default)]
struct FreeList {
    classes: Mutex<Vec<Vec<Aligned>>>,
    made: AtomicUsize,
}

/// How many classes a buffer may be too large (a factor of two) or too small for its use, if it is large: 256 KB.
const NEAR: usize = 2;
const LARGE: usize = 1 << 16;

impl FreeList {
    /// A buffer of at least `len` numbers: what a former tensor left, or zeros.
    fn take(&self, len: usize) -> Aligned {
        let (class, capacity) = size_class(len);
        let near = if len < LARGE { 0 } else { NEAR };
        let outgrown = {
            let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(buffer) = classes.iter_mut().skip(class).take(near + 1).find_map(Vec::pop) {
                return buffer;
            }
            let end = class.min(classes.len());
            classes[end.min(class.saturating_sub(near))..end].iter_mut().rev().find_map(Vec::pop)
        };
        drop(outgrown);
        self.made.fetch_add(1, Ordering::Relaxed);
        Aligned::zeros(capacity)
    }

    fn give(&self, buffer: Aligned) {
        let (class, _) = size_class(buffer.len());
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        if classes.len() <= class {
            classes.resize_with(class + 1, Vec::new);
        }
        classes[class].push(buffer);
    }
}

/// The class of a length and the capacity of its buffers: 64, 96, 128, 192, 256, ...
fn size_class(len: usize) -> (usize, usize) {
    let len = len.max(64);
    let power = len.next_power_of_two();
    let class = 2 * (power.trailing_zeros() as usize - 6);
    let between = power / 4 * 3;
    if power > 64 && len <= between { (class - 1, between) } else { (class, power) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_hold_their_length_and_are_their_own_class() {
        for len in (0..5000).chain([1 << 20, (1 << 20) + 1]) {
            let (class, capacity) = size_class(len);
            assert!(capacity >= len);
            // A buffer finds back by its length, which is that of its class: whole cache lines.
            assert_eq!(size_class(Aligned::zeros(capacity).len()), (class, capacity));
        }
    }

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let device = Device::processor(Some(1));
        let first = device.uninitialised(10, 100);
        let address = first.data().as_ptr();
        drop(first);
        assert_eq!(device.uninitialised(9, 100).data().as_ptr(), address);
    }

    #[test]
    fn batches_of_different_sizes_share_one_set_of_buffers() {
        let device = Device::processor(Some(1));
        let batch = |rows: usize| drop([768, 2304, 768].map(|columns| device.uninitialised(rows, columns)));
        let held = || device.free.classes.lock().expect("a lock").iter().map(Vec::len).sum::<usize>();
        for rows in [700, 900, 1100, 700, 650, 1100] {
            batch(rows);
            // Three at a time; one more where a small tensor has taken the buffer of a large one.
            assert!(held() <= 4, "{rows} rows: {}", held());
        }
        let made = device.buffers_made();
        batch(700);
        batch(1100);
        assert_eq!(device.buffers_made(), made);
        // A little tensor does not take a large buffer.
        let before = held();
        let _little = device.uninitialised(1, 100);
        assert_eq!((device.buffers_made(), held()), (made + 1, before));
    }
}
