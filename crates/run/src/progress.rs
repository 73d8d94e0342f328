//! How long-running code tells what it is doing, without knowing who listens; and how it is asked to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::forecast::Forecast;

/// A listener: a progress bar, a log, nobody.
pub trait Progress: Send + Sync {
    /// Begins an activity of `total` units (0 = unknown), named by `unit` in the plural: "steps", "tokens".
    fn begin(&self, label: &str, total: u64, unit: &str) -> Box<dyn Activity>;
    /// One line for the user to keep, printed above any bar.
    fn note(&self, line: &str);
    /// What the run that begins is going to do, for those who tell how far it is and how long it will take.
    fn plan(&self, _forecast: &Forecast) {}
}

/// Something in progress. Dropping it without [`Activity::finish`] means that it was given up.
pub trait Activity: Send {
    /// `n` units were done before it began, by a process that was interrupted: they took none of its time.
    fn resumed(&mut self, n: u64);
    /// `n` more units are done; `status` is a short text such as the loss.
    fn advance(&mut self, n: u64, status: &str);
    /// A long unit goes on; `status` says how far it is, such as the tokens of an answer.
    fn working(&mut self, status: &str);
    /// It is done; `summary` is one line to keep.
    fn finish(self: Box<Self>, summary: &str);
}

/// A listener that says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _label: &str, _total: u64, _unit: &str) -> Box<dyn Activity> {
        Box::new(Silent)
    }

    fn note(&self, _line: &str) {}
}

impl Activity for Silent {
    fn resumed(&mut self, _n: u64) {}

    fn advance(&mut self, _n: u64, _status: &str) {}

    fn working(&mut self, _status: &str) {}

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

    /// The flag itself, for those who know nothing of runs.
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }

    /// Whether a stop was asked for. Cheap enough for every step and every token.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A listener that asks to stop once an activity has come to a chosen point, as a user's Ctrl-C there would. For tests
/// that interrupt a run at a given step of a given stage; a stage's activity has the stage's name.
#[derive(Clone, Debug)]
pub struct StopAt {
    label: String,
    done: u64,
    stop: Stop,
}

impl StopAt {
    /// Asks through `stop` when the activity called `label` has done `done` units, those before a resumption included.
    pub fn new(label: &str, done: u64, stop: &Stop) -> Self {
        StopAt { label: label.to_owned(), done, stop: stop.clone() }
    }
}

impl Progress for StopAt {
    fn begin(&self, label: &str, _total: u64, _unit: &str) -> Box<dyn Activity> {
        match label == self.label {
            true => Box::new(self.clone()),
            false => Box::new(Silent),
        }
    }

    fn note(&self, _line: &str) {}
}

impl Activity for StopAt {
    fn resumed(&mut self, n: u64) {
        self.advance(n, "");
    }

    fn advance(&mut self, n: u64, _status: &str) {
        self.done = self.done.saturating_sub(n);
        if self.done == 0 {
            self.stop.request();
        }
    }

    fn working(&mut self, _status: &str) {}

    fn finish(self: Box<Self>, _summary: &str) {}
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
        let mut activity = listener.begin("train", 10, "steps");
        activity.advance(1, "loss 2.3");
        activity.finish("done");
    }

    #[test]
    fn a_stop_is_asked_for_at_the_chosen_point() {
        let stop = Stop::default();
        let listener = StopAt::new("forget", 3, &stop);
        listener.begin("relearn", 10, "steps").advance(5, "");
        let mut activity = listener.begin("forget", 10, "steps");
        activity.resumed(2);
        assert!(!stop.requested());
        activity.advance(1, "loss 2.3");
        assert!(stop.requested());
    }
}
