//! A place in a recipe, drawn: its line between the neighbours, and a mark beneath.

use std::fmt::Write as _;
use std::ops::Range;

use amend_run::RecipeError;
use unicode_width::UnicodeWidthStr;

use crate::console::painted;

/// Draws `span`, in bytes of the recipe. Of a span over several lines the first is marked.
///
/// ```text
///    ╭─[forget.toml:2:1]
///  1 │ seed = 0
///  2 │ stpes = 3
///    · ─────
///    ╰────
/// ```
pub(crate) fn draw(recipe: &RecipeError, span: &Range<usize>) -> String {
    let text = &recipe.source_text;
    let (number, column) = recipe.line_column(span.start);
    let lines: Vec<&str> = text.lines().collect();
    // Behind the last newline there is a line as well, when it is the one that is meant.
    let line = |number: usize| lines.get(number - 1).copied().unwrap_or_default();
    let last = lines.len().clamp(number, number + 1);
    let width = last.to_string().len();

    let place = format!("{}:{number}:{column}", recipe.path.display());
    let mut drawn = String::new();
    let _ = writeln!(drawn, " {:width$} ╭─[{}]", "", painted("36;1;4", &place));
    for shown in number.saturating_sub(1).max(1)..=last {
        let (cut, text) = window(line(shown), if shown == number { column - 1 } else { 0 });
        let _ = writeln!(drawn, " {} │ {}", painted("2", &format!("{shown:width$}")), without_tabs(&text));
        if shown == number {
            let before: String = text.chars().take(column - 1 - cut).collect();
            let rest = &text[before.len()..];
            let inside = rest.get(..span.len().min(rest.len())).unwrap_or(rest);
            let mark = match without_tabs(inside).width() {
                0 => "▲".to_owned(),
                columns => "─".repeat(columns),
            };
            let indent = without_tabs(&before).width();
            let _ = writeln!(drawn, " {:width$} · {:indent$}{}", "", "", painted("35;1", &mark));
        }
    }
    let _ = writeln!(drawn, " {:width$} ╰────", "");
    drawn
}

/// Characters of a line that are drawn.
const WIDE: usize = 120;

/// Of a line that goes on for ever, the part around a column; and how many columns further left that is now.
fn window(line: &str, column: usize) -> (usize, String) {
    let count = line.chars().count();
    if count <= WIDE {
        return (0, line.to_owned());
    }
    let from = column.saturating_sub(WIDE / 3).min(count - 1);
    let part: String = line.chars().skip(from).take(WIDE).collect();
    let [before, after] = [from > 0, from + WIDE < count].map(|cut| if cut { "…" } else { "" });
    (from.saturating_sub(before.chars().count()), format!("{before}{part}{after}"))
}

/// A terminal's tabs end at columns of its own, and the mark would not stand where it belongs.
fn without_tabs(text: &str) -> String {
    text.replace('\t', "    ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn drawn(text: &str, span: Range<usize>) -> String {
        let error = RecipeError {
            path: Path::new("r.toml").into(),
            source_text: text.into(),
            span: Some(span.clone()),
            fault: amend_run::recipe::Fault::Syntax,
            message: "".into(),
            hint: None,
            more: Box::new([]),
        };
        draw(&error, &span)
    }

    #[test]
    fn a_line_stands_between_its_neighbours() {
        assert_eq!(
            drawn("seed = 0\nstpes = 3\n", 9..14),
            "   ╭─[r.toml:2:1]\n 1 │ seed = 0\n 2 │ stpes = 3\n   · ─────\n   ╰────\n"
        );
        assert_eq!(
            drawn("a = 1\nb = [\n2]\nc = 3", 10..14),
            "   ╭─[r.toml:2:5]\n 1 │ a = 1\n 2 │ b = [\n   ·     ─\n 3 │ 2]\n   ╰────\n"
        );
        let ten = "x\n".repeat(10);
        assert!(drawn(&ten, 16..17).ends_with("  8 │ x\n  9 │ x\n    · ─\n 10 │ x\n    ╰────\n"));
    }

    #[test]
    fn the_mark_stands_under_wide_letters_and_tabs() {
        let marked = |text: &str, part: &str| {
            let start = text.find(part).unwrap();
            let drawn = drawn(text, start..start + part.len());
            drawn.lines().find_map(|line| line.strip_prefix("   · ")).unwrap().to_owned()
        };
        assert_eq!(marked("seéd = \"日本\" 3", "日本"), "        ────");
        assert_eq!(marked("\ta = 3\r\nb = 4\r\n", "3"), "        ─");
    }

    #[test]
    fn of_a_line_without_end_the_part_around_the_mark_is_shown() {
        let text = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let drawn = drawn(&text, 500..504);
        let lines: Vec<&str> = drawn.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() < WIDE + 20), "{drawn}");
        let column = |line: &str, part: &str| line[..line.find(part).unwrap()].chars().count();
        assert_eq!(column(lines[1], "HERE"), column(lines[2], "────"), "{drawn}");
    }

    #[test]
    fn an_empty_place_has_an_arrow() {
        assert!(drawn("a = \"", 5..5).contains(" 1 │ a = \"\n   ·      ▲\n"));
        assert!(drawn("a = 1\n", 6..6).contains(" 1 │ a = 1\n 2 │ \n   · ▲\n"));
        assert!(drawn("", 0..0).contains(" 1 │ \n   · ▲\n"));
        assert!(drawn("a\nb\n", 1..1).contains(" 1 │ a\n   ·  ▲\n 2 │ b\n"));
        // A place that is none does no harm.
        assert!(drawn("é = 1", 1..900).contains("r.toml:1:1"));
    }
}
