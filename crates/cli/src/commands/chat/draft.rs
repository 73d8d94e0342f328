//! Messages of several lines.

/// What stands around a message of several lines.
const QUOTES: &str = "\"\"\"";

/// A message on its way: a line that ends in `\` goes on in the next, and so does one that begins with three quotes,
/// until a line ends in three.
#[derive(Debug, Default)]
pub(super) struct Draft {
    text: String,
    quoted: bool,
    begun: bool,
    /// Whether it begins with a space: then no history keeps it.
    private: bool,
}

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) text: String,
    /// Whether it stood between quotes, and so is no command whatever it begins with.
    pub(super) quoted: bool,
    /// Whether a space stood before it.
    pub(super) private: bool,
}

impl Draft {
    /// Adds what was typed before Enter, which holds several lines where they were pasted. Gives the message once it is
    /// whole.
    pub(super) fn add(&mut self, typed: &str) -> Option<Message> {
        let mut typed = typed;
        if !self.begun {
            self.private = typed.starts_with(' ');
        }
        if !self.begun
            && let Some(rest) = typed.trim_start().strip_prefix(QUOTES)
        {
            self.quoted = true;
            typed = rest;
        }
        let ended = typed.trim_end();
        let goes_on = if self.quoted { !ended.ends_with(QUOTES) } else { typed.ends_with('\\') };
        if goes_on {
            self.text.push_str(if self.quoted { typed } else { &typed[..typed.len() - 1] });
            self.text.push('\n');
            self.begun = true;
            return None;
        }
        // What is pasted often ends with a line.
        let whole = typed.trim_end_matches('\n');
        self.text.push_str(if self.quoted { ended.strip_suffix(QUOTES).unwrap_or(ended) } else { whole });
        let Draft { text, quoted, private, .. } = std::mem::take(self);
        Some(Message { text, quoted, private })
    }

    /// Whether a message has begun that is not whole yet.
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }
}

impl Message {
    /// The message as it could be typed at once: what a history holds.
    pub(super) fn entry(&self) -> String {
        let space = if self.private && self.quoted { " " } else { "" };
        if self.quoted { format!("{space}{QUOTES}{}{QUOTES}", self.text) } else { self.text.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(lines: &[&str]) -> Option<Message> {
        let mut draft = Draft::default();
        let (last, before) = lines.split_last().unwrap();
        for line in before {
            assert_eq!(draft.add(line), None);
            assert!(draft.is_begun());
        }
        let message = draft.add(last);
        assert_eq!(draft.is_begun(), message.is_none());
        message
    }

    fn plain(text: &str) -> Option<Message> {
        Some(Message { text: text.into(), quoted: false, private: false })
    }

    fn quoted(text: &str) -> Option<Message> {
        Some(Message { text: text.into(), quoted: true, private: false })
    }

    #[test]
    fn a_backslash_goes_on() {
        assert_eq!(written(&["one"]), plain("one"));
        assert_eq!(written(&["one\\", "two\\", "three"]), plain("one\ntwo\nthree"));
        // Pasted code keeps its own.
        assert_eq!(written(&["#define A \\\n  1\n"]), plain("#define A \\\n  1"));
        assert_eq!(written(&["one\\"]), None);
    }

    #[test]
    fn quotes_hold_lines_together() {
        assert_eq!(written(&["\"\"\"", "one\\", "two", "\"\"\" "]), quoted("\none\\\ntwo\n"));
        assert_eq!(written(&["\"\"\"one", "two\"\"\""]), quoted("one\ntwo"));
        assert_eq!(written(&["\"\"\"one\ntwo\"\"\""]), quoted("one\ntwo"));
        assert_eq!(written(&["one \"\"\""]), plain("one \"\"\""));
        assert_eq!(written(&["\"\"\""]), None);
    }

    #[test]
    fn an_entry_of_the_history_is_the_message_again() {
        for lines in [&["one\\", "two"][..], &["\"\"\"", "one", "\"\"\""]] {
            let message = written(lines).unwrap();
            assert_eq!(Draft::default().add(&message.entry()), Some(message));
        }
    }
}
