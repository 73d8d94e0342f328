//! Objects.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::grammar::{END, Encoding, NodeId, RuleId};
use super::{Compiler, refused};
use crate::Result;

/// A member that the schema names.
struct Member {
    name: String,
    rule: RuleId,
    required: bool,
}

/// Names of the members an object must have.
pub(super) fn required<'m>(map: &'m Map<String, Value>, path: &str) -> Result<Vec<&'m str>> {
    match map.get("required") {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            Ok(list.iter().filter_map(Value::as_str).collect())
        }
        Some(_) => Err(refused(path, "required must be a list of names")),
    }
}

/// Schemas of the members an object may have.
pub(super) fn properties<'m>(
    map: &'m Map<String, Value>,
    path: &str,
) -> Result<Option<&'m Map<String, Value>>> {
    match map.get("properties") {
        None => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members)),
        Some(_) => Err(refused(path, "properties must be an object of schemas")),
    }
}

impl Compiler<'_> {
    pub(super) fn object(&mut self, map: &Map<String, Value>, path: &str, next: NodeId) -> Result<NodeId> {
        let rule = self.grammar.declare(true);
        let body = self.members(map, path)?;
        self.grammar.define(rule, body);
        self.grammar.call(rule, next)
    }

    fn members(&mut self, map: &Map<String, Value>, path: &str) -> Result<NodeId> {
        let (named, required) = (properties(map, path)?, required(map, path)?);
        let others = map.get("additionalProperties").cloned();
        let mut members = Vec::new();
        for (name, schema) in named.into_iter().flatten() {
            let rule = self.rule(schema, &format!("{path}/properties/{name}"))?;
            members.push(Member { name: name.clone(), rule, required: required.contains(&name.as_str()) });
        }
        for &name in &required {
            if members.iter().all(|m| m.name != name) {
                let schema = others.clone().unwrap_or(Value::Bool(true));
                let rule = self.rule(&schema, &format!("{path}/additionalProperties"))?;
                members.push(Member { name: name.to_owned(), rule, required: true });
            }
        }
        // Without a word about others, a schema that names members means these.
        let others = others.or_else(|| named.is_none().then_some(Value::Bool(true)));
        let others = others.filter(|schema| *schema != Value::Bool(false));
        let close = self.grammar.literal("}", END)?;
        // From the last member to the first: what follows where some are written already, and where none is.
        let (mut after_some, mut after_none) = (close, close);
        if let Some(schema) = others {
            let rule = self.rule(&schema, &format!("{path}/additionalProperties"))?;
            after_some = self.grammar.reserve()?;
            let value = self.grammar.call(rule, after_some)?;
            let colon = self.spaced(":", value)?;
            let names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
            let member = self.other_name(&names, colon)?;
            let more = self.spaced(",", member)?;
            self.grammar.fill(after_some, vec![more, close]);
            after_none = self.grammar.any_of([member, close])?;
        }
        for member in members.iter().rev() {
            let value = self.grammar.call(member.rule, after_some)?;
            let written = self.key(&member.name, value)?;
            let more = self.spaced(",", written)?;
            if member.required {
                (after_some, after_none) = (more, written);
            } else {
                after_some = self.grammar.any_of([more, after_some])?;
                after_none = self.grammar.any_of([written, after_none])?;
            }
        }
        self.grammar.literal("{", after_none)
    }

    /// A name in quotes that is none of `names`. It is written without escapes, so that no name can come in
    /// disguise.
    fn other_name(&mut self, names: &[&str], next: NodeId) -> Result<NodeId> {
        let quote = self.grammar.literal("\"", next)?;
        let free = self.grammar.reserve()?;
        let any = self.grammar.class(&plain_except(&[]), Encoding::Plain, free)?;
        self.grammar.fill(free, vec![any, quote]);
        let start = self.differing(names, quote, free)?;
        self.grammar.literal("\"", start)
    }

    /// The rest of a name that is none of `names`.
    fn differing(&mut self, names: &[&str], quote: NodeId, free: NodeId) -> Result<NodeId> {
        let mut longer: BTreeMap<char, Vec<&str>> = BTreeMap::new();
        for name in names {
            let mut chars = name.chars();
            if let Some(c) = chars.next() {
                longer.entry(c).or_default().push(chars.as_str());
            }
        }
        let known: Vec<char> = longer.keys().copied().collect();
        let mut starts = vec![self.grammar.class(&plain_except(&known), Encoding::Plain, free)?];
        if !names.contains(&"") {
            starts.push(quote);
        }
        for (c, rests) in longer {
            // Names with characters that need escapes cannot be met here.
            if !needs_escape(c) {
                let after = self.differing(&rests, quote, free)?;
                starts.push(self.grammar.class(&[(c, c)], Encoding::Plain, after)?);
            }
        }
        self.grammar.any_of(starts)
    }
}

fn needs_escape(c: char) -> bool {
    c < ' ' || c == '"' || c == '\\'
}

/// Characters that stand for themselves in a JSON string, except those given (sorted).
fn plain_except(known: &[char]) -> Vec<(char, char)> {
    let mut ranges = Vec::new();
    let mut excluded: Vec<char> = known.iter().copied().filter(|&c| !needs_escape(c)).collect();
    excluded.extend(['"', '\\']);
    excluded.sort_unstable();
    let mut from = u32::from(' ');
    let mut push = |low: u32, high: u32| {
        // A range may begin or end among the surrogates, which are no characters.
        let low = char::from_u32(low).unwrap_or('\u{e000}');
        let high = char::from_u32(high).unwrap_or('\u{d7ff}');
        if low <= high {
            ranges.push((low, high));
        }
    };
    for c in excluded {
        if u32::from(c) > from {
            push(from, u32::from(c) - 1);
        }
        from = u32::from(c) + 1;
    }
    if from <= u32::from(char::MAX) {
        push(from, u32::from(char::MAX));
    }
    ranges
}
