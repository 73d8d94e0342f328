//! The report as one web page.

use std::fmt::Write;

use super::answers;
use super::draw::{self, Theme};
use super::width::one_line;
use super::{Cell, Exchange, Report, Section, Table, unbroken_parts};

const STYLE: &str = include_str!("style.css");

/// Makes text safe inside elements and quoted attributes. Control characters that HTML forbids are replaced.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(c),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

pub(super) fn page(report: &Report) -> String {
    let title = escape(&report.title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"generator\" content=\"amend\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    let mut anchors = Anchors::default();
    let mut contents = contents(report);
    for section in &report.sections {
        if let Section::Heading(text) = section {
            // What stands before the first heading is the answer; how to find the rest comes after it.
            page.push_str(&std::mem::take(&mut contents));
            page.push_str(&format!("<h2 id=\"{}\">{}</h2>\n", anchors.of(text), escape(text)));
        } else {
            page.push_str(&html(section));
        }
    }
    if report.sections.iter().any(|section| matches!(section, Section::Answers(_))) {
        page.push_str(&format!("<script>\n{}</script>\n", answers::SCRIPT));
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// Names for the places of headings, each used once.
#[derive(Default)]
struct Anchors(Vec<String>);

impl Anchors {
    fn of(&mut self, heading: &str) -> String {
        let words = heading.to_lowercase();
        let words = words.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let mut name = words.collect::<Vec<_>>().join("-");
        if name.is_empty() || self.0.contains(&name) {
            name = format!("{name}-{}", self.0.len() + 1);
        }
        self.0.push(name.clone());
        name
    }
}

/// Links to the headings, where there are enough of them to get lost in.
fn contents(report: &Report) -> String {
    const FEW: usize = 3;
    let headings = report.sections.iter().filter_map(|section| match section {
        Section::Heading(text) => Some(text),
        _ => None,
    });
    let mut anchors = Anchors::default();
    let links: Vec<String> = headings
        .map(|text| format!("<li><a href=\"#{}\">{}</a></li>\n", anchors.of(text), escape(text)))
        .collect();
    if links.len() < FEW {
        return String::new();
    }
    format!("<nav aria-label=\"Contents\"><ul>\n{}</ul></nav>\n", links.concat())
}

fn html(section: &Section) -> String {
    match section {
        Section::Heading(text) => format!("<h2>{}</h2>\n", escape(text)),
        Section::Prose(text) => prose(text),
        Section::Warning(text) => format!("<p class=\"warning\" role=\"note\">⚠ {}</p>\n", inline(text)),
        Section::Table(content) => table(content),
        Section::Plot(plot) => {
            format!("<figure class=\"plot\">\n{}</figure>\n", draw::svg(plot, 760, 380, Theme::Page))
        }
        Section::Exchanges(exchanges) => {
            let cards: String = exchanges.exchanges.iter().map(exchange).collect();
            format!("<section class=\"samples\">\n{}{cards}</section>\n", caption("p", &exchanges.caption))
        }
        Section::Command { caption: text, command } => {
            format!("{}<pre class=\"command\"><code>{}</code></pre>\n", caption("p", text), escape(command))
        }
        Section::KeyValues(pairs) => {
            let rows = pairs
                .iter()
                .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value)));
            format!("<dl>\n{}</dl>\n", rows.collect::<String>())
        }
        Section::Details { summary, pairs } => {
            let value = |value: &str| match value.contains('\n') {
                true => format!("<pre><code>{}</code></pre>", escape(value.trim_end())),
                false => inline(value),
            };
            let rows = pairs
                .iter()
                .map(|(name, text)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), value(text)));
            format!(
                "<details>\n<summary>{}</summary>\n<dl>\n{}</dl>\n</details>\n",
                inline(summary),
                rows.collect::<String>()
            )
        }
        Section::Files(files) => {
            let links = files
                .iter()
                .map(|(name, path)| format!("<li><a href=\"{}\">{}</a></li>\n", escape(path), escape(name)));
            format!("<ul class=\"files\">\n{}</ul>\n", links.collect::<String>())
        }
        Section::Answers(content) => answers::html(content),
    }
}

pub(super) fn caption(element: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("<{element} class=\"caption\">{}</{element}>\n", inline(text))
}

fn prose(text: &str) -> String {
    let paragraphs = text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty());
    paragraphs.map(|paragraph| format!("<p>{}</p>\n", inline(paragraph.trim()))).collect()
}

/// Escapes, and sets what stands between backticks as code. A lone backtick stays what it is.
fn inline(text: &str) -> String {
    let mut html = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('`') {
        let Some((code, after)) = after.split_once('`') else { break };
        // Writing to a string cannot fail.
        let _ = write!(html, "{}<code>{}</code>", escape(before), escape(code));
        rest = after;
    }
    html + &escape(rest)
}

fn table(table: &Table) -> String {
    let class = |column: usize| if table.is_numeric(column) { " class=\"number\"" } else { "" };
    let mut html = String::from("<div class=\"scroll\">\n<table>\n");
    html.push_str(&caption("caption", &table.caption));
    html.push_str("<thead><tr>");
    for column in 0..table.width() {
        let heading = table.columns.get(column).map_or("", String::as_str);
        html.push_str(&format!("<th scope=\"col\"{}>{}</th>", class(column), inline(heading)));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        html.push_str("<tr>");
        for column in 0..table.width() {
            let content = row.get(column).map(|c| cell(c, table.has_marks(column))).unwrap_or_default();
            // On a narrow screen a row becomes a list, in which every value needs its name.
            let name = table.columns.get(column).map_or(String::new(), |name| escape(&one_line(name)));
            html.push_str(&match column {
                0 => format!("<th scope=\"row\"{}>{content}</th>", class(0)),
                _ => {
                    let shade = row.get(column).map_or_else(String::new, shade);
                    format!("<td{}{shade} data-name=\"{name}\">{content}</td>", class(column))
                }
            });
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
    html
}

/// The coloured ground of a cell of a heat map; numbers on it stay readable.
fn shade(cell: &Cell) -> String {
    let Some(share) = cell.shade else { return String::new() };
    let percent = (65.0 * share).round();
    format!(" style=\"background: color-mix(in srgb, var(--accent) {percent}%, transparent)\"")
}

fn cell(cell: &Cell, room_for_mark: bool) -> String {
    let mut html = inline(&cell.shown());
    if let Some(error) = &cell.error {
        html =
            format!("<span class=\"figure\">{html}<span class=\"error\"> ± {}</span></span>", escape(error));
    }
    html = match cell.verdict {
        Some(verdict) => {
            let (word, mark) = (verdict.word(), verdict.mark());
            // Under numbers a mark has a width of its own; after words a space that does not break holds it.
            let (class, space) = if room_for_mark { (" class=\"mark\"", "") } else { ("", "\u{a0}") };
            let mark = format!("{space}<span{class} role=\"img\" aria-label=\"{word}\">{mark}</span>");
            format!("<span class=\"{word}\">{html}{mark}</span>")
        }
        None if room_for_mark => html + "<span class=\"mark\"></span>",
        None => html,
    };
    match &cell.note {
        Some(note) => {
            let note = escape(&unbroken_parts(note));
            format!("<span class=\"noted\">{html}<span class=\"note\">{note}</span></span>")
        }
        None => html,
    }
}

fn exchange(exchange: &Exchange) -> String {
    let line = |class: &str, name: &str, text: &str| {
        format!("<dt class=\"{class}\">{}</dt><dd class=\"{class}\">{}</dd>\n", escape(name), escape(text))
    };
    let mut html = format!("<article>\n<p class=\"question\">{}</p>\n<dl>\n", escape(&exchange.question));
    if let Some(expected) = &exchange.expected {
        html.push_str(&line("expected", "expected", expected));
    }
    for (model, answer) in &exchange.answers {
        html.push_str(&line("answer", model, answer));
    }
    html + "</dl>\n</article>\n"
}
