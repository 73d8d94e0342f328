//! Aligned columns of plain text.

use crate::chosen::WIDTH;

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Lines of a table with a heading, columns two spaces apart.
pub(crate) fn lines(columns: &[(&str, Align)], rows: &[Vec<String>]) -> Vec<String> {
    let heading: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let all = || std::iter::once(&heading).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let cell = |(text, (&(_, align), &width)): (&String, (&(&str, Align), &usize))| {
        let gap = " ".repeat(width - text.chars().count());
        if align == Align::Left { format!("{text}{gap}") } else { format!("{gap}{text}") }
    };
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(columns.iter().zip(&widths)).map(cell).collect();
        cells.join("  ").trim_end().to_owned()
    };
    all().map(line).collect()
}

/// Words of `text` in lines of at most `width` characters, each after `indent` spaces.
pub(crate) fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    let room = width.saturating_sub(indent).max(20);
    let (mut lines, mut line, mut used) = (Vec::new(), " ".repeat(indent), 0);
    let breaks = |c: char| c.is_whitespace() && c != '\u{a0}';
    for word in text.split(breaks).filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += length;
    }
    if used > 0 {
        lines.push(line);
    }
    lines
}

/// Columns to wrap text to: the terminal's, or what COLUMNS says where there is none, within reason.
pub(crate) fn width() -> usize {
    let terminal = terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
    let said = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal.or_else(said).map_or(WIDTH, |columns: usize| columns.clamp(40, 120))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["bcd".to_owned(), "5".to_owned()]];
        assert_eq!(
            lines(&[("name", Align::Left), ("n", Align::Right)], &rows),
            ["name   n", "a     10", "bcd    5"]
        );
    }

    #[test]
    fn words_wrap() {
        let text = "one two three four five six seven eight";
        assert_eq!(wrap(text, 24, 2), ["  one two three four", "  five six seven eight"]);
        assert!(wrap("  ", 80, 0).is_empty());
    }
}
