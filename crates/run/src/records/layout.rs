//! Which fields make a record, and records made of them.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::error::Fault;
use super::rows::Row;
use super::{Content, Format, Reading, Record, RecordsError, Turn, kind};
use crate::nearest;

/// The layouts of records that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Layout {
    /// `{messages: [{role, content}]}`
    Messages,
    /// `{conversations: [{from, value}]}`
    Conversations,
    /// `{question, answer}`; where there are `paraphrased_answer` and `perturbed_answer`, as TOFU has them, they
    /// are texts.
    Question,
    /// `{prompt, completion}`
    PromptCompletion,
    /// `{text}`, or plain text.
    Text,
}

impl Layout {
    /// In the order in which they are looked for: a conversation may carry other fields as well.
    const ALL: [Layout; 5] =
        [Self::Messages, Self::Conversations, Self::Question, Self::PromptCompletion, Self::Text];

    /// The fields every record of the layout has.
    pub fn required(self) -> &'static [&'static str] {
        match self {
            Self::Messages => &["messages"],
            Self::Conversations => &["conversations"],
            Self::Question => &["question", "answer"],
            Self::PromptCompletion => &["prompt", "completion"],
            Self::Text => &["text"],
        }
    }

    pub(super) fn of(row: &Row) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.required().iter().all(|field| row.contains_key(*field)))
    }

    fn describe(self) -> String {
        format!("{{{}}}", self.required().join(", "))
    }

    /// The record of a row: what the layout knows becomes its content, the rest stays under its name.
    pub(super) fn record(self, mut row: Row) -> Result<Record, String> {
        let content = match self {
            Self::Text => Content::Text(string(&mut row, "text")?),
            Self::PromptCompletion => Content::PromptCompletion {
                prompt: string(&mut row, "prompt")?,
                completion: string(&mut row, "completion")?,
            },
            Self::Question => {
                check_text(&row, "paraphrased_answer")?;
                check_texts(&row, "perturbed_answer")?;
                Content::Question {
                    question: string(&mut row, "question")?,
                    answer: string(&mut row, "answer")?,
                }
            }
            Self::Messages => Content::Messages(messages(&mut row, "messages", "role", "content")?),
            Self::Conversations => Content::Messages(messages(&mut row, "conversations", "from", "value")?),
        };
        Ok(Record { content, fields: row })
    }
}

fn string(row: &mut Row, field: &str) -> Result<String, String> {
    match row.shift_remove(field) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("field `{field}` must be a string, found {}", kind(&other))),
        None => Err(format!("missing field `{field}`")),
    }
}

/// Absent and null are as good as a text.
fn check_text(row: &Row, field: &str) -> Result<(), String> {
    match row.get(field) {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(other) => Err(format!("field `{field}` must be a string, found {}", kind(other))),
    }
}

/// One text or a list of them; absent and null mean none.
fn check_texts(row: &Row, field: &str) -> Result<(), String> {
    let refuse = |found: &Value| format!("field `{field}` must be a list of strings, found {}", kind(found));
    match row.get(field) {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(Value::Array(items)) => match items.iter().find(|item| !item.is_string()) {
            Some(other) => Err(format!("{} in it", refuse(other))),
            None => Ok(()),
        },
        Some(other) => Err(refuse(other)),
    }
}

fn messages(row: &mut Row, field: &str, role: &str, content: &str) -> Result<Vec<Turn>, String> {
    let items = match row.shift_remove(field) {
        Some(Value::Array(items)) if !items.is_empty() => items,
        Some(Value::Array(_)) => return Err(format!("field `{field}` is empty")),
        Some(other) => {
            return Err(format!("field `{field}` must be a list of messages, found {}", kind(&other)));
        }
        None => return Err(format!("missing field `{field}`")),
    };
    let message = |(index, item): (usize, Value)| {
        let place = |reason: String| format!("{field}[{index}]: {reason}");
        let Value::Object(mut item) = item else {
            return Err(place(format!("must be an object with `{role}` and `{content}`")));
        };
        let role = match string(&mut item, role).map_err(place)? {
            // The names of the ShareGPT files, in the words of chat templates.
            name if name == "human" => "user".to_owned(),
            name if name == "gpt" => "assistant".to_owned(),
            name => name,
        };
        Ok(Turn { role, content: string(&mut item, content).map_err(place)?, fields: item })
    };
    items.into_iter().enumerate().map(message).collect()
}

/// Gathers records and insists that they are all of the first one's layout.
#[derive(Default)]
pub(super) struct Collector {
    records: Vec<Record>,
    first: Option<(Layout, PathBuf, usize)>,
    fields: Vec<String>,
}

impl Collector {
    /// Adds the record written as `row` at `line`.
    pub(super) fn add(&mut self, path: &Path, line: usize, row: Row) -> Result<(), RecordsError> {
        let refuse = |message: String| RecordsError::new(Fault::Record, path, Some(line), message);
        let layout = match self.expected(path, line, Layout::of(&row))? {
            Some(layout) => layout,
            None => return Err(unknown_layout(&row, &self.first, refuse)),
        };
        let record = layout.record(row).map_err(refuse)?;
        for field in record.fields.keys() {
            // A file with thousands of different names is no table; a few of them tell enough.
            if self.fields.len() < 20 && !self.fields.contains(field) {
                self.fields.push(field.clone());
            }
        }
        self.records.push(record);
        Ok(())
    }

    /// The layout that a record must have, given the one that it seems to have; `None` = it has none of them.
    fn expected(
        &mut self,
        path: &Path,
        line: usize,
        found: Option<Layout>,
    ) -> Result<Option<Layout>, RecordsError> {
        match (&self.first, found) {
            (None, Some(found)) => {
                self.first = Some((found, path.to_path_buf(), line));
                Ok(Some(found))
            }
            (Some((first, ..)), Some(found)) if *first == found => Ok(Some(found)),
            (Some((first, first_path, first_line)), Some(found)) => {
                let place = format!("{}:{first_line}", first_path.display());
                let (found, first) = (found.describe(), first.describe());
                let message = format!("a record of {found} among records of {first} (the first is {place})");
                Err(RecordsError::new(Fault::Record, path, Some(line), message)
                    .hint("put records of different layouts into different data sets"))
            }
            (_, None) => Ok(None),
        }
    }

    /// The records and what was found out about them; `None` where there are none.
    pub(super) fn finish(self, format: Format) -> Option<(Vec<Record>, Reading)> {
        let (layout, ..) = self.first?;
        let reading = Reading { format, layout, fields: self.fields, records: self.records.len() };
        Some((self.records, reading))
    }
}

fn unknown_layout(
    row: &Row,
    first: &Option<(Layout, PathBuf, usize)>,
    refuse: impl Fn(String) -> RecordsError,
) -> RecordsError {
    let has: Vec<&str> = row.keys().map(String::as_str).take(20).collect();
    let suggest = |field: &str| nearest(field, has.iter().copied());
    let fields = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
    if let Some((layout, ..)) = first {
        let missing = layout.required().iter().find(|field| !row.contains_key(**field));
        let field = missing.copied().unwrap_or_default();
        let error = refuse(format!("missing field `{field}` (the record has: {fields})"));
        return match suggest(field) {
            Some(near) => error.hint(format!("is `{near}` meant to be `{field}`?")),
            None => error,
        };
    }
    let known: Vec<String> = Layout::ALL.into_iter().map(Layout::describe).collect();
    let error = refuse(format!("no known kind of record has these fields: {fields}"));
    let mut required = Layout::ALL.iter().flat_map(|layout| layout.required());
    let near = required.find_map(|field| {
        let near = (!row.contains_key(*field)).then(|| suggest(field)).flatten()?;
        Some(format!("is `{near}` meant to be `{field}`? "))
    });
    error.hint(format!("{}known records: {}", near.unwrap_or_default(), known.join(", ")))
}
