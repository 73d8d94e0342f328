//! Data sets: which records a file holds, found by looking and told to the user.
//!
//! The first record decides the layout of the whole data set, by its field names alone; a record of another
//! layout, a missing field or a damaged line is an error with its place. Nothing is skipped silently, except
//! blank lines, and nothing is lost: what the layout does not name stays in the record under its own name.

mod chosen;
mod error;
mod filter;
mod json;
mod layout;
mod lines;
mod overlap;
mod rows;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use chosen::{Chosen, Part};
pub use error::{Fault, RecordsError};
pub use filter::Filter;
pub use layout::Layout;
pub use overlap::overlap;
pub use rows::{Row, Rows, text_of, texts_of};

use crate::file::hex;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// "system", "user", "assistant" or what the model's chat template knows.
    pub role: String,
    /// The text.
    pub content: String,
    /// What else the file says about it, by name: tool calls, weights, names.
    pub fields: Row,
}

/// One example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What is learnt from it, or asked with it.
    pub content: Content,
    /// What else the file says about it, by name: ids, subjects, choices, wrong answers.
    pub fields: Row,
}

impl From<Content> for Record {
    /// A record of which nothing else is known.
    fn from(content: Content) -> Self {
        Record { content, fields: Row::new() }
    }
}

impl From<Record> for Row {
    /// The row of a record: its texts first, then its other fields.
    fn from(record: Record) -> Self {
        let mut row = match record.content {
            Content::Question { question, answer } => {
                Row::from_iter([("question".into(), question.into()), ("answer".into(), answer.into())])
            }
            Content::PromptCompletion { prompt, completion } => {
                Row::from_iter([("prompt".into(), prompt.into()), ("completion".into(), completion.into())])
            }
            Content::Messages(messages) => {
                let messages = messages.into_iter().map(|message| {
                    let mut row = Row::new();
                    row.insert("role".into(), message.role.into());
                    row.insert("content".into(), message.content.into());
                    row.extend(message.fields);
                    Value::Object(row)
                });
                Row::from_iter([("messages".into(), messages.collect())])
            }
            Content::Text(text) => Row::from_iter([("text".into(), text.into())]),
        };
        row.extend(record.fields);
        row
    }
}

impl TryFrom<Row> for Record {
    type Error = String;

    /// The record of a row, by the names of its columns; the error says what is wrong in one sentence.
    fn try_from(row: Row) -> Result<Self, String> {
        match Layout::of(&row) {
            Some(layout) => layout.record(row),
            None => {
                let fields: Vec<&str> = row.keys().map(String::as_str).collect();
                Err(format!("no known kind of record has these fields: {}", fields.join(", ")))
            }
        }
    }
}

/// The texts of an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A question and its answer; how a model is asked is up to its template.
    Question {
        /// The question.
        question: String,
        /// The right answer.
        answer: String,
    },
    /// A text and how it goes on.
    PromptCompletion {
        /// What is given.
        prompt: String,
        /// What is to be produced.
        completion: String,
    },
    /// A conversation; never empty.
    Messages(Vec<Turn>),
    /// A document.
    Text(String),
}

impl Content {
    /// What is asked, before any template: the question, the prompt, the last message of the user (empty where there
    /// is none); of a document, all of it.
    pub fn prompt(&self) -> &str {
        match self {
            Content::Question { question: prompt, .. } | Content::PromptCompletion { prompt, .. } => prompt,
            Content::Messages(messages) => {
                messages.iter().rev().find(|message| message.role == "user").map_or("", |m| &m.content)
            }
            Content::Text(text) => text,
        }
    }
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
    /// The other fields that records have, in the order met; the first twenty.
    pub fields: Vec<String>,
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
            write!(f, " of {{{}}}", self.layout.required().join(", "))?;
        }
        write!(f, " from {format}")?;
        match self.fields.as_slice() {
            [] => Ok(()),
            fields => write!(f, "; other fields: {}", fields.join(", ")),
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
        let paths: Vec<&Path> = paths.iter().map(AsRef::as_ref).collect();
        Self::read_files(&paths, options)
    }

    fn read_files(paths: &[&Path], options: &ReadOptions) -> Result<Self, RecordsError> {
        let mut collector = layout::Collector::default();
        let (format, sources) =
            rows::read(paths, options, &mut |path, line, row| collector.add(path, line, row))?;
        let found = format.and_then(|format| collector.finish(format));
        let (records, reading) = found.ok_or_else(RecordsError::no_file)?;
        Ok(Self { records, reading, sources })
    }

    /// SHA-256 of the whole data set: the file's own, or that of all files' hashes in a row.
    pub fn sha256(&self) -> String {
        sha256(&self.sources)
    }

    /// How many records there are; never zero.
    #[expect(clippy::len_without_is_empty, reason = "a data set without records cannot be read")]
    pub fn len(&self) -> usize {
        self.records.len()
    }
}

fn sha256(sources: &[Source]) -> String {
    match sources {
        [only] => only.sha256.clone(),
        many => {
            let mut hasher = Sha256::new();
            many.iter().for_each(|source| hasher.update(&source.sha256));
            hex(&hasher.finalize())
        }
    }
}

/// What a JSON value is, in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
