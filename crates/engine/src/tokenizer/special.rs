//! Which tokens begin, end and pad a text, gathered from the files that may say so.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::Result;
use crate::json::read_object_if_there;

/// The names under which templates see special tokens.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The special tokens of a tokenizer.
#[derive(Debug, Clone, Default)]
pub(super) struct SpecialTokens {
    /// Spelling by name ("bos_token"), as templates and `special_tokens_map.json` have it.
    pub(super) names: Map<String, Value>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) pad: Option<u32>,
    pub(super) eos_ids: Vec<u32>,
}

impl SpecialTokens {
    /// Reads the folder `dir`. `tokenizer_config.json` says what a token is spelled like,
    /// `special_tokens_map.json` fills in what is missing there; ids from the model's configurations
    /// stand in where no spelling is given.
    pub(super) fn read(
        dir: &Path,
        config: &Map<String, Value>,
        inner: &tokenizers::Tokenizer,
    ) -> Result<Self> {
        let map = read_object_if_there(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
        let generation = read_object_if_there(&dir.join("generation_config.json"))?.unwrap_or_default();
        let model = read_object_if_there(&dir.join("config.json"))?.unwrap_or_default();
        Ok(Self::of([config, &map], [&generation, &model], inner))
    }

    /// The same from what has been read: two files with spellings and two with ids, the first of each
    /// decides.
    pub(super) fn of(
        [config, map]: [&Map<String, Value>; 2],
        models: [&Map<String, Value>; 2],
        inner: &tokenizers::Tokenizer,
    ) -> Self {
        let mut names = Map::new();
        for name in NAMES {
            if let Some(spelling) = [config, map].into_iter().find_map(|source| spelling(source.get(name)?)) {
                names.insert(name.into(), spelling.into());
            }
        }
        for list in ["additional_special_tokens", "extra_special_tokens"] {
            if let Some(extra) = config.get(list).or_else(|| map.get(list)) {
                names.insert(list.into(), extra.clone());
            }
        }
        let id = |name: &str| {
            let by_spelling = names.get(name).and_then(Value::as_str).and_then(|s| inner.token_to_id(s));
            by_spelling.or_else(|| configured_ids(&format!("{name}_id"), models).first().copied())
        };
        let eos = id("eos_token");
        let mut eos_ids: Vec<u32> = eos.into_iter().collect();
        for other in configured_ids("eos_token_id", models) {
            if !eos_ids.contains(&other) {
                eos_ids.push(other);
            }
        }
        SpecialTokens { bos: id("bos_token"), eos, pad: id("pad_token"), eos_ids, names }
    }
}

/// The token ids under `key` in `generation_config.json` and `config.json`, given in this order. The first decides, and
/// the second where the first says nothing, as in transformers: instruction-tuned models keep the end of their base
/// model in `config.json`, and say in `generation_config.json` what ends an answer.
pub fn configured_ids(key: &str, configs: [&Map<String, Value>; 2]) -> Vec<u32> {
    let lists = configs.map(|config| config.get(key).map(ids).unwrap_or_default());
    lists.into_iter().find(|list| !list.is_empty()).unwrap_or_default()
}

/// A token is written as a string or as an object with its spelling and flags.
fn spelling(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

fn ids(value: &Value) -> Vec<u32> {
    let one = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(one).collect(),
        single => one(single).into_iter().collect(),
    }
}

/// Adds the tokens that `tokenizer_config.json` lists and `tokenizer.json` lacks, in the order of
/// their ids, as transformers does.
pub(super) fn add_missing_tokens(inner: &mut tokenizers::Tokenizer, config: &Map<String, Value>) {
    let Some(Value::Object(listed)) = config.get("added_tokens_decoder") else { return };
    let mut missing: Vec<(u32, AddedToken)> = listed
        .iter()
        .filter_map(|(id, value)| Some((id.parse().ok()?, added_token(value)?)))
        .filter(|(_, token)| inner.token_to_id(&token.content).is_none())
        .collect();
    missing.sort_by_key(|(id, _)| *id);
    for (id, token) in missing {
        let spelling = token.content.clone();
        if token.special {
            inner.add_special_tokens(&[token])
        } else {
            inner.add_tokens(&[token])
        };
        let given = inner.token_to_id(&spelling);
        if given != Some(id) {
            tracing::warn!("tokenizer_config.json gives {spelling} the id {id}, but it became {given:?}");
        }
    }
}

fn added_token(value: &Value) -> Option<AddedToken> {
    let flag = |key: &str, otherwise: bool| value.get(key).and_then(Value::as_bool).unwrap_or(otherwise);
    let special = flag("special", false);
    Some(
        AddedToken::from(value.get("content")?.as_str()?, special)
            .single_word(flag("single_word", false))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .normalized(flag("normalized", !special)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spellings_and_ids_come_in_two_forms_each() {
        assert_eq!(spelling(&json!("<s>")), Some("<s>".into()));
        assert_eq!(spelling(&json!({"content": "<s>", "lstrip": false})), Some("<s>".into()));
        assert_eq!(spelling(&Value::Null), None);
        assert_eq!(ids(&json!(7)), [7]);
        assert_eq!(ids(&json!([7, 9, "x", -1])), [7, 9]);
        assert_eq!(ids(&Value::Null), [0; 0]);
    }

    #[test]
    fn the_generation_config_decides_and_the_config_stands_in_for_it() {
        let config = |ids: Value| Map::from_iter([("eos_token_id".to_owned(), ids)]);
        let found = |generation: Value, model: Value| {
            configured_ids("eos_token_id", [&config(generation), &config(model)])
        };
        assert_eq!(found(json!([7, 9]), json!(2)), [7, 9]);
        assert_eq!(found(Value::Null, json!(2)), [2]);
        assert_eq!(found(json!([]), json!([2, 3])), [2, 3]);
        assert_eq!(configured_ids("eos_token_id", [&Map::new(), &Map::new()]), [0; 0]);
    }
}
