//! Commands as one would type them.

use std::path::Path;

/// A word of a command line, in quotes where a shell would take it apart.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A path as a word of a command line, which no command takes for an option.
pub fn path(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.starts_with('-') { word(&format!("./{text}")) } else { word(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_take_apart_is_quoted() {
        assert_eq!([word("a.b=1"), word("it's"), word("")], ["a.b=1", r"'it'\''s'", "''"]);
        assert_eq!([path(Path::new("my run")), path(Path::new("-x"))], ["'my run'", "./-x"]);
    }
}
