//! `--set a.b=value`: edits to the tree before it is checked.

use super::error::{Fault, Problem};
use super::shape::Schema;
use super::tree::{Entry, Node, Origin, Value, from_value};

/// Applies one override. Whether the key exists is for the check against the schema to say.
pub(crate) fn apply(
    root: &mut Node,
    index: usize,
    set: &str,
    schema: &serde_json::Value,
) -> Result<(), Problem> {
    let refuse = |message: String| Problem::new(Fault::Syntax, None, format!("--set {set}: {message}"));
    let Some((path, value)) = set.split_once('=') else {
        return Err(
            refuse("expected KEY=VALUE".into()).hint("for example `--set stop.max_steps=100`".to_owned())
        );
    };
    let keys = toml_edit::Key::parse(path.trim())
        .map_err(|_| refuse(format!("`{}` is not a dotted key", path.trim())))?;
    let origin = Origin::Set(index);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = value.trim();
    if digits(value.strip_prefix(['+', '-']).unwrap_or(value)) && value.parse::<i64>().is_err() {
        let message = format!("--set {set}: {value} is beyond what whole numbers go to, {}", i64::MAX);
        return Err(Problem::new(Fault::OutOfRange, None, message));
    }
    if value.starts_with(['{', '[']) && value.parse::<toml_edit::Value>().is_err() {
        return Err(refuse(
            "the value begins like a table or a list and is none; is a bracket or a quote missing?".into(),
        ));
    }
    let value = read_value(value, &origin);

    let Some((last, leading)) = keys.split_last() else {
        return Err(refuse("expected KEY=VALUE".into()));
    };
    let mut node = root;
    let path: Vec<&str> = keys.iter().map(toml_edit::Key::get).collect();
    for (depth, key) in leading.iter().enumerate() {
        refuse_missing_list(node, key.get(), &origin, &path[..depth]).map_err(&refuse)?;
        node = step_into(node, key.get(), &origin, || long_form(schema, &path[..depth])).map_err(|what| {
            let so_far: Vec<&str> = leading[..depth].iter().map(toml_edit::Key::get).collect();
            refuse(format!("`{}` is {what}, so it has no key `{}`", so_far.join("."), key.get()))
        })?;
    }
    refuse_missing_list(node, last.get(), &origin, &path[..leading.len()]).map_err(&refuse)?;
    let target = step_into(node, last.get(), &origin, || long_form(schema, &path[..leading.len()])).map_err(
        |what| {
            let so_far: Vec<&str> = leading.iter().map(toml_edit::Key::get).collect();
            refuse(format!("`{}` is {what}, so it has no key `{}`", so_far.join("."), last.get()))
        },
    )?;
    *target = value;
    Ok(())
}

/// TOML where it is TOML, a string where it is not: `--set model.path=models/a` needs no quotes.
fn read_value(text: &str, origin: &Origin) -> Node {
    match text.parse::<toml_edit::Value>() {
        Ok(value) if !value.is_datetime() => relabel(from_value(&value, origin), origin),
        _ => Node { at: origin.clone(), value: Value::String(text.to_owned()) },
    }
}

/// Spans inside the flag's own text would be mistaken for spans of the recipe.
fn relabel(mut node: Node, origin: &Origin) -> Node {
    node.at = origin.clone();
    match &mut node.value {
        Value::Array(items) => {
            for item in items.iter_mut() {
                *item = relabel(item.clone(), origin);
            }
        }
        Value::Table(entries) => {
            for entry in entries.iter_mut() {
                entry.at = origin.clone();
                entry.node = relabel(entry.node.clone(), origin);
            }
        }
        _ => {}
    }
    node
}

/// The key that a string stands for at a path: `name` where there is a slot, otherwise the first that a table there must
/// have, such as the `path` of a file of records.
fn long_form(schema: &serde_json::Value, path: &[&str]) -> String {
    let root = Schema { root: schema };
    let mut places = vec![schema];
    for key in path {
        let shapes: Vec<_> = places.iter().flat_map(|place| root.shapes(place)).collect();
        let inner = shapes.iter().filter_map(|shape| shape.property(key).or(shape.items));
        places = inner.collect();
    }
    let shapes: Vec<_> = places.iter().flat_map(|place| root.shapes(place)).collect();
    let required = shapes.iter().find_map(|shape| shape.required.first());
    match required {
        Some(key) if shapes.iter().all(|shape| shape.tag("name").is_none()) => (*key).to_owned(),
        _ => "name".to_owned(),
    }
}

/// Fails where `key` counts the entries of a list that the recipe does not have.
fn refuse_missing_list(node: &Node, key: &str, origin: &Origin, path: &[&str]) -> Result<(), String> {
    let is_new = node.at == *origin && matches!(&node.value, Value::Table(entries) if entries.is_empty());
    if !is_new || key.parse::<usize>().is_err() {
        return Ok(());
    }
    let list = path.join(".");
    Err(format!(
        "the recipe has no list `{list}`, so there is no entry {key} of it to change; write one with --set '{list}=[{{ … }}]'"
    ))
}

/// The value under `key`, created where absent. `Err` says what the node is instead of a table.
fn step_into<'n>(
    node: &'n mut Node,
    key: &str,
    origin: &Origin,
    long_form: impl FnOnce() -> String,
) -> Result<&'n mut Node, String> {
    // `forget = "npo"` is short for `forget = { name = "npo" }`; an option of it needs the long form.
    if let Value::String(name) = &node.value {
        let name = Node { at: node.at.clone(), value: Value::String(name.clone()) };
        let entry = Entry { key: long_form(), at: node.at.clone(), node: name };
        node.value = Value::Table(vec![entry]);
        node.at = origin.clone();
    }
    let what = node.describe();
    match &mut node.value {
        Value::Table(entries) => {
            let position = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
                let empty = Node { at: origin.clone(), value: Value::Table(Vec::new()) };
                entries.push(Entry { key: key.to_owned(), at: origin.clone(), node: empty });
                entries.len() - 1
            });
            Ok(&mut entries[position].node)
        }
        Value::Array(items) => {
            let count = items.len();
            let found = key.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            found.ok_or_else(|| format!("an array of {count} (counted from 0)"))
        }
        _ => Err(what),
    }
}
