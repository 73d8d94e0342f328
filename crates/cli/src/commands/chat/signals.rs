//! What Ctrl-C means, which hangs on what the chat is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::chosen;
use crate::error::{Error, Topic};
use crate::interrupt;

/// Ctrl-C stops an answer in progress, and the second one in an answer ends the chat. One that comes just before an answer
/// begins stops that, and one that comes just after it has ended was meant for it too, and is let go. While a line is
/// typed Ctrl-C is a key, which the editor sees; what comes then, or to a chat with a pipe, ends it. SIGTERM and SIGHUP end it
/// whatever it does.
#[derive(Clone, Default)]
pub(super) struct Signals {
    at_terminal: bool,
    answering: Arc<AtomicBool>,
    /// The answer in progress, or the next one, shall stop.
    stopped: Arc<AtomicBool>,
    typing: Arc<AtomicBool>,
    /// A signal came that is no Ctrl-C.
    terminated: Arc<AtomicBool>,
}

impl Signals {
    /// Listens, for a chat with somebody who types or with a pipe.
    pub(super) fn listen(at_terminal: bool) -> Result<Self, Error> {
        let signals = Signals { at_terminal, ..Signals::default() };
        let (listener, usual) = (signals.clone(), Mode::now());
        interrupt::on_signal(move || {
            // The mark is set after this was woken, if only just.
            std::thread::sleep(Duration::from_millis(5));
            if listener.ends() {
                usual.restore();
                std::process::exit(i32::from(chosen::INTERRUPTED));
            }
        })?;
        // After that: it hands on to who listened before, and not the other way round.
        mark_others(&signals.terminated)?;
        Ok(signals)
    }

    /// Whether a signal that comes now ends the chat.
    fn ends(&self) -> bool {
        let between = self.at_terminal && !self.typing.load(Ordering::Relaxed);
        let meant_for_an_answer = self.answering.load(Ordering::Relaxed) || between;
        let ends = !meant_for_an_answer || self.terminated.load(Ordering::Relaxed);
        ends || self.stopped.swap(true, Ordering::Relaxed)
    }

    pub(super) fn begin_typing(&self) {
        self.stopped.store(false, Ordering::Relaxed);
        self.typing.store(true, Ordering::Relaxed);
    }

    pub(super) fn end_typing(&self) {
        self.typing.store(false, Ordering::Relaxed);
    }

    pub(super) fn begin_answer(&self) {
        self.answering.store(true, Ordering::Relaxed);
    }

    pub(super) fn end_answer(&self) {
        self.answering.store(false, Ordering::Relaxed);
        self.stopped.store(false, Ordering::Relaxed);
    }

    /// Whether the answer in progress shall stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// From now on `terminated` says whether a signal came that is no Ctrl-C.
#[cfg(unix)]
fn mark_others(terminated: &Arc<AtomicBool>) -> Result<(), Error> {
    use signal_hook::consts::{SIGHUP, SIGTERM};
    for signal in [SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, terminated.clone())
            .map_err(|e| Error::plain(format!("cannot listen to signals: {e}")).about(Topic::System))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn mark_others(_: &Arc<AtomicBool>) -> Result<(), Error> {
    Ok(())
}

/// How the terminal was set before a line was typed, which would be left behind otherwise.
struct Mode {
    #[cfg(unix)]
    set: Option<nix::sys::termios::Termios>,
}

impl Mode {
    fn now() -> Self {
        Mode {
            #[cfg(unix)]
            set: nix::sys::termios::tcgetattr(std::io::stdin()).ok(),
        }
    }

    #[cfg(unix)]
    fn restore(&self) {
        use nix::sys::termios::{SetArg, tcsetattr};
        use std::io::Write;
        // Another program's terminal is left alone: whoever sets it from behind is stopped.
        let is_ours = nix::unistd::tcgetpgrp(std::io::stdin()) == Ok(nix::unistd::getpgrp());
        let Some(set) = self.set.as_ref().filter(|_| is_ours) else { return };
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, set);
        // The editor has had pasted text marked.
        if let Ok(mut terminal) = std::fs::File::options().write(true).open("/dev/tty") {
            let _ = terminal.write_all(b"\x1b[?2004l");
        }
    }

    #[cfg(not(unix))]
    fn restore(&self) {}
}

#[cfg(test)]
mod tests {
    use super::Signals;

    /// A Ctrl-C that came just after an answer had ended by itself ended the chat.
    #[test]
    fn what_a_signal_means_hangs_on_what_is_being_done() {
        let chat = Signals { at_terminal: true, ..Signals::default() };
        // Between the line and the answer: the answer stops, whether it has begun or not.
        chat.begin_typing();
        chat.end_typing();
        assert!(!chat.ends());
        chat.begin_answer();
        assert!(chat.is_stopped());
        assert!(chat.ends(), "the second one");
        chat.end_answer();
        // Just after the answer, once.
        assert!(!chat.is_stopped() && !chat.ends());
        assert!(chat.ends());
        // At the prompt Ctrl-C is a key: a signal comes from elsewhere.
        chat.begin_typing();
        assert!(chat.ends());
        chat.end_typing();
        chat.begin_answer();
        chat.terminated.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(chat.ends(), "SIGTERM");
        assert!(!chat.is_stopped(), "the answer is not stopped first, for a prompt to come after it");
        let pipe = Signals::default();
        assert!(pipe.ends(), "nothing is being answered");
        pipe.begin_answer();
        assert!(!pipe.ends() && pipe.is_stopped());
    }
}
