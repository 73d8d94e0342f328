//! Reading `tokenizer.json`.
//!
//! The `tokenizers` library panics on some damaged files, a download cut short among them. What it
//! takes for granted is checked here first, which also gives errors with a line number.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Result};

/// The parts the library does not check itself. All others are skipped, but must be JSON.
#[derive(Deserialize)]
struct Outline {
    #[serde(rename = "decoder")]
    _decoder: Option<Value>,
    post_processor: Option<Value>,
}

/// Loads the tokenizer in `bytes`, the content of `path`.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<tokenizers::Tokenizer> {
    let text = std::str::from_utf8(bytes).map_err(|e| Error::format(path, format!("not UTF-8 text: {e}")))?;
    if text.starts_with("version https://git-lfs") {
        return Err(Error::format(
            path,
            "a git-lfs pointer instead of the file; run `git lfs pull` in its folder",
        ));
    }
    let outline: Outline =
        serde_json::from_str(text).map_err(|e| Error::format(path, format!("malformed JSON: {e}")))?;
    if let Some(token) = outline.post_processor.as_ref().and_then(undeclared_token) {
        return Err(Error::format(
            path,
            format!("post_processor: the template uses {token}, which special_tokens does not declare"),
        ));
    }
    tokenizers::Tokenizer::from_bytes(bytes)
        .map_err(|e| Error::format(path, format!("not a tokenizer that can be loaded: {e}")))
}

/// A special token that a template inserts without saying which ids it stands for.
fn undeclared_token(post: &Value) -> Option<&str> {
    if let Some(parts) = post.get("processors").and_then(Value::as_array) {
        return parts.iter().find_map(undeclared_token);
    }
    let declared = post.get("special_tokens");
    ["single", "pair"]
        .into_iter()
        .filter_map(|template| post.get(template)?.as_array())
        .flatten()
        .filter_map(|piece| piece.get("SpecialToken")?.get("id")?.as_str())
        .find(|id| declared.and_then(|map| map.get(*id)).is_none())
}
