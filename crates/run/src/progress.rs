//! How long-running code tells what it is doing, without knowing who listens; and how it is asked to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A listener: a progress bar, a log, nobody.
pub trait Progress: Send + Sync {
    /// Begins a task of `total` units (0 = unknown), named by `unit` in the plural: "steps", "tokens".
    fn begin(&self, label: &str, total: u64, unit: &str) -> Box<dyn Task>;
    /// One line for the user to keep, printed above any bar.
    fn note(&self, line: &str);
}

/// One task in progress. Dropping it without [`Task::finish`] means that it was given up.
pub trait Task: Send {
    /// `n` more units are done; `status` is a short text such as the loss.
    fn advance(&mut self, n: u64, status: &str);
    /// The task is done; `summary` is one line to keep.
    fn finish(self: Box<Self>, summary: &str);
}

/// A listener that says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _label: &str, _total: u64, _unit: &str) -> Box<dyn Task> {
        Box::new(Silent)
    }

    fn note(&self, _line: &str) {}
}

impl Task for Silent {
    fn advance(&mut self, _n: u64, _status: &str) {}

    fn finish(self: Box<Self>, _summary: &str) {}
}

/// A flag that asks every loop holding a clone to stop at its next step. Set by Ctrl-C; never unset.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was asked for. Cheap enough for every step and every token.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_flag() {
        let stop = Stop::default();
        let elsewhere = stop.clone();
        assert!(!stop.requested());
        elsewhere.request();
        assert!(stop.requested());
    }

    #[test]
    fn silence_is_a_listener() {
        let listener: &dyn Progress = &Silent;
        let mut task = listener.begin("train", 10, "steps");
        task.advance(1, "loss 2.3");
        task.finish("done");
    }
}
