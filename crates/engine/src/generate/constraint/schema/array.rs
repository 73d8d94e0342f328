//! Arrays.

use serde_json::{Map, Value};

use super::super::grammar::{END, NodeId, RuleId};
use super::{Compiler, count, refused};
use crate::Result;

impl Compiler<'_> {
    pub(super) fn array(&mut self, map: &Map<String, Value>, path: &str, next: NodeId) -> Result<NodeId> {
        let rule = self.grammar.declare(true);
        let body = self.items(map, path)?;
        self.grammar.define(rule, body);
        self.grammar.call(rule, next)
    }

    fn items(&mut self, map: &Map<String, Value>, path: &str) -> Result<NodeId> {
        let min = count(map, "minItems", path)?.unwrap_or(0);
        let mut max = count(map, "maxItems", path)?;
        let first = match map.get("prefixItems") {
            None => &[][..],
            Some(Value::Array(list)) => list,
            Some(_) => return Err(refused(path, "prefixItems must be a list of schemas")),
        };
        let rest = match map.get("items") {
            None => Value::Bool(true),
            Some(Value::Array(_)) => {
                return Err(refused(path, "items must be a schema; for a list use prefixItems"));
            }
            Some(schema) => schema.clone(),
        };
        if rest == Value::Bool(false) {
            max = Some(max.unwrap_or(usize::MAX).min(first.len()));
        }
        let mut rules = Vec::new();
        for (i, schema) in first.iter().enumerate().take(max.unwrap_or(usize::MAX)) {
            rules.push(self.rule(schema, &format!("{path}/prefixItems/{i}"))?);
        }
        let beyond = match max {
            Some(max) if max <= rules.len() => None,
            _ => Some(self.rule(&rest, &format!("{path}/items"))?),
        };
        let close = self.grammar.literal("]", END)?;
        // From the last item to the first: what follows when `i` items are there.
        let (mut at, counted) = match (max, beyond) {
            (None, Some(rule)) => {
                let loops = self.grammar.reserve()?;
                let more = self.item(rule, true, loops)?;
                self.grammar.fill(loops, vec![more, close]);
                // The loop stands for every count from here on.
                (loops, min.max(rules.len()).max(1))
            }
            (max, _) => {
                let max = max.unwrap_or(rules.len());
                (if max >= min { close } else { self.grammar.nothing()? }, max)
            }
        };
        for i in (0..counted).rev() {
            let rule: Option<RuleId> = rules.get(i).copied().or(beyond);
            let Some(rule) = rule else { break };
            let more = self.item(rule, i > 0, at)?;
            at = if i >= min { self.grammar.any_of([more, close])? } else { more };
        }
        self.grammar.literal("[", at)
    }

    fn item(&mut self, rule: RuleId, separated: bool, next: NodeId) -> Result<NodeId> {
        let item = self.grammar.call(rule, next)?;
        if separated { self.spaced(",", item) } else { Ok(item) }
    }
}
