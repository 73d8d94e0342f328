//! JSON files of a model's folder, with errors that say where they are damaged.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Reads a file that must hold one JSON object.
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let bytes = fs::read(path).map_err(|e| Error::io(path, "cannot read", e))?;
    parse_object(path, &bytes)
}

/// Like [`read_object`]; `None` where there is no such file.
pub(crate) fn read_object_if_there(path: &Path) -> Result<Option<Map<String, Value>>> {
    match fs::read(path) {
        Ok(bytes) => parse_object(path, &bytes).map(Some),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path, "cannot read", e)),
    }
}

fn parse_object(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => {
            Err(Error::format(path, format!("holds {} where a JSON object is needed", kind(&other))))
        }
        Err(e) if bytes.iter().all(u8::is_ascii_whitespace) => {
            Err(Error::format(path, format!("the file is empty ({e})")))
        }
        Err(e) => Err(Error::format(path, format!("malformed JSON: {e}"))),
    }
}

/// What a JSON value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Pretty JSON with the two-space indent and final newline of the files it stands beside.
pub(crate) fn to_pretty_bytes(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
