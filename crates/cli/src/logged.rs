//! What a run says, written down in its log as well.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex};

use amend_run::clock::now;
use amend_run::{Activity, Forecast, Progress};

use crate::prospect;

/// A listener that also writes down what it heard, in the run's log.txt.
pub(crate) struct Logged<'p> {
    inner: &'p dyn Progress,
    log: Arc<Mutex<File>>,
}

impl<'p> Logged<'p> {
    /// Hands on to `inner` and writes to the log, which is open.
    pub(crate) fn new(inner: &'p dyn Progress, log: File) -> Self {
        Logged { inner, log: Arc::new(Mutex::new(log)) }
    }
}

fn log(file: &Mutex<File>, line: &str) {
    if let Ok(mut file) = file.lock() {
        // A log that cannot be written must not end the run; its results would be lost with it.
        let _ = writeln!(file, "{} {line}", now());
    }
}

impl Progress for Logged<'_> {
    fn begin(&self, label: &str, total: u64, unit: &str) -> Box<dyn Activity> {
        let inner = self.inner.begin(label, total, unit);
        Box::new(LoggedActivity { inner, log: self.log.clone(), label: label.to_owned() })
    }

    fn note(&self, line: &str) {
        log(&self.log, line);
        self.inner.note(line);
    }

    fn plan(&self, forecast: &Forecast) {
        log(&self.log, &prospect::in_short(forecast));
        for warning in &forecast.warnings {
            log(&self.log, &format!("warning: {warning}"));
        }
        self.inner.plan(forecast);
    }
}

pub(crate) struct LoggedActivity {
    inner: Box<dyn Activity>,
    log: Arc<Mutex<File>>,
    label: String,
}

impl Activity for LoggedActivity {
    fn resumed(&mut self, n: u64) {
        self.inner.resumed(n);
    }

    fn advance(&mut self, n: u64, status: &str) {
        self.inner.advance(n, status);
    }

    fn working(&mut self, status: &str) {
        self.inner.working(status);
    }

    fn finish(self: Box<Self>, summary: &str) {
        log(&self.log, &format!("{}: {summary}", self.label));
        self.inner.finish(summary);
    }
}
