//! How many columns of a terminal a text takes, and text broken to fit.
//!
//! Widths follow the East Asian Width property in blocks rather than character by character: enough to keep
//! tables of names and answers in any script aligned.

/// Columns of a text. Control characters count as the one column of what replaces them.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(char_columns).sum()
}

fn char_columns(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0x483..=0x489 | 0x591..=0x5bd | 0x610..=0x61a | 0x64b..=0x65f => 0,
        0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x20d0..=0x20ff | 0xfe20..=0xfe2f => 0,
        0x200b..=0x200f | 0x2060..=0x2064 | 0xfe00..=0xfe0f | 0xfeff | 0xe0100..=0xe01ef => 0,
        0x93c | 0x941..=0x948 | 0x94d | 0xe31 | 0xe34..=0xe3a | 0xe47..=0xe4e => 0,
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff => 2,
        0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1f64f | 0x1f680..=0x1f6ff => 2,
        0x1f900..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// One line of text without anything that could command a terminal or break a table.
pub(super) fn one_line(text: &str) -> String {
    // A space that forbids a break stays one.
    let breaks = |c: char| c.is_whitespace() && c != '\u{a0}';
    let words: Vec<&str> = text.split(breaks).filter(|word| !word.is_empty()).collect();
    // Directional overrides are no control characters to Rust, but would turn a line around.
    let harmful = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    words.join(" ").chars().map(|c| if harmful(c) { '\u{fffd}' } else { c }).collect()
}

/// Breaks text into lines of at most `width` columns, between words where possible. At least one line.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    wrap_line(&one_line(text), width)
}

/// The same for what is already one line. Breaks at ordinary spaces, not at those that forbid it.
pub(super) fn wrap_line(line: &str, width: usize) -> Vec<String> {
    let width = width.max(2);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in line.split(' ') {
        let needed = columns(word);
        if used > 0 && used + 1 + needed <= width {
            used += 1;
            push(&mut lines, " ");
        } else if used > 0 {
            lines.push(String::new());
            used = 0;
        }
        for c in word.chars() {
            if used + char_columns(c) > width {
                lines.push(String::new());
                used = 0;
            }
            push(&mut lines, c.encode_utf8(&mut [0; 4]));
            used += char_columns(c);
        }
    }
    lines
}

fn push(lines: &mut [String], text: &str) {
    if let Some(last) = lines.last_mut() {
        last.push_str(text);
    }
}

/// Fills up with spaces to `width` columns, on the right or, for numbers, on the left.
pub(super) fn pad(text: &str, width: usize, left: bool) -> String {
    let space = " ".repeat(width.saturating_sub(columns(text)));
    if left { space + text } else { text.to_owned() + &space }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_wide_and_combining_characters() {
        assert_eq!(columns("abc"), 3);
        assert_eq!(columns("漢字"), 4);
        assert_eq!(columns("e\u{301}"), 1);
        assert_eq!(columns("±✓"), 2);
    }

    #[test]
    fn wraps_at_words_and_inside_long_ones() {
        assert_eq!(wrap("the quick brown fox", 10), ["the quick", "brown fox"]);
        assert_eq!(wrap("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("漢字漢字", 5), ["漢字", "漢字"]);
        assert_eq!(wrap("a b\u{a0}c", 4), ["a", "b\u{a0}c"], "an arrow stays with its word");
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("a\u{1b}[2Jb\nc", 20), ["a\u{fffd}[2Jb c"]);
    }
}
