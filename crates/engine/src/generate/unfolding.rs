//! A text while it is generated: what is certain already, and whether a stop string has come.

use crate::Result;
use crate::tokenizer::{StreamDecoder, Tokenizer};

/// The text of one continuation, token by token.
#[derive(Debug)]
pub(super) struct Unfolding<'t> {
    decoder: StreamDecoder<'t>,
    text: String,
    /// Bytes of the text that were given out.
    told: usize,
}

/// What one more token brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    /// Text that is certain to belong to the continuation.
    pub(super) text: String,
    /// Whether a stop string is complete. The text ends before it.
    pub(super) stopped: bool,
}

impl<'t> Unfolding<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer) -> Self {
        Unfolding { decoder: tokenizer.stream(true), text: String::new(), told: 0 }
    }

    pub(super) fn push(&mut self, id: u32, stops: &[String]) -> Result<News> {
        let more = self.decoder.push(id)?;
        let stopped = self.extend(&more, stops);
        let waiting = if stopped { 0 } else { may_become_a_stop(&self.text, stops) };
        Ok(News { text: self.tell(self.text.len() - waiting), stopped })
    }

    /// What was waiting when no token comes any more.
    pub(super) fn finish(&mut self, stops: &[String]) -> Result<String> {
        let more = self.decoder.finish()?;
        self.extend(&more, stops);
        Ok(self.tell(self.text.len()))
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Adds to the text, up to a stop string; says whether one is complete.
    fn extend(&mut self, more: &str, stops: &[String]) -> bool {
        // A stop string that becomes complete begins at most its length before what is new.
        let longest = stops.iter().map(String::len).max().unwrap_or(0);
        let mut from = self.text.len().saturating_sub(longest);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        self.text.push_str(more);
        let cut = stops.iter().filter_map(|stop| self.text[from..].find(stop.as_str())).min();
        if let Some(at) = cut {
            self.text.truncate(from + at);
        }
        cut.is_some()
    }

    fn tell(&mut self, end: usize) -> String {
        let text = self.text.get(self.told..end).unwrap_or_default().to_owned();
        self.told = self.told.max(end);
        text
    }
}

/// Length of the longest end of `text` that could become a stop string.
fn may_become_a_stop(text: &str, stops: &[String]) -> usize {
    let longest = |stop: &String| {
        let lengths = (1..stop.len()).rev().filter(|&n| stop.is_char_boundary(n));
        lengths.into_iter().find(|&n| text.ends_with(&stop[..n])).unwrap_or(0)
    };
    stops.iter().map(longest).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::train_bpe;

    /// Every piece that is told, and whether a stop string ended the text.
    fn pieces(tokenizer: &Tokenizer, text: &str, stops: &[&str]) -> (Vec<String>, bool, String) {
        let stops: Vec<String> = stops.iter().map(|&s| s.to_owned()).collect();
        let mut unfolding = Unfolding::new(tokenizer);
        let mut told = Vec::new();
        for id in tokenizer.encode(text, false).unwrap() {
            let news = unfolding.push(id, &stops).unwrap();
            told.push(news.text);
            if news.stopped {
                return (told, true, unfolding.into_text());
            }
        }
        told.push(unfolding.finish(&stops).unwrap());
        (told, false, unfolding.into_text())
    }

    fn bytes_alone() -> Tokenizer {
        train_bpe(["a"].into_iter(), 260, &[]).unwrap()
    }

    #[test]
    fn a_stop_string_that_spans_tokens_is_never_told() {
        let text = "one two STOP three";
        for tokenizer in [bytes_alone(), train_bpe([text].into_iter(), 270, &[]).unwrap()] {
            let (told, stopped, whole) = pieces(&tokenizer, text, &["STOP", "Stare"]);
            assert!(stopped && !told.concat().contains('S'), "{told:?}");
            assert_eq!((told.concat().as_str(), whole.as_str()), ("one two ", "one two "));
        }
    }

    #[test]
    fn what_was_waiting_comes_in_the_end() {
        let (told, stopped, whole) = pieces(&bytes_alone(), "a ST", &["STOP"]);
        assert_eq!(told, ["a", " ", "", "", "ST"]);
        assert_eq!((stopped, whole.as_str()), (false, "a ST"));
    }

    #[test]
    fn what_was_no_stop_string_after_all_is_told() {
        let (told, stopped, _) = pieces(&bytes_alone(), "aSTSTO.STOP", &["STOP"]);
        assert_eq!(told, ["a", "", "", "ST", "", "", "STO.", "", "", "", ""].map(str::to_owned));
        assert!(stopped);
        // The first of two in the text ends it, and so does one that becomes complete first.
        assert_eq!(pieces(&bytes_alone(), "xabcd", &["abcd", "bc"]).0.concat(), "xa");
        assert_eq!(pieces(&bytes_alone(), "aab", &["aab", "ab"]).0.concat(), "");
    }

    #[test]
    fn characters_come_whole() {
        let (told, stopped, whole) = pieces(&bytes_alone(), "é猫!", &["猫!"]);
        assert_eq!(told, ["", "é", "", "", "", ""]);
        assert_eq!((stopped, whole.as_str()), (true, "é"));
        // What is left of a character that never came is told as what it is.
        let tokenizer = bytes_alone();
        let ids = tokenizer.encode("猫", false).unwrap();
        let mut unfolding = Unfolding::new(&tokenizer);
        assert_eq!(unfolding.push(ids[0], &[]).unwrap().text, "");
        assert!(unfolding.finish(&[]).unwrap().contains(char::REPLACEMENT_CHARACTER));
    }

    #[test]
    fn ends_that_could_become_a_stop_string() {
        let stops = ["\n\nQ".to_owned(), "é!".to_owned()];
        assert_eq!(may_become_a_stop("a\n", &stops), 1);
        assert_eq!(may_become_a_stop("a\n\n", &stops), 2);
        assert_eq!(may_become_a_stop("é", &stops), 2);
        assert_eq!(may_become_a_stop("b", &stops), 0);
    }
}
