//! What every kernel gets beside slices and sizes: the instruction set, the pool, and scratch memory sized up front.
#![allow(unsafe_code)] // Each worker gets its own scratch, each item its own rows of the outputs.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Range;

use crate::aligned::Aligned;
use crate::isa::Isa;
use crate::pool::Pool;

/// The instruction set, the threads and their scratch memory. Results do not depend on the number of threads.
pub struct Context {
    isa: Isa,
    pool: Pool,
    scratch: Vec<Scratch>,
}

/// One worker's scratch. Only that worker touches it, and only while a job runs; [`Context::reserve`] grows it
/// between jobs. Both are kept apart by the pool's turn.
struct Scratch(UnsafeCell<Aligned>);

// SAFETY: see `Scratch`: access is exclusive by worker number within a job and by the pool's turn between jobs.
unsafe impl Sync for Scratch {}

impl Context {
    /// A context with the best instruction set of this processor and as many threads as the process may use (CPU
    /// affinity and cgroup quota count).
    pub fn detect() -> Self {
        Self::new(Isa::detect(), std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// A context with a chosen instruction set and number of threads (at least one).
    pub fn new(isa: Isa, threads: usize) -> Self {
        let pool = Pool::new(threads.max(1));
        let scratch = (0..pool.threads()).map(|_| Scratch(UnsafeCell::new(Aligned::default()))).collect();
        Context { isa, pool, scratch }
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads, the caller among them.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Makes sure that every worker has at least `floats` numbers of scratch. A kernel that needs scratch has a
    /// function beside it that says how much; call this before, not in the hot path.
    pub fn reserve(&self, floats: usize) {
        let _turn = self.pool.turn();
        for scratch in &self.scratch {
            // SAFETY: no job runs while we hold the turn.
            unsafe { (*scratch.0.get()).reserve(floats) };
        }
    }

    /// Calls `f(item, scratch)` for every item below `items`, on any worker. Scratch holds whatever was left there.
    pub(crate) fn run(&self, items: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
        let turn = self.pool.turn();
        self.pool.run(&turn, items, &|item, worker| {
            // SAFETY: a worker runs one item at a time and no other worker has its number.
            f(item, unsafe { &mut *self.scratch[worker].0.get() });
        });
    }

    /// Splits `rows` rows into blocks of `block` and calls `f(row range, blocks, scratch)` for each, where `blocks[i]`
    /// are these rows of output i. An output is a matrix of `rows` rows: the slice and its columns.
    pub(crate) fn run_rows<const N: usize>(
        &self,
        rows: usize,
        block: usize,
        outputs: [(&mut [f32], usize); N],
        f: impl Fn(Range<usize>, [&mut [f32]; N], &mut [f32]) + Sync,
    ) {
        let outputs = outputs.map(|(slice, columns)| {
            assert_eq!(slice.len(), rows * columns, "an output does not have rows x columns numbers");
            (Disjoint::new(slice), columns)
        });
        self.run(rows.div_ceil(block), |item, scratch| {
            let range = item * block..rows.min((item + 1) * block);
            let blocks = std::array::from_fn(|i| {
                let (output, columns) = &outputs[i];
                // SAFETY: items have disjoint row ranges, and each item runs once.
                unsafe { output.slice(range.start * columns..range.end * columns) }
            });
            f(range, blocks, scratch);
        });
    }
}

/// Rows of a work item, so that it holds about 16,384 numbers: some five microseconds of a cheap kernel, several times
/// what it costs to share one out. The 120 rows of a small batch make three items.
pub(crate) fn rows_per_item(columns: usize) -> usize {
    (16_384 / columns.max(1)).max(1)
}

/// A slice that several workers write, each its own part.
pub(crate) struct Disjoint<'a> {
    start: *mut f32,
    len: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: `slice` hands the duty of disjointness to its caller.
unsafe impl Sync for Disjoint<'_> {}

impl<'a> Disjoint<'a> {
    pub(crate) fn new(slice: &'a mut [f32]) -> Self {
        Disjoint { start: slice.as_mut_ptr(), len: slice.len(), _borrow: PhantomData }
    }

    /// Where the slice begins, for prefetching.
    pub(crate) fn start(&self) -> *const f32 {
        self.start
    }

    /// A part of the slice.
    ///
    /// # Safety
    /// No two parts that are alive at the same time may overlap.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &mut [f32] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: inside the slice (asserted); disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_split_without_overlap() {
        for threads in 1..=4 {
            let ctx = Context::new(Isa::detect(), threads);
            ctx.reserve(8);
            let (mut a, mut b) = (vec![0.0; 7 * 3], vec![0.0; 7]);
            ctx.run_rows(7, 2, [(&mut a, 3), (&mut b, 1)], |range, [a, b], scratch| {
                assert!(scratch.len() >= 8);
                for (i, row) in range.enumerate() {
                    a[i * 3..(i + 1) * 3].fill(row as f32);
                    b[i] += 1.0;
                }
            });
            assert!(a.iter().enumerate().all(|(i, x)| *x == (i / 3) as f32));
            assert_eq!(b, [1.0; 7]);
        }
    }
}
