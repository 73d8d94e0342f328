//! Ctrl-C and its relatives (SIGTERM, SIGHUP).

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amend_run::{Stop, shell};

use crate::chosen;
use crate::console::Console;
use crate::error::{self, Error, Topic};

/// From now on the first signal asks to stop, and the second ends the process.
pub(crate) fn stop_asked_for(console: &Console, run: &Path) -> Result<Stop, Error> {
    let stop = Stop::default();
    let (asked, console, run) = (stop.clone(), console.clone(), run.to_path_buf());
    on_signal(move || {
        if asked.requested() {
            // The shell's prompt would run into a bar that is left behind.
            let _ = console.bars().clear();
            if console.events() {
                error::report(&Error::Interrupted(format!("amend resume {}", shell::path(&run))), true);
            }
            std::process::exit(i32::from(chosen::INTERRUPTED));
        }
        asked.request();
        console.note(&format!(
            "stopping, what is done is kept; continue with `amend resume {}` \
             (again to stop at once)",
            shell::path(&run)
        ));
    })?;
    Ok(stop)
}

/// Other processes of this program that work for this one, one at a time, and to which it hands signals on: the first asks one
/// to stop, the second ends it.
#[derive(Clone, Default)]
pub(crate) struct Workers(Arc<Mutex<Work>>);

/// Both under one lock, so that a signal reaches a process exactly once, whichever came first.
#[derive(Default)]
struct Work {
    stop: bool,
    /// The id of the process at work; 0 where there is none.
    process: u32,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It did what it was to do, whatever the verdict.
    Well,
    /// With an error, which it has told.
    Badly,
    /// It was asked to stop, or this process was.
    Stopped,
}

impl Workers {
    /// From now on signals are handed on.
    pub(crate) fn listen(console: &Console) -> Result<Self, Error> {
        let workers = Workers::default();
        let (here, console) = (workers.clone(), console.clone());
        on_signal(move || {
            let mut work = here.work();
            if !work.stop {
                console.note("stopping, what is done is kept (again to stop at once)");
            }
            work.stop = true;
            interrupt(work.process);
        })?;
        Ok(workers)
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `amend` with these arguments and `flags`, to its end. What it tells goes to standard error; its data nowhere.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(crate) fn run(&self, arguments: &[OsString], flags: &[String]) -> Result<Ended, Error> {
        let failed = |e: io::Error| Error::plain(format!("cannot start a run: {e}")).about(Topic::System);
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(arguments).args(flags).stdin(Stdio::null()).stdout(Stdio::null());
        // In a group of its own the terminal's Ctrl-C does not reach it as well.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = {
            let mut work = self.work();
            if work.stop {
                return Ok(Ended::Stopped);
            }
            let child = command.spawn().map_err(failed)?;
            work.process = child.id();
            child
        };
        let status = child.wait();
        let stopped = {
            let mut work = self.work();
            work.process = 0;
            work.stop
        };
        Ok(match status.map_err(failed)?.code() {
            Some(0 | 1) if !stopped => Ended::Well,
            Some(code) if stopped || code == i32::from(chosen::INTERRUPTED) => Ended::Stopped,
            None if stopped => Ended::Stopped,
            _ => Ended::Badly,
        })
    }
}

/// Sends Ctrl-C's signal to a process, if there is one. Elsewhere than on Unix its terminal has done that.
#[cfg(unix)]
fn interrupt(process: u32) {
    use nix::sys::signal::{Signal, kill};
    if let Ok(id @ 1..) = i32::try_from(process) {
        let _ = kill(nix::unistd::Pid::from_raw(id), Signal::SIGINT);
    }
}

#[cfg(not(unix))]
fn interrupt(_: u32) {}

/// Calls `act` at every signal. A process can say this once.
pub(crate) fn on_signal(act: impl FnMut() + Send + 'static) -> Result<(), Error> {
    ctrlc::set_handler(act)
        .map_err(|e| Error::plain(format!("cannot listen to Ctrl-C: {e}")).about(Topic::System))
}
