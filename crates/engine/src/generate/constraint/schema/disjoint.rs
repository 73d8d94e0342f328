//! `oneOf`: alternatives of which a value must match one and no other.

use serde_json::{Map, Value};

use super::merge::merge;
use super::object::{properties, required};
use super::{Compiler, enumerated, is_of_type, refused, types};
use crate::Result;

/// How deep schemas are compared before they count as overlapping.
const DEPTH: usize = 8;

impl Compiler<'_> {
    /// Fails unless it is plain that what one alternative writes is invalid under every other.
    pub(super) fn check_disjoint(&self, schemas: &[Value], path: &str) -> Result<()> {
        for (i, a) in schemas.iter().enumerate() {
            for (j, b) in schemas.iter().enumerate() {
                if i != j && !self.excludes(a, b, path, 0)? {
                    return Err(refused(
                        path,
                        format!(
                            "a value may match alternatives {} and {} of oneOf at once; use anyOf, or tell \
                             them apart by type or by a required member with its own const",
                            i.min(j),
                            i.max(j)
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether it is plain that no value that is written for `a` is valid under `b`.
    fn excludes(&self, a: &Value, b: &Value, path: &str, depth: usize) -> Result<bool> {
        if depth > DEPTH {
            return Ok(false);
        }
        let (a, b) = (self.flatten(a, path, 0)?, self.flatten(b, path, 0)?);
        let (a, b) = match (&a, &b) {
            (Value::Bool(false), _) | (_, Value::Bool(false)) => return Ok(true),
            (Value::Object(a), Value::Object(b)) => (a, b),
            _ => return Ok(false),
        };
        // Any alternative of `a` may be written, and any of `b` may be matched.
        for key in ["anyOf", "oneOf"] {
            if let Some(Value::Array(list)) = a.get(key) {
                let mut beside = a.clone();
                beside.shift_remove(key);
                let beside = Value::Object(beside);
                let all = list.iter().map(|x| {
                    let whole = merge(&beside, &self.flatten(x, path, 0)?, path)?;
                    self.excludes(&whole, &Value::Object(b.clone()), path, depth + 1)
                });
                return Ok(all.collect::<Result<Vec<_>>>()?.into_iter().all(|yes| yes));
            }
            if let Some(Value::Array(list)) = b.get(key) {
                let all = list.iter().map(|x| self.excludes(&Value::Object(a.clone()), x, path, depth + 1));
                return Ok(all.collect::<Result<Vec<_>>>()?.into_iter().all(|yes| yes));
            }
        }
        let listed = |map: &Map<String, Value>| map.contains_key("enum") || map.contains_key("const");
        if listed(a) {
            let theirs = enumerated(b, path)?;
            let types = valid_types(b);
            return Ok(enumerated(a, path)?.iter().all(|value| {
                !types.iter().any(|name| is_of_type(value, name))
                    || (listed(b) && !theirs.iter().any(|other| equal(other, value)))
            }));
        }
        if listed(b) {
            let types = types(a, path)?;
            return Ok(enumerated(b, path)?.iter().all(|v| !types.iter().any(|name| is_of_type(v, name))));
        }
        // A number may be written without a fraction, which makes it an integer too.
        let kind = |name: &str| if name == "integer" { "number".to_owned() } else { name.to_owned() };
        let written: Vec<String> = types(a, path)?.into_iter().map(kind).collect();
        let valid: Vec<String> = valid_types(b).into_iter().map(kind).collect();
        let common: Vec<&String> = written.iter().filter(|name| valid.contains(name)).collect();
        match common[..] {
            [] => Ok(true),
            [only] if only == "object" => self.objects_exclude(a, b, path, depth),
            _ => Ok(false),
        }
    }

    fn objects_exclude(
        &self,
        a: &Map<String, Value>,
        b: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<bool> {
        let (members, theirs) = (properties(a, path)?, properties(b, path)?);
        let (must, they_must) = (required(a, path)?, required(b, path)?);
        let has = |members: Option<&Map<String, Value>>, name: &str| {
            members.is_some_and(|members| members.contains_key(name))
        };
        let others = match a.get("additionalProperties") {
            None => members.is_none(),
            Some(rule) => *rule != Value::Bool(false),
        };
        // They ask for a member that is never written, or refuse one that always is.
        if !others && they_must.iter().any(|name| !has(members, name) && !must.contains(name)) {
            return Ok(true);
        }
        if b.get("additionalProperties") == Some(&Value::Bool(false))
            && must.iter().any(|name| !has(theirs, name))
        {
            return Ok(true);
        }
        for name in must {
            if let (Some(ours), Some(theirs)) =
                (members.and_then(|m| m.get(name)), theirs.and_then(|m| m.get(name)))
                && self.excludes(ours, theirs, path, depth + 1)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Types of the values that are valid, all where the schema does not say.
fn valid_types(map: &Map<String, Value>) -> Vec<&str> {
    match map.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => super::TYPES.to_vec(),
    }
}

/// Whether two values are the same to JSON Schema, for which 1 and 1.0 are.
fn equal(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().is_some_and(|x| b.as_f64() == Some(x))
}
