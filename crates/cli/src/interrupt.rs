//! Ctrl-C and its relatives (SIGTERM, SIGHUP).

use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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

/// A process that works for this one, which hands signals on to it: the first asks it to stop, the second ends it.
#[derive(Clone, Default)]
pub(crate) struct HandedOn {
    stop: Stop,
    /// The id of the process; 0 where there is none.
    child: Arc<AtomicU32>,
}

impl HandedOn {
    /// From now on signals are handed on.
    pub(crate) fn listen(console: &Console) -> Result<Self, Error> {
        let handed_on = HandedOn::default();
        let (here, console) = (handed_on.clone(), console.clone());
        on_signal(move || {
            if !here.stop.requested() {
                console.note("stopping, what is done is kept (again to stop at once)");
            }
            here.stop.request();
            interrupt(here.child.load(Ordering::Relaxed));
        })?;
        Ok(handed_on)
    }

    /// Whether a signal came.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.requested()
    }

    /// Runs a process to its end.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(crate) fn run(&self, command: &mut Command) -> io::Result<ExitStatus> {
        // In a group of its own the terminal's Ctrl-C does not reach it as well.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        let mut child = command.spawn()?;
        self.child.store(child.id(), Ordering::Relaxed);
        if self.stopped() {
            interrupt(child.id());
        }
        let ended = child.wait();
        self.child.store(0, Ordering::Relaxed);
        ended
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
