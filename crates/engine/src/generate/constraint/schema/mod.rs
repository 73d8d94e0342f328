//! JSON schemas as grammars.
//!
//! Every answer the grammar holds is valid under the schema. It does not hold every valid answer: members
//! come in the order of `properties`; where a schema has `properties` and does not mention
//! `additionalProperties`, no others are written; there is at most one space, after a comma or colon;
//! integers have up to 15 digits. A keyword that is not understood is refused, unless it is one that only
//! describes.

mod array;
mod disjoint;
mod merge;
mod number;
mod object;
mod string;

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::grammar::{END, Grammar, MAIN, NodeId, RuleId};
use crate::{Error, Result};

/// Keywords that say nothing about a value.
const DESCRIBING: [&str; 13] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
];

/// Keywords about values of one type, with that type.
const ABOUT: [(&str, &str); 16] = [
    ("properties", "object"),
    ("required", "object"),
    ("additionalProperties", "object"),
    ("items", "array"),
    ("prefixItems", "array"),
    ("minItems", "array"),
    ("maxItems", "array"),
    ("minLength", "string"),
    ("maxLength", "string"),
    ("pattern", "string"),
    ("format", "string"),
    ("minimum", "number"),
    ("maximum", "number"),
    ("exclusiveMinimum", "number"),
    ("exclusiveMaximum", "number"),
    ("multipleOf", "number"),
];

/// Keywords about values of any type.
const GENERAL: [&str; 7] = ["type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"];

const TYPES: [&str; 7] = ["object", "array", "string", "number", "integer", "boolean", "null"];

/// The grammar of a schema.
pub(super) fn grammar(schema: &Value) -> Result<Grammar> {
    let mut compiler =
        Compiler { root: schema, grammar: Grammar::new(), rules: HashMap::new(), character: None };
    let start = compiler.value(schema, "schema", END)?;
    compiler.grammar.define(MAIN, start);
    compiler.grammar.check_recursion()?;
    Ok(compiler.grammar)
}

/// The grammar of any JSON object.
pub(super) fn any_object() -> Result<Grammar> {
    grammar(&serde_json::json!({ "type": "object" }))
}

pub(super) fn refused(path: &str, what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("{path}: {what}"))
}

/// Turns schemas into nodes.
struct Compiler<'s> {
    root: &'s Value,
    grammar: Grammar,
    /// Rules by the schema they are for, so that recursion ends and repetition is shared.
    rules: HashMap<String, RuleId>,
    /// A character of a string that nothing is known about.
    character: Option<RuleId>,
}

impl<'s> Compiler<'s> {
    /// The rule of a schema's values.
    fn rule(&mut self, schema: &Value, path: &str) -> Result<RuleId> {
        let key = schema.to_string();
        if let Some(&rule) = self.rules.get(&key) {
            return Ok(rule);
        }
        let rule = self.grammar.declare(false);
        self.rules.insert(key, rule);
        let start = self.value(schema, path, END)?;
        self.grammar.define(rule, start);
        Ok(rule)
    }

    /// A value of the schema, followed by `next`.
    fn value(&mut self, schema: &Value, path: &str, next: NodeId) -> Result<NodeId> {
        let map = match schema {
            Value::Bool(true) => return self.value(&Value::Object(Map::new()), path, next),
            Value::Bool(false) => return self.grammar.nothing(),
            Value::Object(map) => map,
            _ => return Err(refused(path, "a schema is an object, true or false")),
        };
        self.check_keywords(map, path)?;
        if let Some(target) = plain_ref(map, path)? {
            // By its own rule, so that a schema can refer to itself.
            let target = self.resolve(target, path)?.clone();
            let rule = self.rule(&target, path)?;
            return self.grammar.call(rule, next);
        }
        let flat = match self.flatten(schema, path, 0)? {
            Value::Object(flat) => flat,
            trivial => return self.value(&trivial, path, next),
        };
        for key in ["anyOf", "oneOf"] {
            if let Some(alternatives) = flat.get(key) {
                return self.alternatives(&flat, key, alternatives, path, next);
            }
        }
        if flat.contains_key("enum") || flat.contains_key("const") {
            return self.listed(&flat, path, next);
        }
        let starts = types(&flat, path)?
            .into_iter()
            .map(|name| self.typed(name, &flat, path, next))
            .collect::<Result<Vec<_>>>()?;
        self.grammar.any_of(starts)
    }

    fn typed(&mut self, name: &str, map: &Map<String, Value>, path: &str, next: NodeId) -> Result<NodeId> {
        match name {
            "object" => self.object(map, path, next),
            "array" => self.array(map, path, next),
            "string" => self.string(map, path, next),
            "number" | "integer" => self.number(map, name == "integer", path, next),
            "boolean" => {
                let both = [self.grammar.literal("true", next)?, self.grammar.literal("false", next)?];
                self.grammar.any_of(both)
            }
            _ => self.grammar.literal("null", next),
        }
    }

    fn check_keywords(&self, map: &Map<String, Value>, path: &str) -> Result<()> {
        for (key, value) in map {
            let known = GENERAL.contains(&key.as_str())
                || DESCRIBING.contains(&key.as_str())
                || ABOUT.iter().any(|(name, _)| name == key);
            // A keyword that asks for nothing may be there.
            let idle = match key.as_str() {
                "uniqueItems" | "nullable" => *value == Value::Bool(false),
                "patternProperties" | "dependentRequired" => value.as_object().is_some_and(Map::is_empty),
                _ => false,
            };
            if !known && !idle {
                return Err(refused(
                    path,
                    format!("the keyword {key:?} is not supported; leave it out, or say it in other words"),
                ));
            }
        }
        Ok(())
    }

    /// One of the values that `enum` or `const` list.
    fn listed(&mut self, map: &Map<String, Value>, path: &str, next: NodeId) -> Result<NodeId> {
        if let Some((key, _)) = ABOUT.iter().find(|(key, _)| map.contains_key(*key)) {
            return Err(refused(
                path,
                format!("{key:?} beside enum or const is not supported; list the values that remain"),
            ));
        }
        let types = types(map, path)?;
        let values: Vec<Value> = enumerated(map, path)?
            .into_iter()
            .filter(|value| types.iter().any(|name| is_of_type(value, name)))
            .collect();
        let starts = values.iter().map(|value| self.constant(value, next)).collect::<Result<Vec<_>>>()?;
        self.grammar.any_of(starts)
    }

    /// A given value.
    fn constant(&mut self, value: &Value, next: NodeId) -> Result<NodeId> {
        match value {
            Value::Array(items) => {
                let mut at = self.grammar.literal("]", next)?;
                for (i, item) in items.iter().enumerate().rev() {
                    at = self.constant(item, at)?;
                    at = if i > 0 { self.spaced(",", at)? } else { at };
                }
                self.grammar.literal("[", at)
            }
            Value::Object(members) => {
                let mut at = self.grammar.literal("}", next)?;
                for (i, (key, member)) in members.iter().enumerate().rev() {
                    at = self.constant(member, at)?;
                    at = self.key(key, at)?;
                    at = if i > 0 { self.spaced(",", at)? } else { at };
                }
                self.grammar.literal("{", at)
            }
            scalar => self.grammar.literal(&scalar.to_string(), next),
        }
    }

    /// A member's name and colon.
    fn key(&mut self, name: &str, next: NodeId) -> Result<NodeId> {
        let colon = self.spaced(":", next)?;
        self.grammar.literal(&Value::from(name).to_string(), colon)
    }

    /// A separator, after which there may be a space.
    fn spaced(&mut self, separator: &str, next: NodeId) -> Result<NodeId> {
        let space = self.grammar.literal(" ", next)?;
        let gap = self.grammar.any_of([space, next])?;
        self.grammar.literal(separator, gap)
    }

    fn alternatives(
        &mut self,
        map: &Map<String, Value>,
        key: &str,
        alternatives: &Value,
        path: &str,
        next: NodeId,
    ) -> Result<NodeId> {
        let list = alternatives
            .as_array()
            .filter(|list| !list.is_empty())
            .ok_or_else(|| refused(path, format!("{key} must be a list of schemas")))?;
        let mut beside = map.clone();
        beside.shift_remove(key);
        beside.retain(|key, _| !DESCRIBING.contains(&key.as_str()));
        let mut schemas = Vec::with_capacity(list.len());
        for (i, alternative) in list.iter().enumerate() {
            let path = format!("{path}/{key}/{i}");
            // A bare reference keeps its name, and with it its rule.
            schemas.push(if beside.is_empty() {
                alternative.clone()
            } else {
                let flat = self.flatten(alternative, &path, 0)?;
                merge::merge(&Value::Object(beside.clone()), &flat, &path)?
            });
        }
        if key == "oneOf" {
            self.check_disjoint(&schemas, path)?;
        }
        let mut starts = Vec::with_capacity(schemas.len());
        for (i, schema) in schemas.iter().enumerate() {
            starts.push(self.value(schema, &format!("{path}/{key}/{i}"), next)?);
        }
        self.grammar.any_of(starts)
    }

    /// The schema without `$ref` and `allOf` at its top: what they say is merged into it.
    fn flatten(&self, schema: &Value, path: &str, depth: usize) -> Result<Value> {
        if depth > 64 {
            return Err(refused(path, "its $ref and allOf lead back to themselves"));
        }
        let Value::Object(map) = schema else { return Ok(schema.clone()) };
        self.check_keywords(map, path)?;
        let mut own = map.clone();
        let reference = own.shift_remove("$ref");
        let all = own.shift_remove("allOf");
        let mut flat = Value::Object(own);
        if let Some(reference) = reference {
            let target = self.resolve(reference_text(&reference, path)?, path)?;
            flat = merge::merge(&flat, &self.flatten(target, path, depth + 1)?, path)?;
        }
        if let Some(all) = all {
            let list = all.as_array().ok_or_else(|| refused(path, "allOf must be a list of schemas"))?;
            for (i, part) in list.iter().enumerate() {
                let path = format!("{path}/allOf/{i}");
                flat = merge::merge(&flat, &self.flatten(part, &path, depth + 1)?, &path)?;
            }
        }
        Ok(flat)
    }

    /// What a `$ref` refers to.
    fn resolve(&self, reference: &str, path: &str) -> Result<&'s Value> {
        let pointer = reference.strip_prefix('#').filter(|p| p.is_empty() || p.starts_with('/'));
        let pointer = pointer.ok_or_else(|| {
            refused(
                path,
                format!("$ref {reference:?} is not supported; only places in the same schema (#/…) are"),
            )
        })?;
        self.root
            .pointer(pointer)
            .ok_or_else(|| refused(path, format!("$ref {reference:?} leads nowhere in the schema")))
    }
}

fn reference_text<'v>(value: &'v Value, path: &str) -> Result<&'v str> {
    value.as_str().ok_or_else(|| refused(path, "$ref must be a string"))
}

/// The target of a schema that is nothing but a reference, or a list of one to be merged.
fn plain_ref<'m>(map: &'m Map<String, Value>, path: &str) -> Result<Option<&'m str>> {
    let mut telling = map.iter().filter(|(key, _)| !DESCRIBING.contains(&key.as_str()));
    match (telling.next(), telling.next()) {
        (Some((key, value)), None) if key == "$ref" => reference_text(value, path).map(Some),
        (Some((key, Value::Array(list))), None) if key == "allOf" => match &list[..] {
            [Value::Object(only)] => plain_ref(only, path),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

/// The types a schema allows. Without `type`, the one its keywords are about; otherwise all.
fn types<'m>(map: &'m Map<String, Value>, path: &str) -> Result<Vec<&'m str>> {
    let names: Vec<&str> = match map.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(_) => Vec::new(),
        None => {
            let mut about: Vec<&str> =
                ABOUT.iter().filter(|(key, _)| map.contains_key(*key)).map(|(_, name)| *name).collect();
            about.dedup();
            // Every number is one of type number.
            return Ok(if about.is_empty() {
                TYPES.iter().copied().filter(|name| *name != "integer").collect()
            } else {
                about
            });
        }
    };
    match names.iter().find(|name| !TYPES.contains(name)) {
        Some(unknown) => Err(refused(path, format!("there is no type {unknown:?}; types are {TYPES:?}"))),
        None if names.is_empty() && map.get("type") != Some(&Value::Array(Vec::new())) => {
            Err(refused(path, "type must be a name or a list of names"))
        }
        None => Ok(names),
    }
}

/// The values of `enum`, or the one of `const`.
fn enumerated(map: &Map<String, Value>, path: &str) -> Result<Vec<Value>> {
    let list = match map.get("enum") {
        Some(Value::Array(list)) => Some(list.clone()),
        Some(_) => return Err(refused(path, "enum must be a list of values")),
        None => None,
    };
    Ok(match (list, map.get("const")) {
        (Some(list), Some(only)) => list.into_iter().filter(|value| value == only).collect(),
        (Some(list), None) => list,
        (None, Some(only)) => vec![only.clone()],
        (None, None) => Vec::new(),
    })
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::String(_) => name == "string",
        Value::Array(_) => name == "array",
        Value::Object(_) => name == "object",
        Value::Number(n) => {
            name == "number" || (name == "integer" && n.as_f64().is_some_and(|x| x.fract() == 0.0))
        }
    }
}

/// The count that a keyword gives.
fn count(map: &Map<String, Value>, key: &str, path: &str) -> Result<Option<usize>> {
    let Some(value) = map.get(key) else { return Ok(None) };
    let whole =
        value.as_u64().or_else(|| value.as_f64().filter(|x| *x >= 0.0 && x.fract() == 0.0).map(|x| x as u64));
    match whole.and_then(|n| usize::try_from(n).ok()) {
        Some(n) => Ok(Some(n)),
        None => Err(refused(path, format!("{key} must be a whole number, not {value}"))),
    }
}
