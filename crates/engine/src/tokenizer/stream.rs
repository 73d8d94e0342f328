//! Decoding one token at a time.

use super::Tokenizer;
use crate::Result;

/// Turns a stream of ids into a stream of text.
///
/// A token may hold a part of a character, and what a token looks like may depend on the one before
/// it, so text is held back until it is certain. Each step decodes a short window only.
#[derive(Debug, Clone)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    /// Ids from the last emitted piece on.
    window: Vec<u32>,
    /// How many of the window's ids have been emitted.
    emitted: usize,
    /// Bytes of the others' text that have been emitted.
    told: usize,
}

impl<'a> StreamDecoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        StreamDecoder { tokenizer, skip_special, window: Vec::new(), emitted: 0, told: 0 }
    }

    /// Takes the next id and returns the text that has become certain, often none.
    pub fn push(&mut self, id: u32) -> Result<String> {
        // What decoding leaves out would stay in the window until text comes, which it may never do.
        if self.tokenizer.token_of(id).is_none() || (self.skip_special && self.tokenizer.is_special(id)) {
            return Ok(String::new());
        }
        self.window.push(id);
        let text = self.pending(false)?;
        // The replacement character stands for a character whose other bytes are still to come.
        let certain = text.trim_end_matches(char::REPLACEMENT_CHARACTER).len();
        let news = text.get(self.told..certain).unwrap_or_default().to_owned();
        self.told = self.told.max(certain);
        if certain == text.len() && certain > 0 {
            self.window.drain(..self.emitted);
            self.emitted = self.window.len();
            self.told = 0;
        }
        Ok(news)
    }

    /// The rest of the text, incomplete characters included. What is pushed afterwards begins a new one.
    pub fn finish(&mut self) -> Result<String> {
        let text = self.pending(true)?;
        let rest = text.get(self.told..).unwrap_or_default().to_owned();
        self.window.clear();
        (self.emitted, self.told) = (0, 0);
        Ok(rest)
    }

    /// The text of the ids after the emitted ones; nothing as long as it may still change. `complete` says that
    /// no id comes any more.
    fn pending(&mut self, complete: bool) -> Result<String> {
        // A run of byte tokens is decoded as one. While a character in it lacks bytes, those before it look broken too.
        loop {
            let before = self.tokenizer.decode(&self.window[..self.emitted], self.skip_special)?;
            let all = self.tokenizer.decode(&self.window, self.skip_special)?;
            if let Some(rest) = all.strip_prefix(&before) {
                return Ok(rest.to_owned());
            }
            if all.ends_with(char::REPLACEMENT_CHARACTER) && !complete {
                return Ok(String::new());
            }
            // A byte fits nowhere. What was told before it is no use as context any more.
            self.window.remove(0);
            self.emitted -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::train_bpe;

    #[test]
    fn what_is_left_out_takes_no_memory() {
        let tokenizer = train_bpe(["the cat sat"].into_iter(), 270, &["<|turn|>"]).unwrap();
        let text = tokenizer.encode("größer 猫", false).unwrap();
        let (special, unknown) = (tokenizer.id_of("<|turn|>").unwrap(), tokenizer.vocab_size() as u32 + 3);
        let (mut stream, mut told) = (tokenizer.stream(true), String::new());
        for &id in &text {
            // In the middle of characters, too.
            for _ in 0..200 {
                told.push_str(&stream.push(special).unwrap());
                told.push_str(&stream.push(unknown).unwrap());
            }
            told.push_str(&stream.push(id).unwrap());
            assert!(stream.window.len() < 8, "{}", stream.window.len());
        }
        told.push_str(&stream.finish().unwrap());
        assert_eq!(told, "größer 猫");
        // Where special tokens are told, they are text like any other.
        let mut stream = tokenizer.stream(false);
        assert_eq!(stream.push(special).unwrap() + &stream.push(special).unwrap(), "<|turn|><|turn|>");
        assert!(stream.window.len() < 8);
    }
}
