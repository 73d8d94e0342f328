//! A text while it is generated: what can be shown already, and whether a stop string has come.

use std::cell::RefCell;

use amend_engine::Taps;
use amend_engine::generate::{GenerateOptions, Generated};
use amend_engine::tokenizer::{StreamDecoder, Tokenizer};

use crate::error::Error;
use crate::open::Opened;
use crate::output::Output;

/// The text of one continuation, token by token.
#[derive(Debug)]
pub(crate) struct Unfolding<'a> {
    decoder: StreamDecoder<'a>,
    text: String,
    shown: usize,
    stops: &'a [String],
    /// How many tokens were taken.
    tokens: usize,
}

/// What one more token brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct News {
    /// Text that is certain to belong to the continuation.
    pub(crate) text: String,
    /// Whether a stop string is complete.
    pub(crate) stopped: bool,
}

impl<'a> Unfolding<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer, stops: &'a [String]) -> Self {
        Unfolding { decoder: tokenizer.stream(true), text: String::new(), shown: 0, stops, tokens: 0 }
    }

    /// Takes the ids that are new in `ids`, which holds everything generated so far.
    pub(crate) fn push(&mut self, ids: &[u32]) -> Result<News, Error> {
        for &id in &ids[self.tokens.min(ids.len())..] {
            self.text.push_str(&self.decoder.push(id)?);
        }
        self.tokens = ids.len();
        let cut = cut_at_stop(&self.text, self.stops);
        let stopped = cut.is_some();
        if let Some(end) = cut {
            self.text.truncate(end);
        }
        let certain =
            if stopped { self.text.len() } else { self.text.len() - held_back(&self.text, self.stops) };
        let text = self.text.get(self.shown..certain).unwrap_or_default().to_owned();
        self.shown = self.shown.max(certain);
        Ok(News { text, stopped })
    }

    /// The text that was held back when generation ended without a stop string.
    pub(crate) fn finish(self, stopped: bool) -> Result<String, Error> {
        if stopped {
            return Ok(String::new());
        }
        let rest = self.decoder.finish()?;
        Ok(format!("{}{rest}", &self.text[self.shown..]))
    }
}

/// What was generated without the id that ended it, which is no part of the text even where the tokenizer
/// does not list it as special.
pub(crate) fn without_stop<'i>(ids: &'i [u32], stop_ids: &[u32]) -> &'i [u32] {
    match ids {
        [rest @ .., last] if stop_ids.contains(last) => rest,
        _ => ids,
    }
}

/// Where the first stop string begins.
pub(crate) fn cut_at_stop(text: &str, stops: &[String]) -> Option<usize> {
    stops.iter().filter_map(|stop| text.find(stop.as_str())).min()
}

/// Length of the longest end of `text` that could become a stop string.
fn held_back(text: &str, stops: &[String]) -> usize {
    let longest = |stop: &String| {
        let lengths = (1..stop.len()).rev().filter(|&n| stop.is_char_boundary(n));
        lengths.into_iter().find(|&n| text.ends_with(&stop[..n])).unwrap_or(0)
    };
    stops.iter().map(longest).max().unwrap_or(0)
}

/// What was generated live.
pub(crate) struct Shown {
    /// New ids.
    pub(crate) ids: Vec<u32>,
    /// Whether a stop string ended it.
    pub(crate) stopped: bool,
}

/// Continues the only prompt and shows the text as it becomes certain, until `interrupted` says so.
pub(crate) fn generate_live(
    opened: &Opened,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    unfolding: &mut Unfolding<'_>,
    out: &mut Output,
    interrupted: impl Fn() -> bool,
) -> Result<Shown, Error> {
    let state = RefCell::new((unfolding, out, Ok(()), false));
    let show = |generated: &Generated| {
        let (unfolding, out, result, stopped) = &mut *state.borrow_mut();
        match unfolding.push(without_stop(&generated.ids, &options.stop_ids)) {
            Ok(news) => {
                *result = out.said(&news.text).and_then(|()| out.flush());
                *stopped = news.stopped;
            }
            Err(e) => *result = Err(e),
        }
        *stopped || result.is_err() || interrupted()
    };
    let mut generated = opened.model.generate(prompts, options, Some(&show), &Taps::none())?;
    let (_, _, result, stopped) = state.into_inner();
    result?;
    let ids = generated.pop().map_or_else(Vec::new, |g| g.ids);
    Ok(Shown { ids, stopped })
}

#[cfg(test)]
mod tests {
    use super::*;
    use amend_engine::tokenizer::train_bpe;

    #[test]
    fn stop_strings_are_never_shown() {
        let text = "one two STOP three";
        let tokenizer = train_bpe([text].into_iter(), 262, &[]).unwrap();
        let ids = tokenizer.encode(text, false).unwrap();
        let stops = ["STOP".to_owned(), "Stare".to_owned()];
        let mut unfolding = Unfolding::new(&tokenizer, &stops);
        let (mut shown, mut stopped) = (String::new(), false);
        for end in 1..=ids.len() {
            let news = unfolding.push(&ids[..end]).unwrap();
            shown.push_str(&news.text);
            assert!(!shown.contains('S'), "{shown}");
            stopped = news.stopped;
            if stopped {
                break;
            }
        }
        assert!(stopped);
        shown.push_str(&unfolding.finish(stopped).unwrap());
        assert_eq!(shown, "one two ");
    }

    #[test]
    fn what_was_held_back_comes_in_the_end() {
        let tokenizer = train_bpe(["a ST"].into_iter(), 262, &[]).unwrap();
        let stops = ["STOP".to_owned()];
        let mut unfolding = Unfolding::new(&tokenizer, &stops);
        let news = unfolding.push(&tokenizer.encode("a ST", false).unwrap()).unwrap();
        assert_eq!(news, News { text: "a ".into(), stopped: false });
        assert_eq!(unfolding.finish(false).unwrap(), "ST");
    }

    #[test]
    fn ends_that_could_become_a_stop_string() {
        let stops = ["\n\nQ".to_owned(), "é!".to_owned()];
        assert_eq!(held_back("a\n", &stops), 1);
        assert_eq!(held_back("a\n\n", &stops), 2);
        assert_eq!(held_back("é", &stops), 2);
        assert_eq!(held_back("b", &stops), 0);
        assert_eq!(cut_at_stop("aé!\n\nQ", &stops), Some(1));
    }
}
