//! A small fixed pool of threads for the compute loop.
//!
//! `run(items, f)` calls `f(item, worker)` once for every item. Items are claimed from a counter, so which worker takes
//! an item varies, and therefore must never matter: an item's result may depend on its number alone. The caller works
//! too (worker 0). Workers spin a short while for the next job and then park, so an idle ptune uses no processor time.
#![allow(unsafe_code)] // One borrowed closure is handed to the workers; `run` does not return before they let go of it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// Turns of the spin loop before a worker parks: about 50 microseconds, several times the gap between two kernels.
const SPINS: u32 = 4000;

type Job<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// The threads. Dropping the pool ends them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One job at a time: a second caller waits here.
    turn: Mutex<()>,
}

struct Shared {
    /// Counts jobs; a change wakes the workers.
    epoch: AtomicU64,
    job: Mutex<Option<(Job<'static>, usize)>>,
    next: AtomicUsize,
    /// Workers that have not yet let go of the current job.
    busy: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
}

impl Pool {
    /// A pool of `threads` threads, the caller among them.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: AtomicU64::new(0),
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        // A machine that refuses a thread gets a smaller pool: the results are the same.
        let workers = (1..threads)
            .map_while(|worker| {
                let shared = Arc::clone(&shared);
                let name = format!("ptune-{worker}");
                std::thread::Builder::new().name(name).spawn(move || shared.work(worker)).ok()
            })
            .collect();
        Pool { shared, workers, turn: Mutex::new(()) }
    }

    /// Threads, the caller among them.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Waits for the running job of another caller, if there is one, and keeps new ones out.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
    }

    /// Calls `f(item, worker)` for every item below `items`; the guard of [`Pool::turn`] shows that the pool is ours.
    /// A panic of `f` is passed on, after all workers have stopped.
    pub(crate) fn run(&self, _turn: &MutexGuard<'_, ()>, items: usize, f: Job<'_>) {
        if items <= 1 || self.workers.is_empty() {
            (0..items).for_each(|item| f(item, 0));
            return;
        }
        let s = &self.shared;
        // SAFETY: the lifetime is only hidden. Every worker takes part in every job, and this function returns only
        // after `busy` has fallen to zero, that is after the last worker has dropped its copy.
        let job = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(f) };
        *lock(&s.job) = Some((job, items));
        s.next.store(0, Ordering::Relaxed);
        s.busy.store(self.workers.len(), Ordering::Relaxed);
        {
            let _sleep = lock(&s.sleep);
            s.epoch.fetch_add(1, Ordering::Release);
            s.wake.notify_all();
        }
        let mine = catch_unwind(AssertUnwindSafe(|| s.claim(f, items, 0)));
        let mut spins = 0;
        while s.busy.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        *lock(&s.job) = None;
        if let Err(panic) = mine {
            resume_unwind(panic);
        }
        assert!(!s.panicked.swap(false, Ordering::Relaxed), "a kernel panicked on a worker thread");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        {
            let _sleep = lock(&self.shared.sleep);
            self.shared.epoch.fetch_add(1, Ordering::Release);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker that panicked has been reported by `run`.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn claim(&self, f: Job<'_>, items: usize, worker: usize) {
        loop {
            let item = self.next.fetch_add(1, Ordering::Relaxed);
            if item >= items {
                return;
            }
            f(item, worker);
        }
    }

    fn work(&self, worker: usize) {
        let mut seen = 0;
        loop {
            seen = self.wait(seen);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let job = *lock(&self.job);
            if let Some((f, items)) = job
                && catch_unwind(AssertUnwindSafe(|| self.claim(f, items, worker))).is_err()
            {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits until the epoch is no longer `seen` and returns it.
    fn wait(&self, seen: u64) -> u64 {
        for _ in 0..SPINS {
            let now = self.epoch.load(Ordering::Acquire);
            if now != seen {
                return now;
            }
            std::hint::spin_loop();
        }
        let mut sleep = lock(&self.sleep);
        loop {
            let now = self.epoch.load(Ordering::Acquire);
            if now != seen {
                return now;
            }
            sleep = self.wake.wait(sleep).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

/// A lock whose holder panicked is still good: none of ours guards a half-done change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_runs_once_for_any_number_of_threads() {
        for threads in 1..=4 {
            let pool = Pool::new(threads);
            for items in [0, 1, 2, 3, 100, 1000] {
                let counts: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
                pool.run(&pool.turn(), items, &|item, worker| {
                    assert!(worker < threads);
                    counts[item].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn parked_workers_wake_up() {
        let pool = Pool::new(3);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let sum = AtomicUsize::new(0);
            pool.run(&pool.turn(), 50, &|item, _| {
                sum.fetch_add(item, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), 49 * 50 / 2);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&pool.turn(), 64, &|item, _| assert!(item != 40, "item 40"));
        }));
        assert!(result.is_err());
        pool.run(&pool.turn(), 64, &|_, _| {});
    }
}
