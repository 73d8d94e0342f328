//! Standard output: data, and nothing but data.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;

use crate::error::Error;

/// Standard output.
pub(crate) struct Output {
    writer: BufWriter<Box<dyn Write>>,
    terminal: bool,
}

impl Output {
    pub(crate) fn stdout() -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Output { writer: BufWriter::new(Box::new(stdout)), terminal }
    }

    /// A place for data that nobody is to see.
    pub(crate) fn nowhere() -> Self {
        Output { writer: BufWriter::new(Box::new(io::sink())), terminal: false }
    }

    /// Whether a person is looking on.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// One line of text.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Error> {
        writeln!(self.writer, "{line}").map_err(Error::Output)
    }

    /// Text as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Error> {
        self.writer.write_all(text.as_bytes()).map_err(Error::Output)
    }

    /// What a model said. A screen gets it without control characters: a model must not be able to
    /// command the terminal. A file gets it as it is.
    pub(crate) fn said(&mut self, text: &str) -> Result<(), Error> {
        if self.terminal { self.text(&harmless(text)) } else { self.text(text) }
    }

    /// One value as a line of JSON.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<(), Error> {
        serde_json::to_writer(&mut self.writer, value).map_err(|e| Error::Output(e.into()))?;
        self.line("")
    }

    /// One value as indented JSON.
    pub(crate) fn json_document(&mut self, value: &impl Serialize) -> Result<(), Error> {
        serde_json::to_writer_pretty(&mut self.writer, value).map_err(|e| Error::Output(e.into()))?;
        self.line("")
    }

    /// Hands on what was written so far.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.writer.flush().map_err(Error::Output)
    }
}

/// The text with control characters other than tab and line feed made visible.
pub(crate) fn harmless(text: &str) -> String {
    let shown = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn a_model_cannot_command_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\n\tc\u{9b}"), "a\u{fffd}[2Jb\u{fffd}\n\tc\u{fffd}");
    }
}
