//! What every token adds to a text, in bytes.

use serde_json::Value;
use tokenizers::ModelWrapper;

use super::Tokenizer;
use crate::{Error, Result};

/// The bytes of every token that stands for text. Tokens may hold parts of a character.
///
/// A text's first token can look different from the same token later on: SentencePiece tokenizers put a
/// space in front of a text and take it away when decoding.
#[derive(Debug, Clone)]
pub struct TokenBytes {
    later: Vec<Option<Box<[u8]>>>,
    /// Only where first tokens differ.
    first: Option<Vec<Option<Box<[u8]>>>>,
}

impl TokenBytes {
    /// The tokens of `tokenizer` except special ones and those in `excluded` (ids that end a text).
    ///
    /// Fails where the tokenizer's decoder is of a kind whose texts are not made token by token.
    pub fn new(tokenizer: &Tokenizer, excluded: &[u32]) -> Result<Self> {
        let decoder = Decoder::of(tokenizer)?;
        let size = tokenizer.inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        let (mut later, mut first) = (vec![None; size], vec![None; size]);
        let unknown = unknown_token(tokenizer);
        for id in 0..size as u32 {
            let special = tokenizer.is_special(id)
                || tokenizer.eos_ids().contains(&id)
                || [tokenizer.bos(), tokenizer.pad(), unknown].contains(&Some(id))
                || excluded.contains(&id);
            if let Some(token) = tokenizer.token_of(id).filter(|_| !special) {
                later[id as usize] = Some(decoder.bytes(&token, false).into());
                first[id as usize] = Some(decoder.bytes(&token, true).into());
            }
        }
        let first = (first != later).then_some(first);
        Ok(TokenBytes { later, first })
    }

    /// Bytes of the token `id`, as the first of a text or later; `None` where it is no text.
    pub fn get(&self, id: u32, is_first: bool) -> Option<&[u8]> {
        let table = self.first.as_ref().filter(|_| is_first).unwrap_or(&self.later);
        table.get(id as usize)?.as_deref()
    }

    /// All tokens that are text, in order of their ids.
    pub fn iter(&self, is_first: bool) -> impl Iterator<Item = (u32, &[u8])> {
        (0..self.later.len() as u32).filter_map(move |id| Some((id, self.get(id, is_first)?)))
    }

    /// Whether a token is different at the beginning of a text.
    pub fn first_differs(&self) -> bool {
        self.first.is_some()
    }
}

/// The token that stands for what the vocabulary does not hold.
fn unknown_token(tokenizer: &Tokenizer) -> Option<u32> {
    let spelled = match tokenizer.inner.get_model() {
        ModelWrapper::BPE(model) => model.unk_token.as_deref()?,
        ModelWrapper::WordPiece(model) => &model.unk_token,
        ModelWrapper::WordLevel(model) => &model.unk_token,
        ModelWrapper::Unigram(model) => {
            let id = serde_json::to_value(model).ok()?.get("unk_id")?.as_u64()?;
            return u32::try_from(id).ok();
        }
    };
    tokenizer.id_of(spelled)
}

/// The kinds of decoder whose texts are made token by token.
enum Decoder {
    /// GPT-2: every character of a token is a byte.
    ByteLevel,
    /// SentencePiece: `▁` and `<0xNN>`, and whether the text loses its first space.
    Pieces { replace: Vec<(String, String)>, byte_fallback: bool, strip: bool },
    /// The same without bytes; the first token loses every `▁`.
    Metaspace { replacement: String, keeps_first: bool },
    /// BERT: a token begins with a space unless it is marked as the rest of a word.
    WordPiece { prefix: String, cleanup: bool },
    /// None: tokens are joined by spaces.
    Words,
}

impl Decoder {
    fn of(tokenizer: &Tokenizer) -> Result<Self> {
        let value = serde_json::to_value(tokenizer.inner.get_decoder()).map_err(|e| tokenizer.error(&e))?;
        let refused = || {
            Error::format(
                tokenizer.path(),
                format!("constrained generation cannot tell what tokens mean under this decoder: {value}"),
            )
        };
        let steps = match &value {
            Value::Null => return Ok(Decoder::Words),
            Value::Object(map) if map.get("type") == Some(&"Sequence".into()) => {
                map.get("decoders").and_then(Value::as_array).cloned().unwrap_or_default()
            }
            single => vec![single.clone()],
        };
        let kind = |step: &Value| step.get("type").and_then(Value::as_str).unwrap_or("").to_owned();
        let text = |step: &Value, key: &str| step.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        if let [step] = &steps[..] {
            match kind(step).as_str() {
                "ByteLevel" => return Ok(Decoder::ByteLevel),
                "Metaspace" => {
                    let keeps_first = step.get("prepend_scheme") == Some(&"never".into());
                    return Ok(Decoder::Metaspace { replacement: text(step, "replacement"), keeps_first });
                }
                "WordPiece" => {
                    let cleanup = step.get("cleanup").and_then(Value::as_bool).unwrap_or(true);
                    return Ok(Decoder::WordPiece { prefix: text(step, "prefix"), cleanup });
                }
                _ => {}
            }
        }
        let (mut replace, mut byte_fallback, mut strip, mut fused) = (Vec::new(), false, false, false);
        for step in &steps {
            match kind(step).as_str() {
                "Replace" if !byte_fallback && !fused => {
                    let pattern = step.pointer("/pattern/String").and_then(Value::as_str);
                    replace.push((pattern.ok_or_else(refused)?.to_owned(), text(step, "content")));
                }
                "ByteFallback" if !fused => byte_fallback = true,
                "Fuse" => fused = true,
                // Of a fused text there is one beginning; otherwise every token would lose its space.
                "Strip" if fused && text(step, "content") == " " && !strip => {
                    let count = |key| step.get(key).and_then(Value::as_u64).unwrap_or(0);
                    if count("stop") != 0 || count("start") > 1 {
                        return Err(refused());
                    }
                    strip = count("start") == 1;
                }
                _ => return Err(refused()),
            }
        }
        Ok(Decoder::Pieces { replace, byte_fallback, strip })
    }

    fn bytes(&self, token: &str, is_first: bool) -> Vec<u8> {
        match self {
            Decoder::ByteLevel => {
                let mapped: Option<Vec<u8>> = token.chars().map(byte_of_char).collect();
                mapped.unwrap_or_else(|| token.as_bytes().to_vec())
            }
            Decoder::Pieces { replace, byte_fallback, strip } => {
                let replaced =
                    replace.iter().fold(token.to_owned(), |text, (old, new)| text.replace(old, new));
                let byte = byte_fallback.then(|| fallback_byte(&replaced)).flatten();
                let mut bytes = byte.map_or_else(|| replaced.into_bytes(), |b| vec![b]);
                if *strip && is_first && bytes.first() == Some(&b' ') {
                    bytes.remove(0);
                }
                bytes
            }
            Decoder::Metaspace { replacement, keeps_first } => {
                let space = if is_first && !keeps_first { "" } else { " " };
                token.replace(replacement, space).into_bytes()
            }
            Decoder::WordPiece { prefix, cleanup } => {
                let text = match token.strip_prefix(prefix.as_str()) {
                    _ if is_first => token.to_owned(),
                    Some(rest) => rest.to_owned(),
                    None => format!(" {token}"),
                };
                let clean = if *cleanup { tokenizers::decoders::wordpiece::cleanup(&text) } else { text };
                clean.into_bytes()
            }
            Decoder::Words if is_first => token.as_bytes().to_vec(),
            Decoder::Words => format!(" {token}").into_bytes(),
        }
    }
}

/// The byte of a token written `<0xNN>`.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The byte that GPT-2's alphabet writes as `c`: printable Latin-1 stands for itself, all others for the
/// characters from U+0100 on.
fn byte_of_char(c: char) -> Option<u8> {
    let printable = |b: &u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    match u32::from(c) {
        code @ 0..=0xff => u8::try_from(code).ok().filter(printable),
        code => (0..=255u8).filter(|b| !printable(b)).nth((code - 0x100) as usize),
    }
}
