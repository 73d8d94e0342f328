//! Checks a recipe's tree against the schema of its type, to say everything that is wrong and where.
//!
//! Serde alone would stop at the first problem, lose the place of anything inside a tagged or flattened type,
//! and silently accept unknown keys wherever a type forgot to deny them.

use super::error::{Fault, Finding};
use super::places::places_of;
use super::shape::{Schema, Shape};
use super::tree::{Entry, Node, Value};
use crate::nearest;

/// Everything the schema has against the tree, which is what stands at the dotted `path` of a recipe; empty = it fits.
pub(crate) fn check(root: &Node, schema: &serde_json::Value, path: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let check = Check { schema: Schema { root: schema } };
    check.visit(root, schema, path, &mut findings);
    findings
}

struct Check<'s> {
    schema: Schema<'s>,
}

impl<'s> Check<'s> {
    /// `path` is the dotted path of `node`, empty for the document.
    fn visit(&self, node: &Node, schema: &'s serde_json::Value, path: &str, findings: &mut Vec<Finding>) {
        let shapes = self.schema.shapes(schema);
        let fitting: Vec<&Shape> = shapes.iter().filter(|shape| admits(shape, &node.value)).collect();
        if fitting.is_empty() {
            findings.push(wrong_type(node, &shapes, path));
            return;
        }
        match &node.value {
            Value::Table(entries) => self.table(node, entries, &fitting, path, findings),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let schema = fitting.iter().find_map(|s| s.first_items.get(index).copied().or(s.items));
                    if let Some(schema) = schema {
                        self.visit(item, schema, &format!("{path}[{index}]"), findings);
                    }
                }
            }
            Value::String(text) => findings.extend(unknown_value(node, text, &fitting, path)),
            Value::Integer(number) => findings.extend(out_of_range(node, *number as f64, &fitting, path)),
            Value::Float(number) => findings.extend(out_of_range(node, *number, &fitting, path)),
            Value::Boolean(_) | Value::Datetime(_) => {}
        }
    }

    fn table(
        &self,
        node: &Node,
        entries: &[Entry],
        fitting: &[&Shape<'s>],
        path: &str,
        findings: &mut Vec<Finding>,
    ) {
        match choose(node, entries, fitting, path) {
            Err(finding) => findings.push(finding),
            Ok(chosen) => {
                // Alternatives that nothing tells apart (untagged types): whichever has the least against it.
                let mut best: Option<Vec<Finding>> = None;
                for shape in chosen {
                    let mut found = Vec::new();
                    self.keys(node, entries, shape, path, &mut found);
                    if best.as_ref().is_none_or(|best| found.len() < best.len()) {
                        best = Some(found);
                    }
                }
                findings.extend(best.unwrap_or_default());
            }
        }
    }

    fn keys(
        &self,
        node: &Node,
        entries: &[Entry],
        shape: &Shape<'s>,
        path: &str,
        findings: &mut Vec<Finding>,
    ) {
        for entry in entries {
            let here = join(path, &entry.key);
            match shape.property(&entry.key).or(shape.other_keys) {
                Some(schema) => self.visit(&entry.node, schema, &here, findings),
                None if shape.is_free_form() => {}
                None => {
                    let valid: Vec<&str> = shape.properties.iter().map(|(name, _)| *name).collect();
                    let message = format!("unknown key `{}` in {}", entry.key, place(path));
                    let elsewhere = places_of(self.schema.root, &entry.key);
                    let hint = if !elsewhere.is_empty() {
                        format!(
                            "did you mean `{}`? valid keys: {}",
                            elsewhere.join("` or `"),
                            valid.join(", ")
                        )
                    } else if valid.is_empty() {
                        "no keys are known here".to_owned()
                    } else {
                        nearest::hint(&entry.key, "valid keys", &valid)
                    };
                    findings.push(Finding::new(Fault::UnknownKey, &entry.at, message, Some(hint)));
                }
            }
        }
        for &name in &shape.required {
            if !entries.iter().any(|entry| entry.key == name) {
                findings.push(missing(node, name, shape, path));
            }
        }
    }
}

/// The alternatives of a union that the table can mean, judged by its tag.
fn choose<'a, 's>(
    node: &Node,
    entries: &[Entry],
    fitting: &[&'a Shape<'s>],
    path: &str,
) -> Result<Vec<&'a Shape<'s>>, Finding> {
    if let [only] = fitting {
        return Ok(vec![only]);
    }
    let entry_of = |name: &str| entries.iter().find(|entry| entry.key == name);

    // `{ name = "npo", … }`: every alternative demands another constant of the same key.
    let tag = fitting[0]
        .properties
        .iter()
        .map(|(name, _)| *name)
        .find(|name| fitting.iter().all(|shape| shape.tag(name).is_some()));
    if let Some(tag) = tag {
        let values: Vec<&str> = fitting.iter().filter_map(|shape| shape.tag(tag)).collect();
        let Some(entry) = entry_of(tag) else {
            let message = format!("missing key `{tag}` in {}", place(path));
            return Err(Finding::new(
                Fault::MissingKey,
                &node.at,
                message,
                Some(format!("one of: {}", values.join(", "))),
            ));
        };
        let Value::String(value) = &entry.node.value else {
            let message = format!("`{}` must be a string, found {}", join(path, tag), entry.node.describe());
            let hint = format!("one of: {}", values.join(", "));
            return Err(Finding::new(Fault::WrongType, &entry.node.at, message, Some(hint)));
        };
        let chosen: Vec<_> = fitting.iter().copied().filter(|shape| shape.tag(tag) == Some(value)).collect();
        if chosen.is_empty() {
            return Err(unknown(&entry.node, value, path, &values));
        }
        return Ok(chosen);
    }

    // `{ npo = { … } }`: every alternative is one key.
    if fitting.iter().all(|shape| shape.properties.len() == 1 && shape.required.len() == 1) {
        let names: Vec<&str> = fitting.iter().map(|shape| shape.required[0]).collect();
        let chosen: Vec<_> =
            fitting.iter().copied().filter(|shape| entry_of(shape.required[0]).is_some()).collect();
        if chosen.is_empty() {
            let (at, word) = entries.first().map_or((&node.at, ""), |entry| (&entry.at, entry.key.as_str()));
            let message = format!("{} needs exactly one key", place(path));
            return Err(Finding::new(
                Fault::MissingKey,
                at,
                message,
                Some(nearest::hint(word, "valid keys", &names)),
            ));
        }
        return Ok(chosen);
    }
    Ok(fitting.to_vec())
}

fn admits(shape: &Shape, value: &Value) -> bool {
    let names: &[&str] = match value {
        Value::String(_) | Value::Datetime(_) => &["string"],
        Value::Integer(_) => &["integer", "number"],
        Value::Float(_) => &["number"],
        Value::Boolean(_) => &["boolean"],
        Value::Array(_) => &["array"],
        Value::Table(_) => &["object"],
    };
    if !shape.types.is_empty() {
        return shape.types.iter().any(|t| names.contains(t));
    }
    // A bare `enum` or `const` has no type of its own; in schemas of Rust types its values are strings.
    match &shape.allowed {
        Some(values) => values.iter().any(|v| v.is_string()) == matches!(value, Value::String(_)),
        None => true,
    }
}

fn wrong_type(node: &Node, shapes: &[Shape], path: &str) -> Finding {
    let mut wanted: Vec<&str> = Vec::new();
    for name in shapes.iter().flat_map(|shape| &shape.types) {
        let words = match *name {
            "string" => "a string",
            "integer" => "a whole number",
            "number" => "a number",
            "boolean" => "true or false",
            "array" => "an array",
            "object" => "a table",
            _ => continue,
        };
        if !wanted.contains(&words) {
            wanted.push(words);
        }
    }
    let what = if path.is_empty() { "the recipe".to_owned() } else { format!("`{path}`") };
    let message = format!("{what} must be {}, found {}", list(&wanted), node.describe());
    let hint = match &node.value {
        Value::Float(x) if wanted == ["a whole number"] && x.fract() == 0.0 && x.abs() < 1e15 => {
            Some(format!("write {x:.0}"))
        }
        Value::String(text) if wanted.contains(&"a whole number") && text.parse::<i64>().is_ok() => {
            Some(format!("write {text} without quotes"))
        }
        Value::String(text) if wanted.contains(&"a number") && text.parse::<f64>().is_ok() => {
            Some(format!("write {text} without quotes"))
        }
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) if wanted == ["a string"] => {
            Some("put it in quotes".into())
        }
        Value::String(_) if wanted == ["an array"] => Some("put it in brackets: [\"…\"]".into()),
        _ => None,
    };
    Finding::new(Fault::WrongType, &node.at, message, hint)
}

fn unknown_value(node: &Node, text: &str, fitting: &[&Shape], path: &str) -> Option<Finding> {
    let mut valid = Vec::new();
    for shape in fitting {
        let allowed = shape.allowed.as_ref()?;
        valid.extend(allowed.iter().filter_map(|value| value.as_str()));
    }
    (!valid.contains(&text)).then(|| unknown(node, text, path, &valid))
}

fn unknown(node: &Node, text: &str, path: &str, valid: &[&str]) -> Finding {
    let message = format!("unknown value {text:?} for `{path}`");
    Finding::new(Fault::UnknownValue, &node.at, message, Some(nearest::hint(text, "valid values", valid)))
}

fn out_of_range(node: &Node, number: f64, fitting: &[&Shape], path: &str) -> Option<Finding> {
    // A value that may be anything may also be a number that is none.
    let admits = |shape: &&Shape| shape.types.is_empty() || shape.range.admits(number);
    if fitting.iter().any(admits) {
        return None;
    }
    let range = fitting.last()?.range.describe();
    let endless = if number.is_finite() || range.contains("finite") { "" } else { ", which is not finite" };
    let message = format!("`{path}` must be {range}, found {}{endless}", node.describe());
    Some(Finding::new(Fault::OutOfRange, &node.at, message, None))
}

fn missing(node: &Node, name: &str, shape: &Shape, path: &str) -> Finding {
    let message = format!("missing key `{name}` in {}", place(path));
    let doc = shape.property(name).and_then(|schema| schema.get("description")?.as_str()?.lines().next());
    let hint = match doc {
        Some(doc) => format!("add `{name} = …`: {doc}"),
        None => format!("add `{name} = …`"),
    };
    Finding::new(Fault::MissingKey, &node.at, message, Some(hint))
}

fn list(wanted: &[&str]) -> String {
    if wanted.is_empty() { "something else".into() } else { wanted.join(" or ") }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn place(path: &str) -> String {
    if path.is_empty() { "the recipe".into() } else { format!("`{path}`") }
}
