//! TOML as a tree whose every key and value remembers where it came from.

use std::ops::Range;

use toml_edit::{Item, TableLike};

use super::error::{Fault, Problem};

/// Where a key or value came from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Origin {
    /// Bytes of the recipe's text.
    File(Range<usize>),
    /// The n-th `--set`.
    Set(usize),
    /// The document itself, which has no one place.
    Nowhere,
}

/// A value and its origin.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: Origin,
    pub(crate) value: Value,
}

/// A TOML value. A date is kept as its text: no recipe computes with dates.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key of a table, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Origin,
    pub(crate) node: Node,
}

impl Node {
    /// What the value is, as errors name it: "a string", "the number 0.5".
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::String(s) if s.len() <= 40 => format!("the string {s:?}"),
            Value::String(_) => "a long string".into(),
            Value::Integer(i) => format!("the number {i}"),
            Value::Float(x) => format!("the number {x:?}"),
            Value::Boolean(b) => format!("`{b}`"),
            Value::Datetime(d) => format!("the date {d}"),
            Value::Array(_) => "an array".into(),
            Value::Table(_) => "a table".into(),
        }
    }
}

/// Reads TOML text into a tree.
pub(crate) fn parse(text: &str) -> Result<Node, Problem> {
    let document = toml_edit::Document::parse(text).map_err(|e| {
        // The parser's message may span lines; the first says what is wrong, the rest what was expected.
        let mut lines = e.message().lines();
        let message = format!("malformed TOML: {}", lines.next().unwrap_or("not readable"));
        let problem = Problem::new(Fault::Syntax, e.span(), message);
        let rest: Vec<&str> = lines.collect();
        if let Some(quoted) = e.span().and_then(|span| unquoted(text, span.start)) {
            return problem.hint(format!("texts stand in quotes: {quoted}"));
        }
        if rest.is_empty() { problem } else { problem.hint(rest.join("; ")) }
    })?;
    Ok(from_table(document.as_table(), Origin::Nowhere))
}

/// The line at a byte as it should be, where it gives a key a word without quotes.
fn unquoted(text: &str, at: usize) -> Option<String> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let (key, value) = text[start..].lines().next()?.split_once('=')?;
    let value = value.split('#').next()?.trim();
    let inner = |c: char| c.is_alphanumeric() || "_-./ ".contains(c);
    let is_word = ["true", "false", "inf", "nan"].contains(&value);
    let begins = |c: char| c.is_alphabetic() || "_/".contains(c);
    let is_text =
        !is_word && (value.starts_with(begins) || value.starts_with("./")) && value.chars().all(inner);
    is_text.then(|| format!("{} = \"{value}\"", key.trim()))
}

fn from_table(table: &dyn TableLike, at: Origin) -> Node {
    let mut entries = Vec::new();
    for (name, item) in table.iter() {
        let key_at = table.key(name).and_then(|key| key.span()).map_or_else(|| at.clone(), Origin::File);
        if let Some(node) = from_item(item, &key_at) {
            entries.push(Entry { key: name.to_owned(), at: key_at, node });
        }
    }
    Node { at, value: Value::Table(entries) }
}

/// A table made by a header has its key as its place: that is the word to point at where something is missing.
fn from_item(item: &Item, key_at: &Origin) -> Option<Node> {
    match item {
        Item::None => None,
        Item::Value(value) => Some(from_value(value, key_at)),
        Item::Table(table) => Some(from_table(table, key_at.clone())),
        Item::ArrayOfTables(tables) => {
            let nodes = tables
                .iter()
                .map(|table| from_table(table, table.span().map_or_else(|| key_at.clone(), Origin::File)));
            Some(Node { at: key_at.clone(), value: Value::Array(nodes.collect()) })
        }
    }
}

/// `fallback` is the origin of values that have no span: those that were not read from the file.
pub(crate) fn from_value(value: &toml_edit::Value, fallback: &Origin) -> Node {
    let at = value.span().map_or_else(|| fallback.clone(), Origin::File);
    let value = match value {
        toml_edit::Value::String(s) => Value::String(s.value().clone()),
        toml_edit::Value::Integer(i) => Value::Integer(*i.value()),
        toml_edit::Value::Float(x) => Value::Float(*x.value()),
        toml_edit::Value::Boolean(b) => Value::Boolean(*b.value()),
        toml_edit::Value::Datetime(d) => Value::Datetime(d.value().to_string()),
        toml_edit::Value::Array(items) => {
            Value::Array(items.iter().map(|item| from_value(item, fallback)).collect())
        }
        toml_edit::Value::InlineTable(table) => return from_table(table, at),
    };
    Node { at, value }
}
