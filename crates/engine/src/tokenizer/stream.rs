//! Decoding one token at a time.

use super::Tokenizer;
use crate::Result;

/// Bytes that may wait for the rest of their character, which has four at most. Each is a replacement character
/// meanwhile.
const OPEN: usize = 3;
/// Ids that may wait. Where bytes go on fitting nowhere, those in the middle are given up then.
const WAITING: usize = 64;
/// Of these the last ones, which are kept: they stand for more characters than may still change.
const KEPT: usize = 12;

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
        let certain = certain(&text);
        let news = text.get(self.told..certain).unwrap_or_default().to_owned();
        self.told = self.told.max(certain);
        if certain == text.len() && certain > 0 {
            self.window.drain(..self.emitted);
            self.emitted = self.window.len();
            self.told = 0;
        } else if self.window.len() - self.emitted > WAITING {
            self.shorten(text.get(self.told..).unwrap_or_default())?;
        }
        Ok(news)
    }

    /// Gives up ids in the middle of the waiting ones, whose text has been told but for `untold` at its end.
    ///
    /// The first four stay: where a run of byte tokens is decoded as one, they show that it is none of characters,
    /// whatever follows. So do the last, on which alone it depends what bytes to come make of them.
    fn shorten(&mut self, untold: &str) -> Result<()> {
        let (head, tail) = (self.emitted + OPEN + 1, self.window.len() - KEPT);
        let window = [&self.window[..head], &self.window[tail..]].concat();
        let before = self.tokenizer.decode(&window[..self.emitted], self.skip_special)?;
        let all = self.tokenizer.decode(&window, self.skip_special)?;
        if let Some(told) = all.strip_prefix(&before).and_then(|text| text.strip_suffix(untold)) {
            self.told = told.len();
            self.window = window;
        }
        Ok(())
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
            let open = self.window.len() - self.emitted <= OPEN && !complete;
            if open && all.ends_with(char::REPLACEMENT_CHARACTER) {
                return Ok(String::new());
            }
            // A byte fits nowhere. What was told before it is no use as context any more.
            self.window.remove(0);
            self.emitted -= 1;
        }
    }
}

/// Length of the text that stays as it is whatever comes. The replacement character stands for a character whose other
/// bytes may still be to come; of many of them in a row, the first ones stand for bytes that fit nowhere.
fn certain(text: &str) -> usize {
    let open = text.len() - text.trim_end_matches(char::REPLACEMENT_CHARACTER).len();
    text.len() - open.min(OPEN * char::REPLACEMENT_CHARACTER.len_utf8())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::{Map, Value, json};

    use super::*;
    use crate::Rng;
    use crate::tokenizer::file;
    use crate::tokenizer::special::SpecialTokens;
    use crate::tokenizer::train_bpe;

    /// A tokenizer whose bytes are tokens of their own beside letters, and decoded as runs.
    fn byte_tokens() -> Tokenizer {
        let mut vocabulary: Map<String, Value> =
            (0..256).map(|byte| (format!("<0x{byte:02X}>"), json!(byte))).collect();
        vocabulary.extend([("a".to_owned(), json!(256)), ("b".to_owned(), json!(257))]);
        let description = json!({
            "version": "1.0", "added_tokens": [],
            "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
            "model": {"type": "BPE", "vocab": vocabulary, "merges": [], "byte_fallback": true},
        });
        let inner = file::parse(Path::new("t.json"), description.to_string().as_bytes()).unwrap();
        let special = SpecialTokens::of([&Map::new(), &Map::new()], [&Map::new(), &Map::new()], &inner);
        Tokenizer::assemble(inner, PathBuf::new(), Map::new(), special, None)
    }

    /// The text that comes piece by piece, while the window stays short.
    fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
        let (mut stream, mut told) = (tokenizer.stream(false), String::new());
        for &id in ids {
            told.push_str(&stream.push(id).unwrap());
            assert!(stream.window.len() < 160, "{}", stream.window.len());
        }
        told + &stream.finish().unwrap()
    }

    /// Runs of bytes that fit nowhere: of one kind, of two, of many; characters among them.
    fn misfits() -> Vec<Vec<u8>> {
        let mut rng = Rng::at(&[7]);
        let mut drawn = |from: &[u8]| -> Vec<u8> { (0..600).map(|_| from[rng.below(from.len())]).collect() };
        let mixed = drawn(&[0x80, 0xbf, 0xc3, 0xe7, 0x8c, 0xab, 0xf0, 0x9f, 0x98, 0xff, b'a']);
        let chars = drawn(&[0xe7, 0x8c, 0xab]);
        let others = [0x80, 0xe7, 0xf0, 0xff].map(|byte| vec![byte; 600]);
        [mixed, chars, [[0xf0, 0x9f, 0x98].repeat(150), vec![0x80]].concat()]
            .into_iter()
            .chain(others)
            .collect()
    }

    #[test]
    fn bytes_that_fit_nowhere_take_no_memory_and_come_as_decoded_at_once() {
        let tokenizer = train_bpe(["a"].into_iter(), 260, &[]).unwrap();
        let of_byte: Vec<u32> = {
            // Every token that is one byte, by way of the texts that hold it.
            let bytes = crate::tokenizer::TokenBytes::new(&tokenizer, &[]).unwrap();
            let id = |byte: u8| bytes.iter(false).find(|(_, own)| own[..] == [byte]).unwrap().0;
            (0..=255).map(id).collect()
        };
        for run in misfits() {
            let whole = [&run[..], "猫, a".as_bytes(), &run[..], b"a"].concat();
            let ids: Vec<u32> = whole.iter().map(|&byte| of_byte[usize::from(byte)]).collect();
            for end in [run.len(), run.len() + 2, ids.len() - 1, ids.len()] {
                assert_eq!(streamed(&tokenizer, &ids[..end]), tokenizer.decode(&ids[..end], false).unwrap());
            }
        }
    }

    /// Here a byte that fits nowhere spoils all of its run; what was told of it stays told.
    #[test]
    fn runs_of_byte_tokens_that_fit_nowhere_take_no_memory_and_come_as_decoded_at_once() {
        let tokenizer = byte_tokens();
        for run in misfits() {
            let broken = [vec![0x80], run].concat();
            let of_run = broken.iter().map(|&byte| u32::from(byte));
            let cat = "猫".bytes().map(u32::from);
            let ids: Vec<u32> = of_run.clone().chain([256]).chain(cat).chain([257]).chain(of_run).collect();
            for end in [broken.len(), broken.len() + 1, broken.len() + 5, ids.len()] {
                assert_eq!(streamed(&tokenizer, &ids[..end]), tokenizer.decode(&ids[..end], false).unwrap());
            }
        }
        let ids: Vec<u32> = "猫".bytes().chain(vec![0x80; 500]).map(u32::from).collect();
        assert_eq!(streamed(&tokenizer, &ids), format!("猫{}", "\u{fffd}".repeat(500)));
    }

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
