//! Where in a recipe a key belongs.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

use super::shape::Schema;
use super::tree::{self, Origin};

/// The bytes of a recipe's text that say what stands under the dotted path `key` (`compare.0.where`: the first of a list),
/// or, where it says nothing there, the section in which it would stand.
pub(super) fn span_of(text: &str, key: &str) -> Option<Range<usize>> {
    let mut node = tree::parse(text).ok()?;
    let mut nearest = None;
    for part in key.split('.') {
        let (at, inner) = match node.value {
            tree::Value::Table(entries) => {
                let Some(entry) = entries.into_iter().find(|entry| entry.key == part) else { break };
                // A section is pointed at by its name, a value by itself.
                let is_section = matches!(entry.node.value, tree::Value::Table(_) | tree::Value::Array(_));
                (if is_section { entry.at } else { entry.node.at.clone() }, entry.node)
            }
            tree::Value::Array(mut items) => match part.parse::<usize>() {
                Ok(index) if index < items.len() => {
                    let item = items.swap_remove(index);
                    (item.at.clone(), item)
                }
                _ => break,
            },
            _ => break,
        };
        if let Origin::File(span) = at {
            nearest = Some(span);
        }
        node = inner;
    }
    nearest
}

/// The `--set` that says what stands under `key`: the last one for it, for a part of it, or for what it is a part of.
pub(super) fn set_of<'s>(sets: &'s [String], key: &str) -> Option<&'s String> {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    sets.iter().rev().find(|set| {
        let said = set.split('=').next().unwrap_or_default().trim();
        within(said, key) || within(key, said)
    })
}

/// How deep keys are looked for.
const DEPTH: usize = 6;

/// The dotted paths under which a recipe of this schema has a key of this name, those nearest to the top. Options of a
/// slot's fillers are left out, because they are there for one filler and not for another, and so are items of lists,
/// because there may be none.
pub fn places_of(schema: &Value, key: &str) -> Vec<String> {
    let root = Schema { root: schema };
    let mut tables = BTreeMap::from([(String::new(), schema)]);
    for _ in 0..DEPTH {
        let mut inner = BTreeMap::new();
        let mut found = Vec::new();
        for (path, table) in &tables {
            for shape in root.shapes(table).iter().filter(|shape| shape.tag("name").is_none()) {
                for (name, schema) in &shape.properties {
                    let path = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
                    if *name == key && !found.contains(&path) {
                        found.push(path.clone());
                    }
                    inner.insert(path, *schema);
                }
            }
        }
        if !found.is_empty() || inner.is_empty() {
            return found;
        }
        tables = inner;
    }
    Vec::new()
}

/// A key of recipes, as somebody who types one wants to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its dotted path.
    pub path: String,
    /// What it is, in a sentence.
    pub summary: String,
    /// The words it may have, where it has some of its own.
    pub values: Vec<String>,
}

/// Every key of a recipe of this schema, in its order; those of a slot's fillers too, each once. What is within lists has the
/// place 0, though there may be no items.
pub fn keys(schema: &Value) -> Vec<Key> {
    let mut found = Vec::new();
    collect(Schema { root: schema }, schema, "", DEPTH, &mut found);
    found
}

fn collect(root: Schema<'_>, table: &Value, above: &str, depth: usize, found: &mut Vec<Key>) {
    for (name, schema) in root.shapes(table).iter().flat_map(|shape| &shape.properties) {
        let path = if above.is_empty() { (*name).to_owned() } else { format!("{above}.{name}") };
        let place = found.iter().position(|key| key.path == path).unwrap_or_else(|| {
            let text = schema["description"].as_str().unwrap_or_default();
            let summary = text.lines().next().unwrap_or_default().to_owned();
            found.push(Key { path: path.clone(), summary, values: Vec::new() });
            found.len() - 1
        });
        let allowed = root.shapes(schema).into_iter().filter_map(|shape| shape.allowed).flatten();
        for word in allowed.filter_map(Value::as_str) {
            if found[place].values.iter().all(|known| known != word) {
                found[place].values.push(word.to_owned());
            }
        }
        if depth > 0 {
            collect(root, schema, &path, depth - 1, found);
            for item in root.shapes(schema).into_iter().filter_map(|shape| shape.items) {
                collect(root, item, &format!("{path}.0"), depth - 1, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{keys, set_of, span_of};

    #[test]
    fn every_key_is_listed_once_with_its_words() {
        let schema = serde_json::json!({
            "$defs": { "Rule": { "anyOf": [
                { "type": "string", "enum": ["sum", "sago"] },
                { "type": "object", "properties": { "name": { "const": "sum" }, "weight": { "type": "number" } } },
                { "type": "object", "properties": { "name": { "const": "sago" }, "weight": { "type": "number" } } },
            ] } },
            "properties": {
                "seed": { "type": "integer", "description": "The seed.\nOf all." },
                "unlearn": { "type": "object", "properties": {
                    "combine": { "$ref": "#/$defs/Rule" },
                    "attack": { "type": "array", "items": { "type": "object", "properties": { "steps": {} } } },
                } },
            },
        });
        let all: Vec<String> = keys(&schema)
            .into_iter()
            .map(|key| format!("{} {} {}", key.path, key.values.join(","), key.summary).trim_end().to_owned())
            .collect();
        let wanted = [
            "seed  The seed.",
            "unlearn",
            "unlearn.combine sum,sago",
            "unlearn.combine.name sum,sago",
            "unlearn.combine.weight",
            "unlearn.attack",
            "unlearn.attack.0.steps",
        ];
        assert_eq!(all, wanted);
    }

    #[test]
    fn a_key_has_a_place_or_its_section_has() {
        let text = "seed = 0\ndata = { forget = \"a.jsonl\" }\n[model]\npath = \"m\"\n[[compare]]\nlr = 1\n\
                    [[compare]]\nwhere = { name = \"layers\", layers = [99] }\n";
        let at = |key| span_of(text, key).map(|span| &text[span]);
        assert_eq!(at("data.forget"), Some("\"a.jsonl\""));
        assert_eq!(at("model.path"), Some("\"m\""));
        assert_eq!(at("model.gold"), Some("model"), "its section");
        assert_eq!(at("compare.1.where.layers"), Some("layers"));
        assert!(at("compare.0.where").is_some_and(|section| section.starts_with("[[compare]]")));
        assert_eq!(at("eval.limit"), None);
    }

    #[test]
    fn what_is_set_has_no_place_in_the_file() {
        let sets = ["stop.max_steps=3".to_owned(), "data = { forget = \"x\" }".to_owned()];
        assert_eq!(set_of(&sets, "data.forget"), Some(&sets[1]));
        assert_eq!(set_of(&sets, "stop"), Some(&sets[0]));
        assert_eq!(set_of(&sets, "stop.max"), None);
        assert_eq!(set_of(&sets, "model.path"), None);
    }
}
