//! A validator of JSON Schema that knows nothing of how answers are made: the judge of the tests.

use serde_json::{Map, Value};

/// Whether `value` is valid under `schema`, whose references are to places in `root`.
pub(crate) fn is_valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let map = match schema {
        Value::Bool(all) => return *all,
        Value::Object(map) => map,
        other => panic!("{other} is no schema"),
    };
    map.iter().all(|(key, rule)| keyword(root, map, key, rule, value))
}

fn keyword(root: &Value, map: &Map<String, Value>, key: &str, rule: &Value, value: &Value) -> bool {
    let valid = |schema: &Value, value: &Value| is_valid(root, schema, value);
    let list = || rule.as_array().unwrap();
    let bound = || rule.as_f64().unwrap();
    let length = value.as_str().map(|s| s.chars().count() as f64);
    let size = value.as_array().map(|items| items.len() as f64);
    match key {
        "type" => match rule {
            Value::Array(names) => names.iter().any(|name| has_type(name.as_str().unwrap(), value)),
            name => has_type(name.as_str().unwrap(), value),
        },
        "enum" => list().contains(value),
        "const" => rule == value,
        "anyOf" => list().iter().any(|s| valid(s, value)),
        "oneOf" => list().iter().filter(|s| valid(s, value)).count() == 1,
        "allOf" => list().iter().all(|s| valid(s, value)),
        "$ref" => valid(root.pointer(rule.as_str().unwrap().trim_start_matches('#')).unwrap(), value),
        "minimum" => value.as_f64().is_none_or(|x| x >= bound()),
        "maximum" => value.as_f64().is_none_or(|x| x <= bound()),
        "exclusiveMinimum" => value.as_f64().is_none_or(|x| x > bound()),
        "exclusiveMaximum" => value.as_f64().is_none_or(|x| x < bound()),
        "minLength" => length.is_none_or(|n| n >= bound()),
        "maxLength" => length.is_none_or(|n| n <= bound()),
        "pattern" => {
            value.as_str().is_none_or(|s| regex::Regex::new(rule.as_str().unwrap()).unwrap().is_match(s))
        }
        "minItems" => size.is_none_or(|n| n >= bound()),
        "maxItems" => size.is_none_or(|n| n <= bound()),
        "prefixItems" => {
            value.as_array().is_none_or(|items| items.iter().zip(list()).all(|(item, s)| valid(s, item)))
        }
        "items" => {
            let first = map.get("prefixItems").map_or(0, |first| first.as_array().unwrap().len());
            value.as_array().is_none_or(|items| items.iter().skip(first).all(|item| valid(rule, item)))
        }
        "required" => {
            value.as_object().is_none_or(|o| list().iter().all(|name| o.contains_key(name.as_str().unwrap())))
        }
        "properties" => value.as_object().is_none_or(|members| {
            members.iter().all(|(name, member)| rule.get(name).is_none_or(|s| valid(s, member)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|members| {
            let named = |name: &str| map.get("properties").is_some_and(|p| p.get(name).is_some());
            members.iter().all(|(name, member)| named(name) || valid(rule, member))
        }),
        "format" => value.as_str().is_none_or(|s| has_format(rule.as_str().unwrap(), s)),
        "$defs" | "title" | "description" => true,
        other => panic!("the judge does not know {other}"),
    }
}

fn has_type(name: &str, value: &Value) -> bool {
    match name {
        "integer" => value.as_f64().is_some_and(|x| x.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

fn has_format(name: &str, text: &str) -> bool {
    let number = |part: &str| part.parse::<u32>().unwrap_or(9999);
    match name {
        "date" => {
            let parts: Vec<&str> = text.split('-').collect();
            let [y, m, d] = parts[..] else { return false };
            let days = [31, 28 + u32::from(number(y) % 4 == 0), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            y.len() == 4
                && (1..=12).contains(&number(m))
                && (1..=days[number(m) as usize - 1]).contains(&number(d))
        }
        "time" => {
            let parts: Vec<u32> = text[..8].split(':').map(number).collect();
            let zone = text[8..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
            parts[0] < 24 && parts[1] < 60 && parts[2] < 60 && (zone == "Z" || zone.len() == 6)
        }
        "date-time" => {
            text.split_once('T').is_some_and(|(d, t)| has_format("date", d) && has_format("time", t))
        }
        "email" => text.split_once('@').is_some_and(|(who, host)| !who.is_empty() && host.contains('.')),
        "uuid" => {
            text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
                && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
        }
        "ipv4" => text.split('.').map(number).filter(|&n| n < 256).count() == 4,
        _ => panic!("the judge does not know the format {name}"),
    }
}
