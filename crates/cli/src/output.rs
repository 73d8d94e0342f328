//! Standard output: data, and nothing but data.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;

use crate::console::Console;
use crate::error::Error;

/// Bytes that are collected before they are handed on.
const FULL: usize = 1 << 16;

/// Standard output. Where it shares a screen or a pipe with messages and progress, it must not run into them: while
/// it writes, no bar is drawn, and what it hands on by itself ends with a line.
pub(crate) struct Output {
    writer: Box<dyn Write>,
    /// Written, but not handed on yet.
    held: Vec<u8>,
    bars: MultiProgress,
    terminal: bool,
}

impl Output {
    pub(crate) fn stdout(console: &Console) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        // Standard output has a buffer of its own, which hands on whatever is before the last line feed at once.
        Output { writer: Box::new(stdout), held: Vec::new(), bars: console.bars().clone(), terminal }
    }

    /// A place for data that nobody is to see.
    pub(crate) fn nowhere() -> Self {
        Self::to(Box::new(io::sink()))
    }

    fn to(writer: Box<dyn Write>) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Output { writer, held: Vec::new(), bars, terminal: false }
    }

    /// Whether a person is looking on.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// One line of text.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Error> {
        writeln!(self.held, "{line}").map_err(Error::Output)?;
        self.hand_on_if_full()
    }

    /// Text as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Error> {
        self.held.extend_from_slice(text.as_bytes());
        self.hand_on_if_full()
    }

    /// What a model said. A screen gets it without control characters: a model must not be able to
    /// command the terminal. A file gets it as it is.
    pub(crate) fn said(&mut self, text: &str) -> Result<(), Error> {
        if self.terminal { self.text(&harmless(text)) } else { self.text(text) }
    }

    /// One value as a line of JSON.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<(), Error> {
        serde_json::to_writer(&mut self.held, value).map_err(|e| Error::Output(e.into()))?;
        self.line("")
    }

    /// One value as indented JSON.
    pub(crate) fn json_document(&mut self, value: &impl Serialize) -> Result<(), Error> {
        serde_json::to_writer_pretty(&mut self.held, value).map_err(|e| Error::Output(e.into()))?;
        self.line("")
    }

    /// Hands on what was written so far.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.hand_on(self.held.len())
    }

    fn hand_on_if_full(&mut self) -> Result<(), Error> {
        if self.held.len() < FULL {
            return Ok(());
        }
        let whole_lines = self.held.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.hand_on(whole_lines)
    }

    fn hand_on(&mut self, bytes: usize) -> Result<(), Error> {
        let Output { writer, held, bars, .. } = self;
        let written = bars.suspend(|| writer.write_all(&held[..bytes]).and_then(|()| writer.flush()));
        held.drain(..bytes);
        written.map_err(Error::Output)
    }
}

/// What a command had to say before it failed, it says.
impl Drop for Output {
    fn drop(&mut self) {
        // The error that ended the command is the one worth telling.
        let _ = self.flush();
    }
}

/// What a command had to tell beside its exit code. Whoever has closed the pipe has read enough, and the code still says it.
pub(crate) fn heard(told: Result<(), Error>) -> Result<(), Error> {
    match told {
        Err(Error::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told,
    }
}

/// The text with control characters other than tab and line feed made visible.
pub(crate) fn harmless(text: &str) -> String {
    let shown = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::{FULL, Output, harmless};

    /// Remembers every piece it was handed.
    #[derive(Clone, Default)]
    struct Pieces(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Progress that is written to the same pipe in between once ended up in the middle of a line.
    #[test]
    fn what_is_handed_on_unasked_ends_with_a_line() {
        let pieces = Pieces::default();
        let mut out = Output::to(Box::new(pieces.clone()));
        let line = "x".repeat(1000);
        for _ in 0..3 * FULL / line.len() {
            out.line(&line).unwrap();
        }
        out.text("the beginning of a line").unwrap();
        let handed_on = pieces.0.lock().unwrap().clone();
        assert!(handed_on.len() >= 2 && handed_on.iter().all(|piece| piece.ends_with(b"\n")));
        drop(out);
        assert!(pieces.0.lock().unwrap().last().unwrap().ends_with(b"the beginning of a line"));
    }

    #[test]
    fn a_model_cannot_command_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\n\tc\u{9b}"), "a\u{fffd}[2Jb\u{fffd}\n\tc\u{fffd}");
    }
}
