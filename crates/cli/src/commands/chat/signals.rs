//! What Ctrl-C means, which hangs on what the chat is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::chosen;
use crate::error::Error;
use crate::interrupt;

/// Ctrl-C stops an answer in progress. One that comes just after the answer has ended by itself was meant for it
/// too, and is let go; while a line is typed it is the editor that sees it. What else comes ends the chat.
#[derive(Clone)]
pub(super) struct Signals {
    /// An answer is being written.
    pub(super) answering: Arc<AtomicBool>,
    /// It shall stop. Between answers: somebody wanted to stop one.
    pub(super) stopped: Arc<AtomicBool>,
    /// A line is being typed, so that Ctrl-C is a key and a signal comes from elsewhere.
    pub(super) typing: Arc<AtomicBool>,
}

impl Signals {
    /// Listens, for a chat with somebody who types or with a pipe.
    pub(super) fn listen(at_terminal: bool) -> Result<Self, Error> {
        let signals = Signals { answering: Arc::default(), stopped: Arc::default(), typing: Arc::default() };
        let Signals { answering, stopped, typing } = signals.clone();
        let usual = Mode::now();
        interrupt::on_signal(move || {
            let between = at_terminal && !typing.load(Ordering::Relaxed);
            let meant_for_an_answer = answering.load(Ordering::Relaxed) || between;
            if !meant_for_an_answer || stopped.swap(true, Ordering::Relaxed) {
                usual.restore();
                std::process::exit(i32::from(chosen::INTERRUPTED));
            }
        })?;
        Ok(signals)
    }

    /// From now on Ctrl-C stops an answer.
    pub(super) fn begin_answer(&self) {
        self.stopped.store(false, Ordering::Relaxed);
        self.answering.store(true, Ordering::Relaxed);
    }

    pub(super) fn end_answer(&self) {
        self.answering.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
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

    fn restore(&self) {
        #[cfg(unix)]
        if let Some(set) = &self.set {
            use nix::sys::termios::{SetArg, tcsetattr};
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, set);
        }
    }
}
