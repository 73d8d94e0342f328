//! The tokenizer in a GGUF file's metadata, as the files of a Hugging Face folder.
//!
//! Two kinds are known: SentencePiece's BPE (`tokenizer.ggml.model` is "llama"), whose merges follow
//! from the scores of its pieces, and byte-level BPE ("gpt2"), whose merges are listed.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::config::special_ids;
use super::metadata::Metadata;
use super::splitting::Splitting;

/// How SentencePiece writes a space.
pub(super) const SPACE: char = '▁';

/// Kinds of tokens, as `tokenizer.ggml.token_type` numbers them.
pub(super) mod kind {
    pub(crate) const NORMAL: i64 = 1;
    pub(crate) const UNKNOWN: i64 = 2;
    pub(crate) const CONTROL: i64 = 3;
    pub(crate) const USER_DEFINED: i64 = 4;
    pub(crate) const UNUSED: i64 = 5;
    pub(crate) const BYTE: i64 = 6;
}

/// The contents of a folder's tokenizer files.
#[derive(Debug, Clone)]
pub(crate) struct TokenizerFiles {
    /// `tokenizer.json`.
    pub(crate) tokenizer: Json,
    /// `tokenizer_config.json`, the chat template included.
    pub(crate) config: Map<String, Json>,
    /// The part of `generation_config.json` that names tokens by id.
    pub(crate) ids: Map<String, Json>,
}

/// The tokens of a file: spelling and kind by id.
struct Tokens<'a> {
    texts: &'a [String],
    kinds: Vec<i64>,
    /// Id by spelling. Where two tokens share one, which only damaged files have, the first.
    ids: HashMap<&'a str, u32>,
}

/// Reads the tokenizer; `None` where the file says that it has none.
pub(super) fn read(metadata: &Metadata) -> Result<Option<TokenizerFiles>, String> {
    let model = metadata.text("tokenizer.ggml.model")?;
    let (Some(model), Some(texts)) = (model, metadata.texts("tokenizer.ggml.tokens")?) else {
        return Ok(None);
    };
    if matches!(model, "none" | "no_vocab") || texts.is_empty() {
        return Ok(None);
    }
    let tokens = Tokens::read(metadata, texts)?;
    let sentence_piece = match model {
        "llama" => true,
        "gpt2" => false,
        other => {
            return Err(format!(
                "tokenizer.ggml.model is {other:?}, which is not supported; supported: llama, gpt2"
            ));
        }
    };
    let tokenizer = if sentence_piece { piece_bpe(metadata, &tokens)? } else { byte_bpe(metadata, &tokens)? };
    let config = tokenizer_config(metadata, &tokens, sentence_piece)?;
    Ok(Some(TokenizerFiles { tokenizer, config, ids: special_ids(metadata)? }))
}

impl<'a> Tokens<'a> {
    fn read(metadata: &'a Metadata, texts: &'a [String]) -> Result<Self, String> {
        let kinds = match metadata.ints("tokenizer.ggml.token_type")? {
            Some(kinds) if kinds.len() == texts.len() => kinds.to_vec(),
            None => vec![kind::NORMAL; texts.len()],
            Some(kinds) => return Err(unequal("token_type", kinds.len(), texts.len())),
        };
        let mut ids = HashMap::with_capacity(texts.len());
        for (id, text) in texts.iter().enumerate() {
            // Rows that only fill up the embedding have no spelling in a folder either.
            let fills_up = kinds[id] == kind::UNUSED && *text == padding(id);
            if !text.is_empty() && !fills_up {
                ids.entry(text.as_str()).or_insert(id as u32);
            }
        }
        Ok(Tokens { texts, kinds, ids })
    }

    fn len(&self) -> usize {
        self.texts.len()
    }

    /// A token that the metadata names by id, where it has a spelling.
    fn special(
        &self,
        metadata: &Metadata,
        name: &str,
        default: Option<u32>,
    ) -> Result<Option<(u32, &'a str)>, String> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let id = match metadata.get(&key) {
            None => default.filter(|&id| (id as usize) < self.len()),
            Some(_) => metadata.token(&key, self.len())?,
        };
        Ok(id.map(|id| (id, self.texts[id as usize].as_str())).filter(|(_, text)| !text.is_empty()))
    }

    /// The vocabulary as `tokenizer.json` has it: id by spelling, in the order of ids.
    fn vocabulary(&self) -> Json {
        let mut entries: Vec<_> = self.ids.iter().collect();
        entries.sort_unstable_by_key(|(_, id)| **id);
        entries
            .into_iter()
            .map(|(text, &id)| ((*text).to_owned(), Json::from(id)))
            .collect::<Map<_, _>>()
            .into()
    }

    /// The tokens that are recognised wherever they stand in a text.
    fn added(&self) -> Json {
        let added = |(&text, &id): (&&str, &u32)| {
            let special = match self.kinds[id as usize] {
                kind::CONTROL | kind::UNKNOWN => true,
                kind::USER_DEFINED => false,
                _ => return None,
            };
            let token = json!({
                "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special,
            });
            Some((id, token))
        };
        let mut list: Vec<_> = self.ids.iter().filter_map(added).collect();
        list.sort_unstable_by_key(|(id, _)| *id);
        list.into_iter().map(|(_, token)| token).collect()
    }
}

/// What stands for token `id` where only the embedding has a row for it.
pub(super) fn padding(id: usize) -> String {
    format!("[PAD{id}]")
}

fn unequal(key: &str, found: usize, tokens: usize) -> String {
    format!("tokenizer.ggml.{key} has {found} entries for {tokens} tokens; the file is damaged")
}

/// SentencePiece's BPE as `transformers` converts it.
fn piece_bpe(metadata: &Metadata, tokens: &Tokens<'_>) -> Result<Json, String> {
    let merges = match metadata.texts("tokenizer.ggml.merges")? {
        // Ours, where the merges of the original were written as well.
        Some(merges) if !merges.is_empty() => pairs(merges)?,
        _ => merges_of_scores(metadata, tokens)?,
    };
    let prefix = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let space = SPACE.to_string();
    let escape = json!({"type": "Replace", "pattern": {"String": " "}, "content": space});
    let normalizer = if prefix {
        json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": space}, escape]})
    } else {
        escape
    };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": space}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let unknown = tokens.special(metadata, "unknown", Some(0))?;
    let around = around(metadata, tokens, [Some(1), Some(2)], true)?;
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": tokens.added(),
        "normalizer": normalizer,
        "pre_tokenizer": null,
        "post_processor": around,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown.map(|(_, text)| text),
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": tokens.vocabulary(),
            "merges": merges,
        },
    }))
}

/// Every way to put a piece together from two others, the pieces with the highest scores first:
/// SentencePiece merges whichever neighbours form the piece with the highest score.
fn merges_of_scores(metadata: &Metadata, tokens: &Tokens<'_>) -> Result<Json, String> {
    let scores = match metadata.floats("tokenizer.ggml.scores")? {
        Some(scores) if scores.len() == tokens.len() => scores,
        Some(scores) => return Err(unequal("scores", scores.len(), tokens.len())),
        None => return Err("tokenizer.ggml.scores is missing, which a tokenizer of kind llama needs".into()),
    };
    let part = |text: &str| tokens.ids.get(text).is_some_and(|&id| tokens.kinds[id as usize] == kind::NORMAL);
    let mut merges = Vec::new();
    for (&text, &id) in &tokens.ids {
        if tokens.kinds[id as usize] != kind::NORMAL {
            continue;
        }
        let splits = text.char_indices().skip(1).map(|(at, _)| text.split_at(at));
        merges.extend(
            splits
                .filter(|(left, right)| part(left) && part(right))
                .map(|pair| (scores[id as usize], id, pair)),
        );
    }
    // Among the ways to one piece, transformers puts the one with the longest left part first.
    merges.sort_by(|a, b| {
        b.0.total_cmp(&a.0)
            .then(a.1.cmp(&b.1))
            .then_with(|| b.2.0.chars().count().cmp(&a.2.0.chars().count()))
    });
    Ok(merges.into_iter().map(|(_, _, (left, right))| json!([left, right])).collect())
}

/// Byte-level BPE.
fn byte_bpe(metadata: &Metadata, tokens: &Tokens<'_>) -> Result<Json, String> {
    let Some(merges) = metadata.texts("tokenizer.ggml.merges")? else {
        return Err("tokenizer.ggml.merges is missing, which a tokenizer of kind gpt2 needs".into());
    };
    let splitting = Splitting::named(metadata.text("tokenizer.ggml.pre")?)?;
    let around = around(metadata, tokens, [None, None], splitting.adds_bos)?;
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    let post_processor = if around.is_null() {
        bytes.clone()
    } else {
        json!({"type": "Sequence", "processors": [bytes, around]})
    };
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": tokens.added(),
        "normalizer": if splitting.composes { json!({"type": "NFC"}) } else { Json::Null },
        "pre_tokenizer": splitting.to_json(),
        "post_processor": post_processor,
        "decoder": bytes,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": splitting.ignore_merges,
            "vocab": tokens.vocabulary(),
            "merges": pairs(merges)?,
        },
    }))
}

/// Merges as pairs. The space between the two is the first after the first character.
fn pairs(merges: &[String]) -> Result<Json, String> {
    let pair = |merge: &String| {
        let second = merge.char_indices().nth(1).map_or(merge.len(), |(at, _)| at);
        match merge[second..].find(' ') {
            Some(at) => Ok(json!([merge[..second + at], merge[second + at + 1..]])),
            None => {
                Err(format!("tokenizer.ggml.merges: {merge:?} is not a pair of tokens; the file is damaged"))
            }
        }
    };
    merges.iter().map(pair).collect()
}

/// What is put around a text, as a post-processor; null where nothing is.
fn around(
    metadata: &Metadata,
    tokens: &Tokens<'_>,
    [bos, eos]: [Option<u32>; 2],
    adds_bos: bool,
) -> Result<Json, String> {
    let adds_bos = metadata.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos);
    let adds_eos = metadata.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    let before = tokens.special(metadata, "bos", bos)?.filter(|_| adds_bos);
    let after = tokens.special(metadata, "eos", eos)?.filter(|_| adds_eos);
    if before.is_none() && after.is_none() {
        return Ok(Json::Null);
    }
    let declared: Map<String, Json> = [before, after]
        .into_iter()
        .flatten()
        .map(|(id, text)| (text.to_owned(), json!({"id": text, "ids": [id], "tokens": [text]})))
        .collect();
    let sequence = |name: &str, kind: u32| {
        let special = |(_, text): (u32, &str)| json!({"SpecialToken": {"id": text, "type_id": kind}});
        let text = json!({"Sequence": {"id": name, "type_id": kind}});
        before.map(special).into_iter().chain([text]).chain(after.map(special)).collect::<Vec<_>>()
    };
    let pair = [sequence("A", 0), sequence("B", 1)].concat();
    Ok(json!({
        "type": "TemplateProcessing",
        "single": sequence("A", 0),
        "pair": pair,
        "special_tokens": declared,
    }))
}

fn tokenizer_config(
    metadata: &Metadata,
    tokens: &Tokens<'_>,
    sentence_piece: bool,
) -> Result<Map<String, Json>, String> {
    let mut config = Map::new();
    // The one class that takes tokenizer.json as it is.
    config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    config.insert("clean_up_tokenization_spaces".into(), false.into());
    for (key, name, default) in
        [("bos", "bos_token", 1), ("eos", "eos_token", 2), ("unknown", "unk_token", 0)]
    {
        if let Some((_, text)) = tokens.special(metadata, key, Some(default).filter(|_| sentence_piece))? {
            config.insert(name.into(), text.into());
        }
    }
    if let Some((_, text)) = tokens.special(metadata, "padding", None)? {
        config.insert("pad_token".into(), text.into());
    }
    if let Some(template) = metadata.text("tokenizer.chat_template")? {
        config.insert("chat_template".into(), template.into());
    }
    Ok(config)
}
