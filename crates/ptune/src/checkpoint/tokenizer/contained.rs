//! Panics of the tokenizers library as errors.
//!
//! That library panics on some damaged files (a piece length of 0, a pattern that matches nothing), and no file may
//! bring the program down. The panic is caught, and nothing of it is printed: the hook that prints is told apart by
//! thread, so that panics anywhere else still reach it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic in it becomes an error, silently.
pub(super) fn contained<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |about| {
            if !CONTAINED.get() {
                print(about);
            }
        }));
    });
    let outer = CONTAINED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(outer);
    done.unwrap_or_else(|_| Err("the tokenizer file makes no sense".into()))
}
