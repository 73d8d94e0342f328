//! Recipes to start from, and values put into their text, whose comments and order stay as they are.

use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

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

/// The text with values at dotted keys, in the place of what stood there; `compare.0.model` is a key of the first table of
/// a list. A table or key that is not there yet is added.
///
/// # Errors
/// Where the text is no TOML, or a key leads through something that is no table; in one sentence.
pub fn fill(text: &str, values: &[(&str, Value)]) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| e.to_string())?;
    for (key, value) in values {
        let mut parts: Vec<&str> = key.split('.').collect();
        let last = parts.pop().unwrap_or_default();
        let table =
            table_at(document.as_table_mut(), &parts).ok_or_else(|| format!("`{key}` is in no table"))?;
        let mut value = value.clone();
        match table.get_mut(last) {
            Some(item) => {
                if let Some(before) = item.as_value() {
                    // The comment behind a value belongs to its line.
                    *value.decor_mut() = before.decor().clone();
                }
                *item = Item::Value(value);
            }
            None => drop(table.insert(last, Item::Value(value))),
        }
    }
    Ok(without_offers(&document.to_string(), values))
}

/// The text without the comments that offer a key (`# gold = "b"   # what it is`) of those that it now has.
fn without_offers(text: &str, values: &[(&str, Value)]) -> String {
    let mut section = String::new();
    let mut kept = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let said = line.trim();
        if let Some(name) = said.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = format!("{}.", name.trim_start_matches('['));
        }
        let offered = said.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")).map(|(key, _)| key);
        let is_given =
            |offered: &str| values.iter().any(|(key, _)| key.strip_prefix(&section) == Some(offered));
        if !offered.is_some_and(is_given) {
            kept.push_str(line);
        }
    }
    kept
}

/// The table that a dotted key leads to.
fn table_at<'d>(table: &'d mut Table, parts: &[&str]) -> Option<&'d mut dyn TableLike> {
    let Some((first, rest)) = parts.split_first() else { return Some(table) };
    let item = table.entry(first).or_insert(Item::Table(Table::new()));
    match (item, rest.split_first()) {
        (Item::Table(inner), _) => table_at(inner, rest),
        (Item::ArrayOfTables(list), Some((place, rest))) => {
            table_at(list.get_mut(place.parse().ok()?)?, rest)
        }
        (other, None) => other.as_table_like_mut(),
        _ => None,
    }
}

/// The text without a key, and without the comments that stand above and behind it; as it is where it has no such key.
///
/// # Errors
/// As [`fill`].
pub fn without(text: &str, key: &str) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| e.to_string())?;
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    if let Some(table) = table_at(document.as_table_mut(), &parts) {
        table.remove(last);
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_order_stay() {
        let text = "# head\n[model]\n# where it is\npath = \"a\"   # the folder\n# gold = \"b\"\n\n[data]\nforget = \"c\"\n";
        let filled =
            fill(text, &[("model.path", "x/y".into()), ("model.gold", "z".into()), ("eval.limit", 3.into())]);
        let expected = "# head\n[model]\npath = \"x/y\"   # the folder\n\n[data]\nforget = \"c\"\n";
        let filled = filled.unwrap();
        assert!(
            filled.starts_with("# head\n[model]\n# where it is\npath = \"x/y\"   # the folder\n"),
            "{filled}"
        );
        for line in expected.lines().chain(["gold = \"z\"", "limit = 3"]) {
            assert!(filled.contains(line), "{line} in {filled}");
        }
        assert!(!filled.contains("# gold"), "an offer that is taken: {filled}");
        assert!(fill("a = 1\n", &[("a.b", 1.into())]).unwrap_err().contains("`a.b`"));
    }

    #[test]
    fn arms_of_a_list_are_filled_and_keys_taken_out() {
        let text = "[[compare]]\nname = \"x\"\nmodel = \"a\"  # which\n[data]\nretain = \"r\"\n[unlearn]\nretain = \"kl\"\n";
        let filled = fill(text, &[("compare.0.model", "b".into())]).unwrap();
        assert!(filled.contains("model = \"b\"  # which"), "{filled}");
        assert!(fill(text, &[("compare.1.model", "b".into())]).is_err());
        let without = without(text, "data.retain").unwrap();
        assert!(!without.contains("\"r\"") && without.contains("retain = \"kl\""), "{without}");
    }
}
