//! Where in a recipe a key belongs.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

use super::shape::Schema;
use super::tree::{self, Origin};

/// The bytes of a recipe's text that hold the string `value` under the dotted path `key`; nothing where it says something
/// else there, as where `--set` has changed it.
pub fn span_of(text: &str, key: &str, value: &str) -> Option<Range<usize>> {
    let mut node = tree::parse(text).ok()?;
    for part in key.split('.') {
        let tree::Value::Table(entries) = node.value else { return None };
        node = entries.into_iter().find(|entry| entry.key == part)?.node;
    }
    match (node.value, node.at) {
        (tree::Value::String(found), Origin::File(span)) if found == value => Some(span),
        _ => None,
    }
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

/// Every key of a recipe of this schema, in its order; those of a slot's fillers too, each once. What is within lists is left
/// out, because there may be no items.
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{keys, span_of};

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
                "unlearn": { "type": "object", "properties": { "combine": { "$ref": "#/$defs/Rule" } } },
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
        ];
        assert_eq!(all, wanted);
    }

    #[test]
    fn the_place_of_a_value_is_found_where_the_file_says_it() {
        let text = "seed = 0\ndata = { forget = \"a.jsonl\" }\n[model]\npath = \"m\"\n";
        let at = |key, value| span_of(text, key, value).map(|span| &text[span]);
        assert_eq!(at("data.forget", "a.jsonl"), Some("\"a.jsonl\""));
        assert_eq!(at("model.path", "m"), Some("\"m\""));
        assert_eq!(at("model.path", "other"), None);
        assert_eq!(at("model.gold", "m"), None);
        assert_eq!(at("seed.x", "0"), None);
    }
}
