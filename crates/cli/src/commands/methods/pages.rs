//! The reference pages: a page of Markdown for every method, made of its own doc comment and schema.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use amend_run::Method;
use amend_run::file::write_atomic;
use serde_json::Value;

use super::{filled, first_sentence, kind};
use crate::error::Error;

/// The pages by their paths below the folder of the reference, an index among them.
pub(super) fn of(methods: &[&dyn Method]) -> Result<BTreeMap<PathBuf, String>, Error> {
    let mut pages = BTreeMap::new();
    let mut index = String::from(INTRODUCTION);
    for method in methods {
        let place = format!("{}/{}-{}.md", method.area(), method.slot(), method.name());
        let summary = first_sentence(&method.doc()).replace('|', "\\|");
        let (area, slot, name) = (method.area(), method.slot(), method.name());
        let _ = writeln!(index, "| {area} | {slot} | [{name}]({place}) | {summary} |");
        pages.insert(PathBuf::from(place), page(*method)?);
    }
    pages.insert(PathBuf::from("README.md"), index);
    Ok(pages)
}

const INTRODUCTION: &str = "# Methods\n\n\
    What a recipe can choose from. These pages are written by `amend methods --pages docs/methods` from what the program says \
    of itself, as are `amend methods NAME` and `amend schema NAME`; a test keeps them in step.\n\n\
    | area | slot | method | what it does |\n|---|---|---|---|\n";

/// Writes the pages, and removes those of methods that there are no more.
pub(super) fn write(pages: &BTreeMap<PathBuf, String>, folder: &Path) -> Result<(), Error> {
    for (place, text) in pages {
        let path = folder.join(place);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, "cannot create", e))?;
        write_atomic(&path, text.as_bytes())?;
    }
    for area in pages.keys().filter_map(|place| place.parent()).filter(|area| !area.as_os_str().is_empty()) {
        let entries = std::fs::read_dir(folder.join(area)).map_err(|e| Error::read(&folder.join(area), e))?;
        for entry in entries.flatten() {
            let is_page = entry.path().extension().is_some_and(|extension| extension == "md");
            let is_ours =
                || std::fs::read_to_string(entry.path()).is_ok_and(|text| text.contains(&mark(area)));
            if is_page && !pages.contains_key(&area.join(entry.file_name())) && is_ours() {
                std::fs::remove_file(entry.path())
                    .map_err(|e| Error::io(&entry.path(), "cannot remove", e))?;
            }
        }
    }
    Ok(())
}

/// What stands in the pages of an area, and in nobody's notes.
fn mark(area: &Path) -> String {
    format!("\n\nArea `{}`, slot `", area.display())
}

fn page(method: &dyn Method) -> Result<String, Error> {
    let mut page = format!("# {}{}{}`.\n", method.name(), mark(Path::new(method.area())), method.slot());
    for line in method.doc().lines() {
        match line.strip_prefix("# ") {
            Some(heading) => {
                let _ = write!(page, "\n## {heading}\n\n");
            }
            None if line.trim().is_empty() => {}
            None => page.push_str(&(unlinked(line) + "\n")),
        }
    }
    page.push_str("\n## Options\n\n");
    page.push_str(&options(method));
    let _ = write!(page, "\n## In a recipe\n\n```toml\n{}\n```\n", filled(method)?);
    Ok(page)
}

/// Names of Rust items lead nowhere from here: the name alone stays.
fn unlinked(line: &str) -> String {
    let (mut text, mut rest) = (String::new(), line);
    while let Some(open) = rest.find("[`") {
        let Some(close) = rest[open..].find("`]").map(|at| open + at) else { break };
        text.push_str(&rest[..open]);
        text.push_str(&rest[open + 1..=close]);
        rest = &rest[close + 2..];
    }
    text + rest
}

fn options(method: &dyn Method) -> String {
    let (schema, defaults) = (method.schema().to_value(), method.defaults());
    let properties = schema["properties"].as_object().filter(|all| !all.is_empty());
    let Some(properties) = properties else { return "None.\n".into() };
    let mut table = String::from("| option | type | default | what it is |\n|---|---|---|---|\n");
    for (name, property) in properties {
        let default = defaults.get(name).filter(|value| !value.is_null());
        let default = default.map_or_else(|| "–".into(), |value| format!("`{value}`"));
        let text = property["description"].as_str().unwrap_or_default().split_whitespace();
        let text = unlinked(&text.collect::<Vec<_>>().join(" ")).replace('|', "\\|");
        let range = range(property).map(|range| format!(" ({range})")).unwrap_or_default();
        let _ = writeln!(
            table,
            "| `{name}` | {}{range} | {} | {text} |",
            kind(&schema, property).replace('|', "\\|"),
            default.replace('|', "\\|")
        );
    }
    table
}

/// What a number may be.
fn range(property: &Value) -> Option<String> {
    let bounds = [
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    ];
    let said: Vec<String> = bounds
        .iter()
        .filter_map(|(key, word)| Some(format!("{word} {}", property.get(key).filter(|v| v.is_number())?)))
        // Whole numbers are at least 0 anyway.
        .filter(|said| said != "at least 0")
        .collect();
    (!said.is_empty()).then(|| said.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_items_are_names() {
        assert_eq!(
            unlinked("as [`Sago`] and [`crate::x`] do, [see](https://x.y)"),
            "as `Sago` and `crate::x` do, [see](https://x.y)"
        );
    }

    #[test]
    fn ranges_are_words() {
        let number = serde_json::json!({ "type": "number", "exclusiveMinimum": 0.0, "maximum": 1.0 });
        assert_eq!(range(&number).unwrap(), "above 0.0, at most 1.0");
        assert_eq!(range(&serde_json::json!({ "type": "integer", "minimum": 0 })), None);
    }
}
