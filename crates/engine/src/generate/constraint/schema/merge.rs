//! Two schemas that hold at once as one schema, for `allOf` and for what stands beside `anyOf`.

use serde_json::{Map, Value, json};

use super::object::{properties, required};
use super::{DESCRIBING, enumerated, refused};
use crate::Result;

/// A schema of the values that are valid under both.
pub(super) fn merge(a: &Value, b: &Value, path: &str) -> Result<Value> {
    let (a, b) = match (a, b) {
        (Value::Bool(true), other) | (other, Value::Bool(true)) => return Ok(other.clone()),
        (Value::Bool(false), _) | (_, Value::Bool(false)) => return Ok(Value::Bool(false)),
        (Value::Object(a), Value::Object(b)) => (a, b),
        _ => return Err(refused(path, "a schema is an object, true or false")),
    };
    let telling = |map: &Map<String, Value>| map.keys().any(|key| !DESCRIBING.contains(&key.as_str()));
    if !telling(b) {
        return Ok(Value::Object(a.clone()));
    }
    if !telling(a) {
        return Ok(Value::Object(b.clone()));
    }
    let mut merged = a.clone();
    for (key, theirs) in b {
        let Some(ours) = a.get(key).filter(|ours| *ours != theirs) else {
            merged.insert(key.clone(), theirs.clone());
            continue;
        };
        let value = match key.as_str() {
            key if DESCRIBING.contains(&key) => ours.clone(),
            "type" => common_types(ours, theirs),
            "properties" => {
                let mut all = properties(a, path)?.cloned().unwrap_or_default();
                for (name, schema) in properties(b, path)?.into_iter().flatten() {
                    let both = match all.get(name) {
                        Some(other) if other != schema => json!({ "allOf": [other, schema] }),
                        _ => schema.clone(),
                    };
                    all.insert(name.clone(), both);
                }
                Value::Object(all)
            }
            "required" => {
                let mut names = required(a, path)?;
                for name in required(b, path)? {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                json!(names)
            }
            "minLength" | "minItems" | "minimum" | "exclusiveMinimum" => bound(ours, theirs, true),
            "maxLength" | "maxItems" | "maximum" | "exclusiveMaximum" => bound(ours, theirs, false),
            "enum" | "const" => continue,
            "items" => json!({ "allOf": [ours, theirs] }),
            "additionalProperties" => additional(ours, theirs, path)?,
            "anyOf" => {
                let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
                let theirs = list(theirs);
                let pairs = list(ours)
                    .into_iter()
                    .flat_map(|x| theirs.iter().map(move |y| json!({ "allOf": [x, y] })).collect::<Vec<_>>());
                Value::Array(pairs.collect())
            }
            _ => {
                return Err(refused(
                    path,
                    format!("two different {key:?} that hold at once are not supported"),
                ));
            }
        };
        merged.insert(key.clone(), value);
    }
    if [a, b].iter().all(|map| map.contains_key("enum") || map.contains_key("const")) {
        let theirs = enumerated(b, path)?;
        let both: Vec<Value> = enumerated(a, path)?.into_iter().filter(|v| theirs.contains(v)).collect();
        merged.shift_remove("const");
        merged.insert("enum".into(), Value::Array(both));
    }
    close(&mut merged, a, b, path)?;
    close(&mut merged, b, a, path)?;
    Ok(Value::Object(merged))
}

/// Applies what `closed` says about members it does not name to those that `other` brings:
/// `additionalProperties` speaks of the properties beside it, not of those that come from elsewhere.
fn close(
    merged: &mut Map<String, Value>,
    closed: &Map<String, Value>,
    other: &Map<String, Value>,
    path: &str,
) -> Result<()> {
    let rule = match closed.get("additionalProperties") {
        None | Some(Value::Bool(true)) => return Ok(()),
        Some(rule) => rule,
    };
    let own = properties(closed, path)?;
    let Some(Value::Object(all)) = merged.get_mut("properties") else { return Ok(()) };
    for name in properties(other, path)?.into_iter().flatten().map(|(name, _)| name) {
        if own.is_some_and(|own| own.contains_key(name)) {
            continue;
        }
        let both = match all.get(name) {
            Some(schema) if *rule != Value::Bool(false) => json!({ "allOf": [schema, rule] }),
            _ => Value::Bool(false),
        };
        all.insert(name.clone(), both);
    }
    Ok(())
}

fn additional(ours: &Value, theirs: &Value, path: &str) -> Result<Value> {
    match (ours, theirs) {
        (Value::Bool(false), _) | (_, Value::Bool(false)) => Ok(Value::Bool(false)),
        (Value::Bool(true), other) | (other, Value::Bool(true)) => Ok(other.clone()),
        (Value::Object(_), Value::Object(_)) => Ok(json!({ "allOf": [ours, theirs] })),
        _ => Err(refused(path, "additionalProperties must be a schema")),
    }
}

fn common_types(ours: &Value, theirs: &Value) -> Value {
    let list = |value: &Value| match value {
        Value::Array(list) => list.clone(),
        single => vec![single.clone()],
    };
    let (ours, theirs) = (list(ours), list(theirs));
    let (number, integer) = (json!("number"), json!("integer"));
    let common = ours.iter().chain(&theirs).filter(|name| {
        let holds = |side: &Vec<Value>| side.contains(name) || (**name == integer && side.contains(&number));
        holds(&ours) && holds(&theirs)
    });
    let mut names: Vec<Value> = Vec::new();
    for name in common {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    Value::Array(names)
}

/// The greater of two numbers, or the smaller.
fn bound(ours: &Value, theirs: &Value, greater: bool) -> Value {
    let takes_theirs = match (ours.as_f64(), theirs.as_f64()) {
        (Some(x), Some(y)) => (y > x) == greater,
        // The number is missing where the keyword is used, which says so.
        (None, _) => false,
        (_, None) => true,
    };
    if takes_theirs { theirs.clone() } else { ours.clone() }
}
