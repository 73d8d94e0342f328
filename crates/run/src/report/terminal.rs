//! The report as plain text.

use super::width::{columns, one_line, pad, wrap, wrap_line};
use super::{Cell, Exchange, Plot, Report, Section, Table, unbroken_parts};

const GAP: usize = 2;

pub(super) fn text(report: &Report, width: usize) -> String {
    let title = one_line(&report.title);
    let mut blocks = vec![vec![title.clone(), "═".repeat(columns(&title).min(width))]];
    for section in &report.sections {
        blocks.push(match section {
            Section::Heading(text) => {
                let text = one_line(text);
                let rule = "─".repeat(columns(&text).min(width));
                vec![text, rule]
            }
            Section::Prose(text) => prose(text, width),
            Section::Warning(text) => prose(&format!("warning: {text}"), width),
            Section::Table(content) => table(content, width),
            Section::Plot(content) => plot(content, width),
            Section::Exchanges(exchanges) => {
                let mut lines = caption(&exchanges.caption, width);
                for item in &exchanges.exchanges {
                    lines.extend(exchange(item, width));
                }
                lines
            }
            Section::Command { caption: text, command } => {
                let mut lines = caption(text, width);
                // Never wrapped: a broken command cannot be copied.
                lines.extend(command.lines().map(|line| format!("  {}", one_line(line))));
                lines
            }
            Section::KeyValues(pairs) => {
                let pairs: Vec<(&str, &str)> =
                    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                named(&pairs, 0, width)
            }
            // A page holds what a terminal has no room for.
            Section::Details { .. } | Section::Answers(_) => Vec::new(),
            Section::Files(files) => {
                let files: Vec<(&str, &str)> =
                    files.iter().map(|(name, path)| (name.as_str(), path.as_str())).collect();
                named(&files, 0, width)
            }
        });
    }
    blocks.retain(|block| !block.is_empty());
    let blocks: Vec<String> = blocks
        .iter()
        .map(|lines| lines.iter().map(|line| format!("{}\n", line.trim_end())).collect())
        .collect();
    // Lines are broken now, and an ordinary space is what people copy.
    blocks.join("\n").replace('\u{a0}', " ")
}

fn caption(text: &str, width: usize) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { wrap(text, width) }
}

fn prose(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(wrap(paragraph, width));
    }
    lines
}

/// `name  value`, values aligned and wrapped under themselves.
fn named(pairs: &[(&str, &str)], indent: usize, width: usize) -> Vec<String> {
    let names: Vec<String> = pairs.iter().map(|(name, _)| one_line(name)).collect();
    let widest = names.iter().map(|name| columns(name)).max().unwrap_or(0).min(width / 2);
    let mut lines = Vec::new();
    for (name, (_, value)) in names.iter().zip(pairs) {
        let room = width.saturating_sub(indent + widest + GAP).max(10);
        for (index, line) in wrap(value, room).into_iter().enumerate() {
            let name = if index == 0 { name.as_str() } else { "" };
            lines.push(format!(
                "{}{}{}{line}",
                " ".repeat(indent),
                pad(name, widest, false),
                " ".repeat(GAP)
            ));
        }
    }
    lines
}

fn exchange(exchange: &Exchange, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(wrap(&exchange.question, width));
    let expected = exchange.expected.iter().map(|text| ("expected", text.as_str()));
    let answers = exchange.answers.iter().map(|(model, text)| (model.as_str(), text.as_str()));
    let pairs: Vec<(&str, &str)> = expected.chain(answers).collect();
    lines.extend(named(&pairs, 2, width));
    lines
}

/// `0.412 ± 0.013 ✓`, with blanks for a mark where others of the column have one. A note comes behind it, or under it
/// where a column is too narrow.
fn plain(cell: &Cell, room_for_mark: bool) -> String {
    let error = cell.error.iter().map(|error| format!(" ± {error}"));
    let text: String = std::iter::once(cell.shown()).chain(error).collect();
    // Not the ordinary space, which is where lines are broken: a figure and its error stay together.
    let text = match cell.error {
        Some(_) => one_line(&text).replace(' ', "\u{a0}"),
        None => one_line(&text),
    };
    let text = match cell.shade {
        Some(share) => format!("{text}\u{a0}{}", bar(share)),
        None => text,
    };
    let text = match cell.verdict {
        Some(verdict) => format!("{text}\u{a0}{}", verdict.mark()),
        None if room_for_mark => text + "\u{a0}\u{a0}",
        None => text,
    };
    match &cell.note {
        Some(note) => format!("{text} ({})", unbroken_parts(note)),
        None => text,
    }
}

fn table(table: &Table, width: usize) -> Vec<String> {
    let count = table.width();
    let numeric: Vec<bool> = (0..count).map(|column| table.is_numeric(column)).collect();
    let headings: Vec<String> = (0..count)
        .map(|column| {
            let room = if table.has_marks(column) { "\u{a0}\u{a0}" } else { "" };
            one_line(table.columns.get(column).map_or("", String::as_str)) + room
        })
        .collect();
    let cell = |row: &[Cell], column: usize| {
        row.get(column).map(|cell| plain(cell, table.has_marks(column))).unwrap_or_default()
    };
    let rows: Vec<Vec<String>> =
        table.rows.iter().map(|row| (0..count).map(|column| cell(row, column)).collect()).collect();

    let widest = |column: usize| {
        let cells = rows.iter().map(|row| columns(&row[column]));
        cells.chain([columns(&headings[column])]).max().unwrap_or(0)
    };
    let longest_word = |column: usize| {
        let texts = rows.iter().map(|row| &row[column]).chain([&headings[column]]);
        texts.flat_map(|text| text.split(' ')).map(columns).max().unwrap_or(0)
    };
    let least: Vec<usize> = (0..count).map(longest_word).collect();
    let available = width.saturating_sub(GAP * count.saturating_sub(1));
    let mut lines = caption(&table.caption, width);
    if least.iter().sum::<usize>() > available && count > 1 {
        // Words would be broken: a row becomes a list, each value beside its name.
        for row in &rows {
            let pairs = headings.iter().zip(row).skip(1).filter(|(_, text)| !text.is_empty());
            let pairs: Vec<(&str, &str)> =
                pairs.map(|(name, text)| (name.trim_end(), text.trim_end())).collect();
            lines.extend(wrap(&row[0], width));
            lines.extend(named(&pairs, 2, width));
        }
        return lines;
    }
    let widths = fit((0..count).map(widest).collect(), &least, available);
    lines.extend(row_lines(&headings, &widths, &numeric));
    lines.push("─".repeat(widths.iter().sum::<usize>() + GAP * count.saturating_sub(1)));
    for row in &rows {
        lines.extend(row_lines(row, &widths, &numeric));
    }
    lines
}

/// Takes columns away from the widest until the table fits, from none more than its longest word allows.
fn fit(mut widths: Vec<usize>, least: &[usize], available: usize) -> Vec<usize> {
    while widths.iter().sum::<usize>() > available {
        let can_shrink = widths.iter_mut().zip(least).filter(|(width, least)| **width > **least);
        match can_shrink.map(|(width, _)| width).max() {
            Some(widest) => *widest -= 1,
            None => break,
        }
    }
    widths
}

fn row_lines(cells: &[String], widths: &[usize], numeric: &[bool]) -> Vec<String> {
    let wrapped: Vec<Vec<String>> =
        cells.iter().zip(widths).map(|(cell, width)| wrap_line(cell, *width)).collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
    let line = |index: usize| {
        let parts = wrapped.iter().enumerate().map(|(column, lines)| {
            pad(lines.get(index).map_or("", String::as_str), widths[column], numeric[column])
        });
        parts.collect::<Vec<_>>().join(&" ".repeat(GAP))
    };
    (0..height).map(line).collect()
}

/// A row of bars per series, with first and last value: a glance, not a measurement.
fn plot(plot: &Plot, width: usize) -> Vec<String> {
    let heading = format!("{} ({} over {})", plot.title, plot.y_label, plot.x_label);
    let mut lines = wrap(&heading, width);
    let values: Vec<Vec<f64>> = plot.series.iter().map(|series| drawn(plot, &series.points)).collect();
    let all = || values.iter().flatten();
    let low = all().copied().fold(f64::INFINITY, f64::min);
    let high = all().copied().fold(f64::NEG_INFINITY, f64::max);
    let names: Vec<String> = plot.series.iter().map(|series| one_line(&series.name)).collect();
    let widest = names.iter().map(|name| columns(name)).max().unwrap_or(0);
    let room = width.saturating_sub(widest + 28).clamp(8, 60);
    for (name, values) in names.iter().zip(&values) {
        let (Some(first), Some(last)) = (values.first(), values.last()) else {
            lines.push(format!("  {}  no values", pad(name, widest, false)));
            continue;
        };
        let back = |value: f64| short(if plot.log_y { 10f64.powf(value) } else { value });
        let bars = bars(values, low, high, room);
        lines.push(format!("  {}  {bars}  {} → {}", pad(name, widest, false), back(*first), back(*last)));
    }
    lines
}

/// The heights of the points that a plot can show; logarithms where its axis is logarithmic.
fn drawn(plot: &Plot, points: &[(f64, f64)]) -> Vec<f64> {
    let heights = points.iter().map(|(_, y)| if plot.log_y { y.log10() } else { *y });
    heights.filter(|y| y.is_finite()).collect()
}

fn short(value: f64) -> String {
    crate::Figure::exact(value, 0).format_value()
}

fn bars(values: &[f64], low: f64, high: f64, room: usize) -> String {
    let count = room.min(values.len());
    let of_stretch = |index: usize| {
        // The mean of the stretch that the bar stands for.
        let stretch = &values[index * values.len() / count..(index + 1) * values.len() / count];
        let mean = stretch.iter().sum::<f64>() / stretch.len() as f64;
        let height = if high > low { (mean - low) / (high - low) } else { 0.5 };
        bar(height)
    };
    (0..count).map(of_stretch).collect()
}

/// A bar of a height between 0 and 1.
fn bar(height: f64) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    BARS[((height * 7.0).round() as usize).min(7)]
}
