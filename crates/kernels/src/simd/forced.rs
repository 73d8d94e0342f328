//! Tests run at every level within one process; the choice is then a property of the thread.

use super::Level;
use std::cell::Cell;

thread_local!(static FORCED: Cell<Option<Level>> = const { Cell::new(None) });

pub(super) fn get() -> Option<Level> {
    FORCED.get()
}

/// Runs `f` on a pool of `threads` threads that all use `level`.
pub(in super::super) fn on<R: Send>(level: Level, threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .start_handler(move |_| FORCED.set(Some(level)))
        .build()
        .unwrap()
        .install(f)
}

/// Runs `f` once per available level, on two threads.
pub(in super::super) fn each_level(f: impl Fn() + Send + Sync) {
    for level in Level::available() {
        on(level, 2, &f);
    }
}

pub(in super::super) fn levels() -> Vec<Level> {
    Level::available()
}
