//! The report as Markdown, for a model card: what can be said in text and tables. Plots, files and answers stay in the
//! run folder.

use super::width::one_line;
use super::{Cell, Report, Section, Table};

pub(super) fn text(report: &Report) -> String {
    let mut blocks = vec![format!("# {}", escaped(&report.title))];
    for section in &report.sections {
        blocks.push(match section {
            Section::Heading(text) => format!("## {}", escaped(text)),
            Section::Prose(text) => marked(text),
            Section::Warning(text) => format!("> **Warning.** {}", marked(text)),
            Section::Table(content) => table(content),
            Section::Command { caption, command } => {
                format!("{}\n\n{}", escaped(caption), fenced("sh", command))
            }
            Section::KeyValues(pairs) => {
                let line =
                    |(name, value): &(String, String)| format!("- {}: {}", escaped(name), escaped(value));
                pairs.iter().map(line).collect::<Vec<_>>().join("\n")
            }
            Section::Details { summary, pairs } => {
                let whole = |(name, value): &(String, String)| match value.contains('\n') {
                    true => format!("{}:\n\n{}", escaped(name), fenced("", value)),
                    false => format!("- {}: {}", escaped(name), escaped(value)),
                };
                let inside = pairs.iter().map(whole).collect::<Vec<_>>().join("\n");
                format!("<details><summary>{}</summary>\n\n{inside}\n\n</details>", escaped(summary))
            }
            Section::Plot(_) | Section::Exchanges(_) | Section::Files(_) | Section::Answers(_) => continue,
        });
    }
    blocks.retain(|block| !block.is_empty());
    blocks.join("\n\n") + "\n"
}

fn table(table: &Table) -> String {
    let width = table.width();
    let row = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let heading = (0..width).map(|i| table.columns.get(i).map_or_else(String::new, |name| escaped(name)));
    let rule = (0..width).map(|i| if table.is_numeric(i) { "---:" } else { "---" }.to_owned());
    let mut lines = vec![row(heading.collect()), row(rule.collect())];
    for cells in &table.rows {
        lines.push(row((0..width).map(|i| cells.get(i).map_or_else(String::new, cell)).collect()));
    }
    let lines = lines.join("\n");
    if table.caption.is_empty() { lines } else { format!("{}\n\n{lines}", marked(&table.caption)) }
}

fn cell(cell: &Cell) -> String {
    let mut text = escaped(&cell.shown());
    if let Some(error) = &cell.error {
        text.push_str(&format!(" ± {}", escaped(error)));
    }
    if let Some(verdict) = cell.verdict {
        text.push_str(&format!(" {}", verdict.mark()));
    }
    text
}

/// A block of code, fenced by more backticks than it holds in a row.
fn fenced(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}", text.trim_end())
}

/// Paragraphs in which `backticks` mark code already.
fn marked(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let part = |(i, part): (usize, &str)| if i % 2 == 1 { part.to_owned() } else { with_escapes(part) };
    parts.map(part).collect::<Vec<_>>().join("`")
}

/// One line without anything that Markdown or HTML would take for its own.
fn escaped(text: &str) -> String {
    with_escapes(&one_line(text)).replace('`', "\\`")
}

fn with_escapes(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            '|' | '*' | '_' | '[' | ']' | '\\' => safe.extend(['\\', c]),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Figure;

    #[test]
    fn a_report_becomes_text_and_tables() {
        let mut report = Report::new("A | b");
        report.prose("Stops at `x_y` <b>.").heading("Figures").push(Section::Table(Table {
            caption: "All".into(),
            columns: vec!["arm".into(), "kept".into()],
            rows: vec![vec!["a_b".into(), Cell::from(Figure { value: 0.5, n: 4, stderr: Some(0.1) }).good()]],
        }));
        report.command("Again:", "amend run 'a.toml'");
        let expected = "# A \\| b\n\nStops at `x_y` &lt;b>.\n\n## Figures\n\nAll\n\n| arm | kept |\n| --- | ---: |\n\
                        | a\\_b | 0.500 ± 0.100 ✓ |\n\nAgain:\n\n```sh\namend run 'a.toml'\n```\n";
        assert_eq!(report.to_markdown(), expected);
    }

    #[test]
    fn no_code_ends_its_own_fence() {
        assert_eq!(fenced("", "a\n```\nb\n"), "````\na\n```\nb\n````");
    }
}
