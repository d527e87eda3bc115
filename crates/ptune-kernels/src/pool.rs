//! A small fixed pool of threads for the compute loop.
//!
//! `run(items, f)` calls `f(item, worker)` once for every item. Items are claimed from a counter, so which worker takes
//! an item varies, and therefore must never matter: an item's result may depend on its number alone. The caller works
//! too (worker 0), and waits only for workers that have joined: one that still sleeps, or that the system has taken off
//! its core, misses the job and delays nobody. Workers spin a short while for the next job and then park, so an idle
//! ptune uses no processor time.
#![allow(unsafe_code)] // One borrowed closure is handed to the workers; `run` does not return before they let go of it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// Turns of the spin loop before a worker parks: about 50 microseconds, several times the gap between two kernels.
const SPINS: u32 = 4000;

/// The bit of the state that says that workers may join the job.
const OPEN: u64 = 1 << 31;

type Job<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// The threads. Dropping the pool ends them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One job at a time: a second caller waits here.
    turn: Mutex<()>,
}

struct Shared {
    /// The job's number in the upper half, [`OPEN`], and below it how many workers hold the job.
    state: AtomicU64,
    job: Mutex<Option<(Job<'static>, usize)>>,
    next: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    /// Workers that sleep, or are about to and will look at the state once more.
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
}

impl Pool {
    /// A pool of `threads` threads, the caller among them.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
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
        // SAFETY: the lifetime is only hidden. A worker copies the job only after it has joined, which it can while the
        // job is open; this function closes it and then returns only when no worker holds it any more.
        let job = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(f) };
        *lock(&s.job) = Some((job, items));
        s.next.store(0, Ordering::Relaxed);
        let number = s.state.load(Ordering::Relaxed) >> 32;
        s.state.store((number + 1) << 32 | OPEN, Ordering::SeqCst);
        s.wake_sleepers();
        let mine = catch_unwind(AssertUnwindSafe(|| s.claim(f, items, 0)));
        s.state.fetch_and(!OPEN, Ordering::Relaxed);
        let mut spins = 0;
        while s.state.load(Ordering::Acquire) & (OPEN - 1) != 0 {
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
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake_sleepers();
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

    /// Wakes all that sleep; costs nothing when nobody does. State and sleepers are SeqCst: either a worker on its way
    /// to sleep sees the new state, or it is counted here.
    fn wake_sleepers(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _sleep = lock(&self.sleep);
            self.wake.notify_all();
        }
    }

    fn work(&self, worker: usize) {
        let mut seen = 0;
        while let Some(number) = self.wait(seen) {
            seen = number;
            let job = *lock(&self.job);
            if let Some((f, items)) = job
                && catch_unwind(AssertUnwindSafe(|| self.claim(f, items, worker))).is_err()
            {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for an open job other than number `seen`, joins it and returns its number; `None` at the end.
    fn wait(&self, seen: u64) -> Option<u64> {
        for _ in 0..SPINS {
            if let Some(answer) = self.join_or_stop(seen) {
                return answer;
            }
            std::hint::spin_loop();
        }
        let mut sleep = lock(&self.sleep);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let answer = loop {
            if let Some(answer) = self.join_or_stop(seen) {
                break answer;
            }
            sleep = self.wake.wait(sleep).unwrap_or_else(|poisoned| poisoned.into_inner());
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    /// `None`: nothing to do yet. `Some(None)`: the pool ends.
    fn join_or_stop(&self, seen: u64) -> Option<Option<u64>> {
        if self.stop.load(Ordering::SeqCst) {
            return Some(None);
        }
        let mut state = self.state.load(Ordering::SeqCst);
        while state & OPEN != 0 && state >> 32 != seen {
            match self.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(Some(state >> 32)),
                Err(now) => state = now,
            }
        }
        None
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
