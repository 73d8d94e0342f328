//! What is wrong with a data set, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// What kind of thing is wrong with a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A file cannot be read.
    Unreadable,
    /// A file is of a kind that is not read, or no text.
    Format,
    /// Something is not JSON.
    MalformedJson,
    /// A record is none of those there are, lacks a field, or is of another layout than the first.
    Record,
    /// There is nothing in it.
    Empty,
}

impl Fault {
    /// What programs know it by; it does not change with the message.
    pub fn code(self) -> &'static str {
        match self {
            Fault::Unreadable => "data-unreadable",
            Fault::Format => "data-format",
            Fault::MalformedJson => "data-malformed-json",
            Fault::Record => "data-record",
            Fault::Empty => "data-empty",
        }
    }
}

/// Why a data set was refused.
#[derive(Clone, Debug)]
pub struct RecordsError {
    /// The file.
    pub path: PathBuf,
    /// Line, counted from 1; for a JSON array the line on which the record ends.
    pub line: Option<usize>,
    /// Column in bytes, counted from 1.
    pub column: Option<usize>,
    /// The kind of what is wrong.
    pub fault: Fault,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl RecordsError {
    pub(crate) fn new(fault: Fault, path: &Path, line: Option<usize>, message: String) -> Self {
        Self { path: path.to_path_buf(), line, column: None, fault, message, hint: None }
    }

    /// Where and what: `forget.jsonl:3:7: malformed JSON: …`, without what to do about it.
    pub fn sentence(&self) -> String {
        let numbers = [self.line, self.column].into_iter().flatten();
        let place: String = numbers.map(|number| format!(":{number}")).collect();
        format!("{}{place}: {}", self.path.display(), self.message)
    }

    /// What programs know the error by; it does not change with the message.
    pub fn code(&self) -> &'static str {
        self.fault.code()
    }

    pub(crate) fn no_file() -> Self {
        Self::new(Fault::Empty, Path::new("data"), None, "no file was given".into())
    }

    pub(crate) fn column(mut self, column: usize) -> Self {
        self.column = Some(column);
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for RecordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for RecordsError {}
