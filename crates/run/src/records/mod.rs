//! Data sets: which records a file holds, found by looking and told to the user.
//!
//! The first record decides the layout of the whole data set, by its field names alone; a record of another
//! layout, a missing field or a damaged line is an error with its place. Nothing is skipped silently, except
//! blank lines.

mod error;
mod json;
mod layout;
mod lines;
mod overlap;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use error::RecordsError;
pub use layout::Layout;
pub use overlap::overlap;

use crate::file::hex;
use lines::Input;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// "system", "user", "assistant" or what the model's chat template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

/// One example.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// A question and its answer, with what the TOFU benchmark adds to measure forgetting.
    Question {
        /// The question.
        question: String,
        /// The right answer.
        answer: String,
        /// The answer in other words.
        paraphrased_answer: Option<String>,
        /// Wrong answers of the same form; empty where the file has none.
        perturbed_answer: Vec<String>,
    },
    /// A text and how it goes on.
    PromptCompletion {
        /// What is given.
        prompt: String,
        /// What is to be produced.
        completion: String,
    },
    /// A conversation; never empty.
    Messages(Vec<Message>),
    /// A document.
    Text(String),
}

/// How the files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Format {
    /// One JSON object per line.
    JsonLines,
    /// One JSON array of objects.
    JsonArray,
    /// Plain text.
    Text,
}

/// What a plain-text file is cut into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextUnit {
    /// Documents separated by blank lines.
    #[default]
    Paragraphs,
    /// Each file is one document.
    WholeFile,
}

/// How to read, where the defaults do not do.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// What a plain-text file is cut into.
    pub text_unit: TextUnit,
    /// Longest line of JSON lines, and longest record of a JSON array, in bytes. A file that is not what it
    /// seems would otherwise fill the memory before anything is noticed.
    pub longest_line: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { text_unit: TextUnit::Paragraphs, longest_line: 64 << 20 }
    }
}

/// What was found out about the files; its `Display` is one line for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// How the (first) file is written.
    pub format: Format,
    /// Which fields make a record.
    pub layout: Layout,
    /// Optional fields of the layout that at least one record has.
    pub optional: Vec<String>,
    /// Fields that are not used, in the order met.
    pub ignored: Vec<String>,
    /// How many records there are.
    pub records: usize,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.format {
            Format::JsonLines => "JSON lines",
            Format::JsonArray => "a JSON array",
            Format::Text => "plain text",
        };
        let plural = if self.records == 1 { "" } else { "s" };
        write!(f, "{} record{plural}", self.records)?;
        if self.format != Format::Text {
            let fields = self.layout.required().iter().copied();
            let fields: Vec<&str> = fields.chain(self.optional.iter().map(String::as_str)).collect();
            write!(f, " of {{{}}}", fields.join(", "))?;
        }
        write!(f, " from {format}")?;
        match self.ignored.as_slice() {
            [] => Ok(()),
            ignored => write!(f, "; not used: {}", ignored.join(", ")),
        }
    }
}

/// A file that records came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Its path as given.
    pub path: PathBuf,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// How many records it gave.
    pub records: usize,
}

/// Records and where they came from.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The records, in the order of the files.
    pub records: Vec<Record>,
    /// What was found out about the files.
    pub reading: Reading,
    /// The files.
    pub sources: Vec<Source>,
}

impl Dataset {
    /// Reads files of the same layout into one data set.
    ///
    /// # Errors
    /// See [`Dataset::read_with`].
    pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Self, RecordsError> {
        Self::read_with(paths, &ReadOptions::default())
    }

    /// Reads files of the same layout into one data set.
    ///
    /// # Errors
    /// No files; a file without records; malformed JSON; invalid UTF-8; a missing or mistyped field; a record of
    /// another layout than the first; a line longer than the limit. All name file and line.
    pub fn read_with<P: AsRef<Path>>(paths: &[P], options: &ReadOptions) -> Result<Self, RecordsError> {
        let mut collector = layout::Collector::default();
        let mut sources = Vec::new();
        let mut format = None;
        for path in paths {
            let path = path.as_ref();
            let before = collector.records.len();
            let mut input = Input::open(path, options.longest_line)?;
            let this = input.format()?;
            match this {
                Format::JsonLines => json::read_lines(&mut input, &mut collector)?,
                Format::JsonArray => json::read_array(&mut input, &mut collector)?,
                Format::Text => text::read(&mut input, options.text_unit, &mut collector)?,
            }
            let records = collector.records.len() - before;
            if records == 0 {
                return Err(RecordsError::new(path, None, "the file holds no records".into()));
            }
            format.get_or_insert(this);
            sources.push(Source { path: path.to_path_buf(), sha256: input.finish()?, records });
        }
        let found = format.and_then(|format| collector.finish(format));
        let (records, reading) =
            found.ok_or_else(|| RecordsError::new(Path::new("data"), None, "no file was given".into()))?;
        Ok(Self { records, reading, sources })
    }

    /// SHA-256 of the whole data set: the file's own, or that of all files' hashes in a row.
    pub fn sha256(&self) -> String {
        match self.sources.as_slice() {
            [only] => only.sha256.clone(),
            many => {
                let mut hasher = Sha256::new();
                many.iter().for_each(|source| hasher.update(&source.sha256));
                hex(&hasher.finalize())
            }
        }
    }

    /// How many records there are; never zero.
    #[expect(clippy::len_without_is_empty, reason = "a data set without records cannot be read")]
    pub fn len(&self) -> usize {
        self.records.len()
    }
}

#[cfg(test)]
mod tests;
