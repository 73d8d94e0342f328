//! Ctrl-C and its relatives (SIGTERM, SIGHUP).

use std::path::Path;

use amend_run::Stop;

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
                error::report(&Error::Interrupted(run.clone()), true);
            }
            std::process::exit(i32::from(chosen::INTERRUPTED));
        }
        asked.request();
        console.note(&format!(
            "stopping, what is done is kept; continue with `amend resume {}` \
             (again to stop at once)",
            run.display()
        ));
    })?;
    Ok(stop)
}

/// Calls `act` at every signal. A process can say this once.
pub(crate) fn on_signal(act: impl FnMut() + Send + 'static) -> Result<(), Error> {
    ctrlc::set_handler(act)
        .map_err(|e| Error::plain(format!("cannot listen to Ctrl-C: {e}")).about(Topic::System))
}
