//! A folder's tokenizer as the metadata of a GGUF file: the inverse of [`super::tokenizer`].

use std::collections::{BTreeMap, HashMap};

use serde_json::Value as Json;

use super::metadata::{Metadata, Value};
use super::splitting::Splitting;
use super::tokenizer::{SPACE, kind, padding};
use crate::tokenizer::Tokenizer;

/// The score of pieces that are not made by merging.
const UNMERGED: f32 = 0.0;

/// Writes the tokenizer for an embedding of `rows` rows. Returns what the format cannot say, in
/// sentences; fails where it cannot express the tokenizer at all.
pub(super) fn write(
    tokenizer: &Tokenizer,
    rows: usize,
    metadata: &mut Metadata,
) -> Result<Vec<String>, String> {
    // Written by the library itself: all older spellings of the file have become one.
    let json = tokenizer.inner().to_string(false).map_err(|e| e.to_string())?;
    let json: Json = serde_json::from_str(&json).map_err(|e| e.to_string())?;
    let model = &json["model"];
    if model["type"] != "BPE" {
        return Err(format!("a tokenizer of type {} cannot be written as GGUF; only BPE can", model["type"]));
    }
    let mut notes = Vec::new();
    let sentence_piece = model["byte_fallback"] == true;
    metadata.insert("tokenizer.ggml.model", text(if sentence_piece { "llama" } else { "gpt2" }))?;
    if sentence_piece {
        metadata.insert("tokenizer.ggml.pre", text("default"))?;
        metadata.insert("tokenizer.ggml.add_space_prefix", Value::Bool(space_prefix(&json, &mut notes)?))?;
    } else {
        metadata.insert("tokenizer.ggml.pre", text(splitting(&json, &mut notes)?.names[0]))?;
    }
    let tokens = Tokens::read(tokenizer, &json, rows)?;
    let merges = merges(model)?;
    if sentence_piece {
        metadata.insert("tokenizer.ggml.scores", Value::Floats(scores(&tokens, &merges)))?;
    }
    metadata.insert("tokenizer.ggml.tokens", Value::Texts(tokens.texts))?;
    metadata.insert("tokenizer.ggml.token_type", Value::Ints(tokens.kinds))?;
    let lines = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
    metadata.insert("tokenizer.ggml.merges", Value::Texts(lines))?;
    write_special(tokenizer, model, metadata, &mut notes)?;
    if let Some(template) = tokenizer.chat_template() {
        metadata.insert("tokenizer.chat_template", text(template))?;
    }
    Ok(notes)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// Whether a text gets a space before its first word. Fails on a normaliser that is none of
/// SentencePiece's.
fn space_prefix(json: &Json, notes: &mut Vec<String>) -> Result<bool, String> {
    let prepends = |step: &Json| step["type"] == "Prepend" && step["prepend"] == SPACE.to_string();
    let escapes = |step: &Json| step["type"] == "Replace" && step["pattern"]["String"] == " ";
    let steps = unfold(&json["normalizer"], "normalizers");
    if let Some(other) = steps.iter().find(|step| !prepends(step) && !escapes(step)) {
        return Err(format!("the tokenizer's normaliser {} cannot be written as GGUF", other["type"]));
    }
    let mut prefix = steps.iter().any(|step| prepends(step));
    for step in unfold(&json["pre_tokenizer"], "pretokenizers") {
        match (step["type"].as_str(), step["prepend_scheme"].as_str()) {
            (Some("Metaspace"), Some("never")) => {}
            (Some("Metaspace"), scheme) => {
                prefix = true;
                if scheme == Some("first") {
                    notes.push("llama.cpp also puts a space after special tokens within a text; this tokenizer does not".into());
                }
            }
            // Spaces have been replaced by then, so this splits nothing.
            (Some("Split"), _) if step["pattern"]["String"] == " " => {}
            (other, _) => {
                return Err(format!(
                    "the tokenizer's pre-tokenizer {} cannot be written as GGUF",
                    other.unwrap_or("without a type")
                ));
            }
        }
    }
    Ok(prefix)
}

/// The name of the way in which a byte-level tokenizer splits a text.
fn splitting(json: &Json, notes: &mut Vec<String>) -> Result<&'static Splitting, String> {
    let ignore_merges = json["model"]["ignore_merges"] == true;
    let Some(found) = Splitting::recognise(&json["pre_tokenizer"], ignore_merges) else {
        return Err(
            "GGUF has no name for the way in which this tokenizer splits texts (its pre_tokenizer)".into()
        );
    };
    for step in unfold(&json["normalizer"], "normalizers") {
        if step["type"] != "NFC" {
            return Err(format!("the tokenizer's normaliser {} cannot be written as GGUF", step["type"]));
        }
        if !found.composes {
            notes.push(
                "the tokenizer's normalisation of texts (NFC) cannot be stored in GGUF and is left out"
                    .into(),
            );
        }
    }
    Ok(found)
}

/// The steps of a part of a tokenizer: those of a sequence, or itself, or none.
fn unfold<'a>(part: &'a Json, list: &str) -> Vec<&'a Json> {
    match part.get(list).and_then(Json::as_array) {
        Some(steps) => steps.iter().flat_map(|step| unfold(step, list)).collect(),
        None if part.is_null() => Vec::new(),
        None => vec![part],
    }
}

/// Spelling and kind of every row of the embedding.
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<i64>,
}

impl Tokens {
    fn read(tokenizer: &Tokenizer, json: &Json, rows: usize) -> Result<Self, String> {
        let by_id: BTreeMap<u32, String> =
            tokenizer.inner().get_vocab(true).into_iter().map(|(text, id)| (id, text)).collect();
        if let Some((id, text)) = by_id.iter().next_back().filter(|(id, _)| **id as usize >= rows) {
            return Err(format!("token {text:?} has the id {id}, but the embedding has only {rows} rows"));
        }
        let unknown = json["model"]["unk_token"].as_str();
        let byte_fallback = json["model"]["byte_fallback"] == true;
        let added = tokenizer.inner().get_added_tokens_decoder();
        let (mut texts, mut kinds) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for row in 0..rows {
            let id = row as u32;
            let Some(text) = by_id.get(&id) else {
                texts.push(padding(row));
                kinds.push(kind::UNUSED);
                continue;
            };
            kinds.push(match added.get(&id) {
                _ if unknown == Some(text) => kind::UNKNOWN,
                Some(token) if token.special => kind::CONTROL,
                Some(_) => kind::USER_DEFINED,
                None if byte_fallback && is_byte(text) => kind::BYTE,
                None => kind::NORMAL,
            });
            texts.push(text.clone());
        }
        Ok(Tokens { texts, kinds })
    }
}

/// Whether a piece stands for one byte, as in `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|d| d.len() == 2 && d.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn merges(model: &Json) -> Result<Vec<(String, String)>, String> {
    let pair = |merge: &Json| {
        let (left, right) = (merge[0].as_str()?, merge[1].as_str()?);
        Some((left.to_owned(), right.to_owned()))
    };
    let list = model["merges"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .map(pair)
        .collect::<Option<_>>()
        .ok_or_else(|| "the tokenizer's merges are not pairs".to_owned())
}

/// Scores that make SentencePiece merge in the order of the merges: the first piece that is made gets
/// 0, every later one 1 less. Pieces that are never made come last, except those that are no text.
fn scores(tokens: &Tokens, merges: &[(String, String)]) -> Vec<f32> {
    let mut ranks: HashMap<String, usize> = HashMap::with_capacity(merges.len());
    for (left, right) in merges {
        let next = ranks.len();
        ranks.entry(format!("{left}{right}")).or_insert(next);
    }
    let mut last = ranks.len();
    let rank = |(text, &kind): (&String, &i64)| match ranks.get(text) {
        _ if kind != kind::NORMAL => UNMERGED,
        Some(&rank) => -(rank as f32),
        None => {
            last += 1;
            -(last as f32)
        }
    };
    tokens.texts.iter().zip(&tokens.kinds).map(rank).collect()
}

/// The tokens that begin, end and pad a text, and whether texts get them.
fn write_special(
    tokenizer: &Tokenizer,
    model: &Json,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let encode = |special| tokenizer.encode("a", special).map_err(|e| e.to_string());
    let (bare, whole) = (encode(false)?, encode(true)?);
    let start = whole.windows(bare.len().max(1)).position(|part| part == bare).unwrap_or(0);
    let (before, after) = (&whole[..start], whole.get(start + bare.len()..).unwrap_or_default());
    let bos = tokenizer.bos().or(before.first().copied());
    let eos = tokenizer.eos().or(after.last().copied());
    if before.iter().any(|id| Some(*id) != bos) || after.iter().any(|id| Some(*id) != eos) {
        notes.push(
            "the tokens that this tokenizer puts around a text are not all BOS and EOS; GGUF has no others"
                .into(),
        );
    }
    let unknown = model["unk_token"].as_str().and_then(|text| tokenizer.id_of(text));
    let mut ids = vec![("bos", bos), ("eos", eos), ("unknown", unknown), ("padding", tokenizer.pad())];
    let ends: Vec<u32> = tokenizer.eos_ids().iter().copied().filter(|id| Some(*id) != eos).collect();
    ids.extend(["eot", "eom"].into_iter().zip(ends.iter().map(|id| Some(*id))));
    if ends.len() > 2 {
        notes.push(format!("of the {} tokens that end a text GGUF has room for three", ends.len() + 1));
    }
    for (name, id) in ids {
        if let Some(id) = id {
            metadata.insert(format!("tokenizer.ggml.{name}_token_id"), Value::Int(id.into()))?;
        }
    }
    metadata.insert("tokenizer.ggml.add_bos_token", Value::Bool(!before.is_empty()))?;
    metadata.insert("tokenizer.ggml.add_eos_token", Value::Bool(!after.is_empty()))
}
