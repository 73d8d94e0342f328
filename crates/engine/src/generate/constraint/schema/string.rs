//! Strings.

use serde_json::{Map, Value};

use super::super::grammar::{END, Encoding, NodeId, RuleId};
use super::super::regex::{Expression, from_ecma};
use super::{Compiler, count, refused};
use crate::Result;

/// Formats that are understood, as expressions of the whole string. Each is the common core of what readers
/// accept: years of four digits, no 29 February, no leap seconds, host names in ASCII.
fn format_pattern(name: &str) -> Option<String> {
    const DATE: &str = "[12][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])\
                        |(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))";
    const TIME: &str = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?\
                        (?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
    const LABEL: &str = "[a-z0-9]{1,15}(?:-[a-z0-9]{1,15}){0,2}";
    const BYTE: &str = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    let host = format!("{LABEL}(?:\\.{LABEL}){{0,2}}\\.[a-z]{{2,10}}");
    Some(match name {
        "date" => DATE.into(),
        "time" => TIME.into(),
        "date-time" => format!("{DATE}T{TIME}"),
        "email" => format!("[A-Za-z0-9_%+-]{{1,20}}(?:\\.[A-Za-z0-9_%+-]{{1,20}}){{0,2}}@{host}"),
        "uuid" => "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".into(),
        "ipv4" => format!("{BYTE}(?:\\.{BYTE}){{3}}"),
        "ipv6" => "[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){7}".into(),
        "hostname" => host,
        "uri" => format!("https?://{host}(?:/[A-Za-z0-9._~-]*)*"),
        _ => return None,
    })
}

const FORMATS: &str = "date, time, date-time, email, uuid, ipv4, ipv6, hostname and uri";

impl Compiler<'_> {
    pub(super) fn string(&mut self, map: &Map<String, Value>, path: &str, next: NodeId) -> Result<NodeId> {
        let text = |key: &str| match map.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(other) => Err(refused(path, format!("{key} must be a string, not {other}"))),
        };
        let min = count(map, "minLength", path)?.unwrap_or(0);
        let max = count(map, "maxLength", path)?;
        let expression = match (text("pattern")?, text("format")?) {
            (None, None) => None,
            (Some(_), Some(_)) => return Err(refused(path, "pattern and format together are not supported")),
            (Some(pattern), None) => {
                Some(Expression::somewhere(&from_ecma(pattern)).map_err(|e| refused(path, e))?)
            }
            (None, Some(name)) => {
                let pattern = format_pattern(name).ok_or_else(|| {
                    refused(path, format!("the format {name:?} is not supported; {FORMATS} are"))
                })?;
                Some(Expression::whole(&pattern).map_err(|e| refused(path, e))?)
            }
        };
        let quote = self.grammar.literal("\"", next)?;
        let content = if max.is_some_and(|max| max < min) {
            self.grammar.nothing()?
        } else if let Some(expression) = expression {
            expression.lower(&mut self.grammar, Encoding::Json, (min, max), quote)?
        } else {
            let character = self.character()?;
            self.grammar.repeat(character, min, max, quote)?
        };
        self.grammar.literal("\"", content)
    }

    /// Any character of a string: as it is, or as any escape that means a whole character.
    fn character(&mut self) -> Result<RuleId> {
        if let Some(rule) = self.character {
            return Ok(rule);
        }
        let rule = self.grammar.declare(false);
        let plain = [(' ', '!'), ('#', '['), (']', char::MAX)];
        let plain = self.grammar.class(&plain, Encoding::Plain, END)?;
        let one = |b: u8| vec![(b, b)];
        let digit = [(b'0', b'9'), (b'A', b'F'), (b'a', b'f')];
        let hex = |g: &mut super::Grammar, next| g.bytes(digit.map(|(low, high)| (low, high, next)).to_vec());
        let last = hex(&mut self.grammar, END)?;
        let third = hex(&mut self.grammar, last)?;
        let second = hex(&mut self.grammar, third)?;
        // D8 to DF begin surrogates, which are halves of a character.
        let below = self.grammar.bytes(vec![(b'0', b'7', third)])?;
        let first = vec![
            (b'0', b'9', second),
            (b'A', b'C', second),
            (b'D', b'D', below),
            (b'E', b'F', second),
            (b'a', b'c', second),
            (b'd', b'd', below),
            (b'e', b'f', second),
        ];
        let unicode = self.grammar.bytes(first)?;
        let short = b"\"/\\bfnrt".iter().map(|&b| (b, b, END)).chain([(b'u', b'u', unicode)]);
        let mut short: Vec<_> = short.collect();
        short.sort_unstable();
        let escaped = self.grammar.bytes(short)?;
        let escape = self.grammar.bytes(one(b'\\').into_iter().map(|(l, h)| (l, h, escaped)).collect())?;
        let start = self.grammar.any_of([plain, escape])?;
        self.grammar.define(rule, start);
        self.character = Some(rule);
        Ok(rule)
    }
}
