//! Which fields make a record, and records made of them.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Format, Message, Reading, Record, RecordsError};
use crate::nearest;

/// The layouts of records that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Layout {
    /// `{messages: [{role, content}]}`
    Messages,
    /// `{conversations: [{from, value}]}`
    Conversations,
    /// `{question, answer}`, with `paraphrased_answer` and `perturbed_answer` as TOFU has them.
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

    fn optional(self) -> &'static [&'static str] {
        match self {
            Self::Question => &["paraphrased_answer", "perturbed_answer"],
            _ => &[],
        }
    }

    fn of(object: &Map<String, Value>) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.required().iter().all(|field| object.contains_key(*field)))
    }

    fn describe(self) -> String {
        format!("{{{}}}", self.required().join(", "))
    }

    fn record(self, object: &mut Map<String, Value>) -> Result<Record, String> {
        Ok(match self {
            Self::Text => Record::Text(string(object, "text")?),
            Self::PromptCompletion => Record::PromptCompletion {
                prompt: string(object, "prompt")?,
                completion: string(object, "completion")?,
            },
            Self::Question => Record::Question {
                question: string(object, "question")?,
                answer: string(object, "answer")?,
                paraphrased_answer: match object.get("paraphrased_answer") {
                    None | Some(Value::Null) => None,
                    Some(_) => Some(string(object, "paraphrased_answer")?),
                },
                perturbed_answer: strings(object, "perturbed_answer")?,
            },
            Self::Messages => Record::Messages(messages(object, "messages", "role", "content")?),
            Self::Conversations => Record::Messages(messages(object, "conversations", "from", "value")?),
        })
    }
}

fn string(object: &mut Map<String, Value>, field: &str) -> Result<String, String> {
    match object.get_mut(field).map(Value::take) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("field `{field}` must be a string, found {}", kind(&other))),
        None => Err(format!("missing field `{field}`")),
    }
}

/// One string or a list of them; absent means none.
fn strings(object: &mut Map<String, Value>, field: &str) -> Result<Vec<String>, String> {
    let refuse = |found: &Value| format!("field `{field}` must be a list of strings, found {}", kind(found));
    match object.get_mut(field).map(Value::take) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(items)) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                other => Err(format!("{} in it", refuse(&other))),
            })
            .collect(),
        Some(other) => Err(refuse(&other)),
    }
}

fn messages(
    object: &mut Map<String, Value>,
    field: &str,
    role: &str,
    content: &str,
) -> Result<Vec<Message>, String> {
    let items = match object.get_mut(field).map(Value::take) {
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
        Ok(Message { role, content: string(&mut item, content).map_err(place)? })
    };
    items.into_iter().enumerate().map(message).collect()
}

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

/// Gathers records and insists that they are all of the first one's layout.
#[derive(Default)]
pub(crate) struct Collector {
    pub(crate) records: Vec<Record>,
    first: Option<(Layout, PathBuf, usize)>,
    optional: Vec<String>,
    ignored: Vec<String>,
}

impl Collector {
    /// Adds the record written as `value` at `line`.
    pub(crate) fn add(&mut self, path: &Path, line: usize, value: Value) -> Result<(), RecordsError> {
        let refuse = |message: String| RecordsError::new(path, Some(line), message);
        let mut object = match value {
            Value::Object(object) => object,
            other => return Err(refuse(format!("a record must be an object, found {}", kind(&other)))),
        };
        let layout = match self.expected(path, line, Layout::of(&object))? {
            Some(layout) => layout,
            None => return Err(unknown_layout(&object, &self.first, refuse)),
        };
        for field in object.keys() {
            let list = if layout.optional().contains(&field.as_str()) {
                &mut self.optional
            } else if layout.required().contains(&field.as_str()) {
                continue;
            } else {
                &mut self.ignored
            };
            // A file with thousands of different names is no table; a few of them tell enough.
            if list.len() < 20 && !list.contains(field) {
                list.push(field.clone());
            }
        }
        self.records.push(layout.record(&mut object).map_err(refuse)?);
        Ok(())
    }

    /// Adds a document of a plain-text file.
    pub(crate) fn add_text(&mut self, path: &Path, line: usize, text: String) -> Result<(), RecordsError> {
        self.expected(path, line, Some(Layout::Text))?;
        self.records.push(Record::Text(text));
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
                Err(RecordsError::new(path, Some(line), message)
                    .hint("put records of different layouts into different data sets"))
            }
            (_, None) => Ok(None),
        }
    }

    /// The records and what was found out about them; `None` where there are none.
    pub(crate) fn finish(self, format: Format) -> Option<(Vec<Record>, Reading)> {
        let (layout, ..) = self.first?;
        let reading = Reading {
            format,
            layout,
            optional: self.optional,
            ignored: self.ignored,
            records: self.records.len(),
        };
        Some((self.records, reading))
    }
}

fn unknown_layout(
    object: &Map<String, Value>,
    first: &Option<(Layout, PathBuf, usize)>,
    refuse: impl Fn(String) -> RecordsError,
) -> RecordsError {
    let has: Vec<&str> = object.keys().map(String::as_str).take(20).collect();
    let suggest = |field: &str| nearest(field, has.iter().copied());
    let fields = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
    if let Some((layout, ..)) = first {
        let missing = layout.required().iter().find(|field| !object.contains_key(**field));
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
        let near = (!object.contains_key(*field)).then(|| suggest(field)).flatten()?;
        Some(format!("is `{near}` meant to be `{field}`? "))
    });
    error.hint(format!("{}known records: {}", near.unwrap_or_default(), known.join(", ")))
}
