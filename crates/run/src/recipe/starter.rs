//! Recipes to start from, and values put into their text, whose comments and order stay as they are.

use toml_edit::{DocumentMut, Item, Table, Value};

/// A recipe to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starter {
    /// What it is called.
    pub name: &'static str,
    /// What it is for, in a line.
    pub summary: &'static str,
    /// Its text, explained by its comments.
    pub text: &'static str,
}

/// The text with values at dotted keys, in the place of what stood there. A table or key that is not there yet is added.
///
/// # Errors
/// Where the text is no TOML, or a key leads through something that is no table; in one sentence.
pub fn fill(text: &str, values: &[(&str, Value)]) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| e.to_string())?;
    for (key, value) in values {
        let mut parts: Vec<&str> = key.split('.').collect();
        let last = parts.pop().unwrap_or_default();
        let mut item = document.as_item_mut();
        for part in parts {
            let table = item.as_table_mut().ok_or_else(|| format!("`{key}`: `{part}` is in no table"))?;
            item = table.entry(part).or_insert(Item::Table(Table::new()));
        }
        let table = item.as_table_like_mut().ok_or_else(|| format!("`{key}` is in no table"))?;
        let mut value = value.clone();
        if let Some(before) = table.get(last).and_then(Item::as_value) {
            // The comment behind a value belongs to its line.
            *value.decor_mut() = before.decor().clone();
        }
        table.insert(last, Item::Value(value));
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_order_stay() {
        let text = "# head\n[model]\npath = \"a\"   # the folder\n# gold = \"b\"\n\n[data]\nforget = \"c\"\n";
        let filled =
            fill(text, &[("model.path", "x/y".into()), ("model.gold", "z".into()), ("eval.limit", 3.into())]);
        let expected =
            "# head\n[model]\npath = \"x/y\"   # the folder\n# gold = \"b\"\n\n[data]\nforget = \"c\"\n";
        let filled = filled.unwrap();
        assert!(filled.starts_with("# head\n[model]\npath = \"x/y\"   # the folder\n"), "{filled}");
        for line in expected.lines().chain(["gold = \"z\"", "limit = 3"]) {
            assert!(filled.contains(line), "{line} in {filled}");
        }
        assert!(fill("a = 1\n", &[("a.b", 1.into())]).unwrap_err().contains("`a.b`"));
    }
}
