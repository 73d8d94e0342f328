//! Tokenizers: `tokenizer.json` exactly as Hugging Face reads it, chat templates, and training of
//! small byte-level BPE vocabularies.

mod bytes;
mod chat;
mod file;
mod python;
mod special;
mod stream;
mod strftime;
mod template;
mod train;

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::PostProcessor;
use tokenizers::processors::PostProcessorWrapper;

pub use bytes::TokenBytes;
pub use chat::Message;
pub use special::configured_ids;
pub use stream::StreamDecoder;
pub use train::train_bpe;

use crate::checkpoint::{GgufFile, TokenizerFiles, tokenizer_files, write_atomic};
use crate::json::{read_object_if_there, to_pretty_bytes};
use crate::{Error, Result};
use special::SpecialTokens;
use template::ChatTemplate;

const FILE: &str = "tokenizer.json";

/// Token ids of a text, each with the bytes of the text it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For every token its byte range in the text; empty for tokens that were added. Several tokens
    /// share a range where one character takes more than one.
    pub offsets: Vec<Range<usize>>,
}

/// A tokenizer with its special tokens and chat template.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The file it came from, for messages.
    path: PathBuf,
    config: Map<String, Value>,
    special: SpecialTokens,
    special_ids: HashSet<u32>,
    template: Option<ChatTemplate>,
    variables: Map<String, Value>,
}

impl Tokenizer {
    /// Opens the tokenizer of a model folder or of a GGUF file.
    ///
    /// `tokenizer.json` is required. Special tokens and the chat template come from
    /// `tokenizer_config.json`, `special_tokens_map.json` and `chat_template.jinja`; what ends a text
    /// also from `generation_config.json` and `config.json`.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        Self::open_at(dir)?.ok_or_else(|| Error::missing_file(dir, missing(dir)))
    }

    /// Like [`Tokenizer::open`]; `None` where the folder has no `tokenizer.json`, or the file no tokenizer.
    pub fn open_optional(dir: impl AsRef<Path>) -> Result<Option<Self>> {
        Self::open_at(dir.as_ref())
    }

    // Not generic, so that reading a tokenizer is compiled once and not in every crate that does.
    fn open_at(dir: &Path) -> Result<Option<Self>> {
        if GgufFile::recognises(dir) {
            return tokenizer_files(dir)?.map(|files| Self::from_files(dir, files)).transpose();
        }
        let path = dir.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(path, "cannot read", e)),
        };
        let mut inner = file::parse(&path, &bytes)?;
        let config = read_object_if_there(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        special::add_missing_tokens(&mut inner, &config);
        let special = SpecialTokens::read(dir, &config, &inner)?;
        let template = ChatTemplate::read(dir, &config)?;
        Ok(Some(Self::assemble(inner, path, config, special, template)))
    }

    /// A tokenizer that a file holds in another form.
    fn from_files(path: &Path, files: TokenizerFiles) -> Result<Self> {
        let TokenizerFiles { tokenizer, config, ids } = files;
        let inner = file::parse(path, tokenizer.to_string().as_bytes())?;
        let special = SpecialTokens::of([&config, &Map::new()], [&ids, &Map::new()], &inner);
        let template = config.get("chat_template").and_then(Value::as_str);
        let template = template.map(|source| ChatTemplate::new(source.into(), path.into()));
        Ok(Self::assemble(inner, path.into(), config, special, template))
    }

    fn assemble(
        mut inner: tokenizers::Tokenizer,
        path: PathBuf,
        config: Map<String, Value>,
        special: SpecialTokens,
        template: Option<ChatTemplate>,
    ) -> Self {
        // A file may ask for cut or padded sequences; callers here decide that themselves.
        inner.with_padding(None);
        let _ = inner.with_truncation(None);
        if let Some(mut post) = inner.get_post_processor().cloned() {
            keep_whole_offsets(&mut post);
            inner.with_post_processor(Some(post));
        }
        let added = inner.get_added_tokens_decoder();
        let special_ids = added.iter().filter(|(_, token)| token.special).map(|(&id, _)| id).collect();
        Tokenizer { inner, path, config, special, special_ids, template, variables: Map::new() }
    }

    /// Token ids of `text`. With `add_special` the tokenizer adds what it puts around a text, such as
    /// a BOS token. Special tokens spelled out in the text are recognised either way.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, add_special).map_err(|e| self.error(&e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Token ids of `text` with what is put around a text, at most `limit` of them, and whether it was
    /// cut. The end of the text is cut, never what is put around it.
    pub fn encode_within(&self, text: &str, limit: usize) -> Result<(Vec<u32>, bool)> {
        let mut encoding = self.inner.encode_fast(text, false).map_err(|e| self.error(&e))?;
        let around = self.inner.get_post_processor().map_or(0, |post| post.added_tokens(false));
        let cut = encoding.len() + around > limit;
        if cut {
            let direction = tokenizers::TruncationDirection::Right;
            encoding.truncate(limit.saturating_sub(around), 0, direction);
        }
        let whole = self.inner.post_process(encoding, None, true).map_err(|e| self.error(&e))?;
        Ok((whole.get_ids().to_vec(), cut))
    }

    /// Token ids of `text` with the byte range each stands for. A space that belongs to a token is
    /// part of its range.
    pub fn encode_offsets(&self, text: &str, add_special: bool) -> Result<Encoded> {
        let encoding = self.inner.encode(text, add_special).map_err(|e| self.error(&e))?;
        let offsets = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        Ok(Encoded { ids: encoding.get_ids().to_vec(), offsets })
    }

    /// The text of `ids`, without special tokens where `skip_special`. Ids beyond the vocabulary,
    /// which models with a padded embedding can produce, have no text.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner.decode(ids, skip_special).map_err(|e| self.error(&e))
    }

    /// Decodes ids one at a time, for showing a text while it is generated.
    pub fn stream(&self, skip_special: bool) -> StreamDecoder<'_> {
        StreamDecoder::new(self, skip_special)
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.special.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.special.eos
    }

    /// The token that fills up a batch.
    pub fn pad(&self) -> Option<u32> {
        self.special.pad
    }

    /// Every token that ends a generated text, [`Tokenizer::eos`] first.
    pub fn eos_ids(&self) -> &[u32] {
        &self.special.eos_ids
    }

    /// Id of the token spelled `token`.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Spelling of the token `id` in the vocabulary, where a space may look like `Ġ` or `▁`.
    pub fn token_of(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The first id that two vocabularies spell differently, with both spellings; nothing where they are the same.
    pub fn first_difference(&self, other: &Tokenizer) -> Option<(u32, [Option<String>; 2])> {
        let ids = self.vocab_size().max(other.vocab_size()) as u32;
        let spelled = |id| (id, [self.token_of(id), other.token_of(id)]);
        (0..ids).map(spelled).find(|(_, [ours, theirs])| ours != theirs)
    }

    /// Whether `id` is a control token rather than text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// The library's own tokenizer.
    pub(crate) fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// The chat template as it was written, where there is one.
    pub(crate) fn chat_template(&self) -> Option<&str> {
        self.template.as_ref().map(ChatTemplate::source)
    }

    /// The file the tokenizer came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and, where there is
    /// one, `chat_template.jinja` into the folder `dir`, as `AutoTokenizer.from_pretrained` reads them.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        self.save_in(dir.as_ref())
    }

    fn save_in(&self, dir: &Path) -> Result<()> {
        let json = self.inner.to_string(true).map_err(|e| self.error(&e))?;
        write_atomic(dir.join(FILE), json.as_bytes())?;
        let mut config = self.config.clone();
        if let Some(template) = &self.template {
            config.shift_remove("chat_template");
            write_atomic(dir.join("chat_template.jinja"), template.source().as_bytes())?;
        }
        write_atomic(dir.join("tokenizer_config.json"), &to_pretty_bytes(&Value::Object(config)))?;
        let map = Value::Object(self.special.names.clone());
        write_atomic(dir.join("special_tokens_map.json"), &to_pretty_bytes(&map))
    }

    fn error(&self, source: &dyn fmt::Display) -> Error {
        Error::format(&self.path, format!("the tokenizer failed: {source}"))
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokenizer({}, {} tokens)", self.path.display(), self.vocab_size())
    }
}

/// Says which file is there instead, for the two cases people meet.
fn missing(dir: &Path) -> String {
    if GgufFile::recognises(dir) {
        return "the file holds no tokenizer; give the folder of the model it was made from".into();
    }
    if !dir.is_dir() {
        return "there is no such folder or file".into();
    }
    for name in ["tokenizer.model", "spiece.model", "vocab.json", "vocab.txt"] {
        if dir.join(name).exists() {
            return format!(
                "there is no {FILE}, only {name}; convert it in Python: \
                 AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            );
        }
    }
    format!("there is no {FILE} in this folder")
}

/// Makes a token's range include its leading space. Which tokens come out is not affected, but a
/// span of text can then be mapped to tokens without losing those that are nothing but spaces.
fn keep_whole_offsets(post: &mut PostProcessorWrapper) {
    match post {
        PostProcessorWrapper::ByteLevel(inner) => inner.trim_offsets = false,
        PostProcessorWrapper::Roberta(inner) => inner.trim_offsets = false,
        PostProcessorWrapper::Sequence(inner) => inner.as_mut().iter_mut().for_each(keep_whole_offsets),
        _ => {}
    }
}
