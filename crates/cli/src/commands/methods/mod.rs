//! `amend methods`: what a recipe can choose from.

mod pages;

use std::path::PathBuf;

use amend_learn::area::Area;
use amend_run::Method;
use clap::Args;
use serde_json::{Value, json};

use crate::app::Exit;
use crate::area::{self, AREAS};
use crate::completing;
use crate::context::Context;
use crate::error::Error;
use crate::table::{self, Align};

const EXAMPLES: &str = "\
Examples:
  amend methods                 every area, slot and method
  amend methods npo             what one does, its source and its options
  amend methods forget          the methods of a slot
  amend methods forget/npo      one of several with the same name";

/// List what a recipe can choose from, or explain one method
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MethodsArgs {
    /// A method, or a slot, whose methods are listed
    #[arg(add = completing::methods())]
    name: Option<String>,
    /// Print the list as a Markdown table, as the README has it
    #[arg(long, conflicts_with = "name")]
    markdown: bool,
    /// Write a page of Markdown about every method, and an index, to this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["name", "markdown"], value_hint = clap::ValueHint::DirPath)]
    pages: Option<PathBuf>,
}

pub(crate) fn execute(args: MethodsArgs, context: &mut Context) -> Result<Exit, Error> {
    let slot = args.name.as_ref().map_or_else(Vec::new, |name| area::methods_of_slot(name));
    if !slot.is_empty() {
        list_slot(&slot, context)?;
        return Ok(Exit::Done);
    }
    let methods = match &args.name {
        Some(name) => area::methods_called(name)?,
        None => AREAS.iter().flat_map(|area| (area.methods)()).collect(),
    };
    if let Some(folder) = &args.pages {
        pages::write(&pages::of(&methods)?, folder)?;
        context.console.note(&format!(
            "{} methods, from {}",
            methods.len(),
            folder.join("README.md").display()
        ));
    } else if args.markdown {
        markdown(&methods, context)?;
    } else if context.json {
        let all: Vec<Value> = methods.iter().map(|m| to_json(*m, args.name.is_some())).collect();
        context.out.json_document(&all)?;
    } else if args.name.is_some() {
        for method in methods {
            page(method, context)?;
        }
    } else {
        list(context)?;
    }
    Ok(Exit::Done)
}

fn markdown(methods: &[&dyn Method], context: &mut Context) -> Result<(), Error> {
    context.out.line("| area | slot | method | what it does |\n|---|---|---|---|")?;
    for method in methods {
        let summary = first_sentence(&method.doc()).replace('|', "\\|");
        context.out.line(format_args!(
            "| {} | {} | `{}` | {summary} |",
            method.area(),
            method.slot(),
            method.name()
        ))?;
    }
    Ok(())
}

pub(super) fn to_json(method: &dyn Method, whole: bool) -> Value {
    let mut value = json!({
        "name": method.name(),
        "area": method.area(),
        "slot": method.slot(),
        "summary": first_sentence(&method.doc()),
        "defaults": method.defaults(),
    });
    if whole {
        value["doc"] = method.doc().into();
        value["schema"] = method.schema().to_value();
    }
    value
}

fn list(context: &mut Context) -> Result<(), Error> {
    for area in AREAS {
        rows(area, &(area.methods)(), context)?;
    }
    Ok(())
}

fn list_slot(methods: &[&dyn Method], context: &mut Context) -> Result<(), Error> {
    if context.json {
        let all: Vec<Value> = methods.iter().map(|method| to_json(*method, false)).collect();
        return context.out.json_document(&all);
    }
    for area in AREAS {
        let own: Vec<&dyn Method> = methods.iter().copied().filter(|m| m.area() == area.name).collect();
        if !own.is_empty() {
            rows(area, &own, context)?;
        }
    }
    Ok(())
}

/// An area, and a row per method under its slot.
fn rows(area: &Area, methods: &[&dyn Method], context: &mut Context) -> Result<(), Error> {
    context.out.line(format_args!("{}: {}", area.name, area.summary))?;
    let widest = methods.iter().map(|m| m.name().len()).max().unwrap_or(0);
    let mut slot = "";
    for method in methods {
        if slot != method.slot() {
            slot = method.slot();
            context.out.line(format_args!("\n  {slot}"))?;
        }
        let summary = table::wrap(&first_sentence(&method.doc()), table::width(), widest + 6);
        let summary = summary.join("\n");
        context.out.line(format_args!("    {:<widest$}  {}", method.name(), summary.trim_start()))?;
    }
    context.out.line("\n`amend methods NAME` explains one of them.")
}

/// The first sentence under the first heading.
pub(crate) fn first_sentence(doc: &str) -> String {
    let prose = doc.lines().skip_while(|line| line.trim().is_empty() || line.starts_with('#'));
    let paragraph: Vec<&str> = prose.take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let text = plain(&paragraph.join(" "));
    // A full stop within a number or an abbreviation is not followed by a space and a capital.
    let end = text.match_indices(". ").find(|(at, _)| text[at + 2..].starts_with(char::is_uppercase));
    end.map_or(text.clone(), |(at, _)| text[..=at].to_owned())
}

/// Markdown's marks for emphasis, code and links taken away. Brackets of a formula stay.
fn plain(text: &str) -> String {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some(open) = rest.find('[') {
        plain.push_str(&rest[..open]);
        rest = &rest[open + 1..];
        match rest.find(']') {
            Some(close) if rest[close..].starts_with("](") => {
                plain.push_str(&rest[..close]);
                plain.push(' ');
                rest = &rest[close + 1..];
            }
            Some(close) if rest.starts_with('`') => {
                plain.push_str(&rest[..close]);
                rest = &rest[close + 1..];
            }
            _ => plain.push('['),
        }
    }
    plain.push_str(rest);
    plain.replace("**", "").replace('`', "")
}

fn page(method: &dyn Method, context: &mut Context) -> Result<(), Error> {
    let title = format!("{} ({}, slot {})", method.name(), method.area(), method.slot());
    context.out.line(format_args!("{title}\n{}", "═".repeat(title.chars().count())))?;
    let width = table::width();
    for block in method.doc().split("\n\n").flat_map(split_headings) {
        match block.trim_start().strip_prefix('#') {
            Some(heading) => {
                context.out.line(format_args!("\n{}", plain(heading.trim_start_matches('#').trim())))?;
            }
            None => {
                for item in items(&block) {
                    for line in table::wrap(&plain(&item), width, 2) {
                        context.out.line(line)?;
                    }
                }
            }
        }
    }
    context.out.line("\nOptions")?;
    options(method, context)
}

/// A heading stands alone, also where no blank line follows it.
fn split_headings(block: &str) -> Vec<String> {
    match block.split_once('\n') {
        Some((heading, rest)) if heading.starts_with('#') => vec![heading.to_owned(), rest.to_owned()],
        _ => vec![block.to_owned()],
    }
}

/// A paragraph, or the items of a list, each in one piece.
fn items(block: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in block.lines() {
        let begins = ["- ", "* "].iter().any(|mark| line.trim_start().starts_with(mark));
        match items.last_mut() {
            Some(item) if !begins => {
                item.push(' ');
                item.push_str(line.trim());
            }
            _ => items.push(line.trim().to_owned()),
        }
    }
    items
}

fn options(method: &dyn Method, context: &mut Context) -> Result<(), Error> {
    let (schema, defaults) = (method.schema().to_value(), method.defaults());
    let Some(Value::Object(properties)) =
        schema.get("properties").filter(|p| p.as_object().is_some_and(|p| !p.is_empty()))
    else {
        context.out.line("  none")?;
        return example(method, context);
    };
    let row = |(name, property): (&String, &Value)| {
        let default = defaults.get(name).filter(|value| !value.is_null()).map(Value::to_string);
        vec![name.clone(), kind(&schema, property), default.unwrap_or_else(|| "-".into())]
    };
    let rows: Vec<_> = properties.iter().map(row).collect();
    let columns = [("  option", Align::Left), ("type", Align::Left), ("default", Align::Left)];
    let indented: Vec<Vec<String>> =
        rows.iter().map(|row| vec![format!("  {}", row[0]), row[1].clone(), row[2].clone()]).collect();
    let lines = table::lines(&columns, &indented);
    context.out.line(&lines[0])?;
    for (line, property) in lines[1..].iter().zip(properties.values()) {
        context.out.line(line)?;
        let description = property.get("description").and_then(Value::as_str).unwrap_or_default();
        for line in table::wrap(&plain(description), table::width(), 6) {
            context.out.line(line)?;
        }
    }
    example(method, context)
}

/// How a recipe chooses the method.
fn example(method: &dyn Method, context: &mut Context) -> Result<(), Error> {
    context.out.line("\nIn a recipe")?;
    context.out.line(format_args!("  {}\n", filled(method)?.replace('\n', "\n  ")))
}

/// The lines of a recipe that choose the method.
fn filled(method: &dyn Method) -> Result<String, Error> {
    let area = area::find(method.area())?;
    let name = format!("\"{}\"", method.name());
    let filler = if area.is_list(method.slot()) { format!("[{name}]") } else { name };
    Ok(format!("[{}]\n{} = {filler}", method.area(), method.slot()))
}

/// The type of an option of this schema in words.
fn kind(schema: &Value, option: &Value) -> String {
    if let Some(words) = words(option) {
        return words.join(" or ");
    }
    match option.get("type") {
        Some(Value::String(one)) => one.clone(),
        Some(Value::Array(several)) => {
            let names: Vec<_> = several.iter().filter_map(Value::as_str).filter(|n| *n != "null").collect();
            names.join(" or ")
        }
        _ => match place(option).and_then(|place| schema.pointer(place)) {
            Some(described) => kind(schema, described),
            None => "table".into(),
        },
    }
}

/// The words that an option may have, each as it is written.
fn words(option: &Value) -> Option<Vec<String>> {
    let named = option.get("enum").and_then(Value::as_array).cloned();
    let one_of = || -> Option<Vec<Value>> {
        option.get("oneOf")?.as_array()?.iter().map(|one| one.get("const").cloned()).collect()
    };
    Some(named.or_else(one_of)?.iter().map(Value::to_string).collect())
}

/// Where in its schema an option is described that is described elsewhere.
fn place(option: &Value) -> Option<&str> {
    let several = ["allOf", "anyOf"].into_iter().filter_map(|key| option[key].as_array());
    let direct = std::iter::once(option).chain(several.flatten());
    direct.filter_map(|one| one.get("$ref")?.as_str()?.strip_prefix('#')).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_one_sentence() {
        let doc = "# What it does\nPushes p below 0.1. It uses `beta`\nas well.\n\n# Source\nX. Y.";
        assert_eq!(first_sentence(doc), "Pushes p below 0.1.");
        assert_eq!(first_sentence("# What it does\n\nOne **thing**"), "One thing");
    }

    #[test]
    fn formulas_keep_their_brackets() {
        assert_eq!(plain("σ(β·[(a − b)(c)]) of [`Sago`]"), "σ(β·[(a − b)(c)]) of Sago");
        assert_eq!(plain("see [the paper](https://x.y), **really**"), "see the paper (https://x.y), really");
    }

    #[test]
    fn lists_keep_their_items() {
        assert_eq!(items("- a\n  b\n- c"), ["- a b", "- c"]);
        assert_eq!(items("a\nb"), ["a b"]);
    }
}
