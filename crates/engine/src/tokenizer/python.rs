//! What Python does in a chat template where Jinja in Rust does something else.
//!
//! Templates are written against `transformers`, where `{{ true }}` prints `True` and `tojson` is
//! `json.dumps`. Prompts must match to the byte, so both are done Python's way here.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// `str(value)`.
pub(super) fn to_str(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => repr(value),
    }
}

/// `repr(value)`; nothing for an undefined value.
fn repr(value: &Value) -> String {
    if let Some(text) = value.as_str() {
        return repr_str(text);
    }
    let items = |value: &Value| value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::None => "None".into(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.into(),
        ValueKind::Seq => {
            let parts: Vec<_> = items(value).map(|item| repr(&item)).collect();
            format!("[{}]", parts.join(", "))
        }
        // Objects with behaviour of their own (namespaces, loops, macros) print themselves.
        ValueKind::Map => {
            let pair = |key: Value| {
                let inner = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", repr(&key), repr(&inner))
            };
            let parts: Vec<_> = items(value).map(pair).collect();
            format!("{{{}}}", parts.join(", "))
        }
        _ => value.to_string(),
    }
}

fn repr_str(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// The `tojson` filter of transformers: `json.dumps` with its four options, and no HTML escapes.
pub(super) fn tojson(value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    let separators: Option<(String, String)> = match kwargs.get::<Option<Value>>("separators")? {
        Some(pair) if !pair.is_none() => {
            let part = |i: usize| pair.get_item_by_index(i).map(|v| to_str(&v));
            Some((part(0)?, part(1)?))
        }
        _ => None,
    };
    let indent = match kwargs.get::<Option<Value>>("indent")? {
        Some(indent) if indent.as_str().is_some() => indent.as_str().map(str::to_owned),
        Some(indent) if !indent.is_none() => Some(" ".repeat(usize::try_from(indent)?)),
        _ => None,
    };
    let dump = Dump {
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        separators: separators
            .unwrap_or_else(|| (if indent.is_some() { "," } else { ", " }.into(), ": ".into())),
        indent,
    };
    kwargs.assert_all_used()?;
    let json = serde_json::to_value(value)
        .map_err(|e| Error::new(ErrorKind::InvalidOperation, "cannot be written as JSON").with_source(e))?;
    let mut out = String::new();
    dump.value(&json, 0, &mut out);
    Ok(out)
}

struct Dump {
    ensure_ascii: bool,
    sort_keys: bool,
    separators: (String, String),
    indent: Option<String>,
}

impl Dump {
    fn value(&self, value: &serde_json::Value, depth: usize, out: &mut String) {
        match value {
            serde_json::Value::String(text) => self.string(text, out),
            serde_json::Value::Array(items) => {
                self.list('[', ']', items, depth, out, |item, out| self.value(item, depth + 1, out));
            }
            serde_json::Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                if self.sort_keys {
                    entries.sort_by_key(|(key, _)| *key);
                }
                self.list('{', '}', &entries, depth, out, |(key, item), out| {
                    self.string(key, out);
                    out.push_str(&self.separators.1);
                    self.value(item, depth + 1, out);
                });
            }
            scalar => out.push_str(&scalar.to_string()),
        }
    }

    fn list<T>(
        &self,
        open: char,
        close: char,
        items: &[T],
        depth: usize,
        out: &mut String,
        each: impl Fn(&T, &mut String),
    ) {
        let new_line = |depth: usize, out: &mut String| {
            if let Some(indent) = self.indent.as_ref().filter(|_| !items.is_empty()) {
                out.push('\n');
                out.push_str(&indent.repeat(depth));
            }
        };
        out.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push_str(&self.separators.0);
            }
            new_line(depth + 1, out);
            each(item, out);
        }
        new_line(depth, out);
        out.push(close);
    }

    fn string(&self, text: &str, out: &mut String) {
        let quoted = serde_json::Value::from(text).to_string();
        if !self.ensure_ascii {
            return out.push_str(&quoted);
        }
        for c in quoted.chars() {
            if c.is_ascii() {
                out.push(c);
            } else {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|u| out.push_str(&format!("\\u{u:04x}")));
            }
        }
    }
}

/// Python methods beyond those of minijinja's own collection.
pub(super) fn method(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let argument = || args.first().and_then(Value::as_str).filter(|_| args.len() == 1);
    match (value.as_str(), name, argument()) {
        (Some(text), "removeprefix", Some(end)) => Ok(text.strip_prefix(end).unwrap_or(text).into()),
        (Some(text), "removesuffix", Some(end)) => Ok(text.strip_suffix(end).unwrap_or(text).into()),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::Environment;

    fn render(template: &str) -> String {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        environment.set_unknown_method_callback(method);
        environment.set_formatter(|out, _, value| out.write_str(&to_str(value)).map_err(Error::from));
        environment.render_str(template, ()).unwrap()
    }

    #[test]
    fn values_print_as_python_prints_them() {
        assert_eq!(render("{{ true }} {{ none }} {{ 1.0 }} {{ 7 }} {{ missing }}|"), "True None 1.0 7 |");
        assert_eq!(
            render(r#"{{ ["it's", {"a": [none, false]}, 'x"\n'] }}"#),
            r#"["it's", {'a': [None, False]}, 'x"\n']"#
        );
    }

    #[test]
    fn tojson_is_json_dumps() {
        let value = r#"{"b": [1, 2.5, "<é>"], "a": {}, "c": []}"#;
        assert_eq!(render(&format!("{{{{ {value}|tojson }}}}")), value);
        let sorted = render(&format!(
            "{{{{ {value}|tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':')) }}}}"
        ));
        assert_eq!(sorted, r#"{"a":{},"b":[1,2.5,"<\u00e9>"],"c":[]}"#);
        let indented = render(r#"{{ {"a": [1, {"b": 2}], "c": []}|tojson(indent=2) }}"#);
        assert_eq!(indented, "{\n  \"a\": [\n    1,\n    {\n      \"b\": 2\n    }\n  ],\n  \"c\": []\n}");
    }

    #[test]
    fn prefix_and_suffix_methods() {
        assert_eq!(
            render("{{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('x') }} {{ ' x '.strip() }}"),
            "bc abc x"
        );
    }
}
