//! Chat templates: the Jinja dialect of `transformers`.
//!
//! Rendering follows `apply_chat_template`: `trim_blocks` and `lstrip_blocks` on, loop controls,
//! `raise_exception`, `strftime_now`, `tojson` as `json.dumps`, special tokens as variables, and the
//! `{% generation %}` block that marks what the assistant produces.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{AutoEscape, Environment, ErrorKind, Value};
use serde_json::Map;

use super::chat::Message;
use super::python;
use super::strftime::strftime;
use crate::json::read_object_if_there;
use crate::{Error, Result};

/// Stand around marked text while a template is rendered. Unicode reserves these two code points for
/// a program's internal use, so no legitimate message contains them; one that does is refused.
const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';

const NAME: &str = "chat template";

/// A compiled chat template.
#[derive(Debug, Clone)]
pub(super) struct ChatTemplate {
    source: String,
    /// The file it came from, for messages.
    path: PathBuf,
    /// Or why it cannot be compiled: reported when a chat is rendered, since a tokenizer with a
    /// broken template still encodes plain text.
    environment: Result<Environment<'static>, String>,
    marks_generation: bool,
}

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendered {
    pub(super) text: String,
    /// Byte ranges inside `{% generation %}` blocks.
    pub(super) generated: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// Finds the template of a tokenizer folder: its own file first, as transformers does, then
    /// `tokenizer_config.json`, which may hold one template or several named ones.
    pub(super) fn read(dir: &Path, config: &Map<String, serde_json::Value>) -> Result<Option<Self>> {
        let own_file = dir.join("chat_template.jinja");
        match std::fs::read_to_string(&own_file) {
            Ok(source) => return Ok(Some(Self::new(source, own_file))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(own_file, "cannot read", e)),
        }
        if let Some(source) = config.get("chat_template").and_then(default_template) {
            return Ok(Some(Self::new(source, dir.join("tokenizer_config.json"))));
        }
        let old_file = dir.join("chat_template.json");
        let old = read_object_if_there(&old_file)?.unwrap_or_default();
        Ok(old.get("chat_template").and_then(default_template).map(|s| Self::new(s, old_file)))
    }

    /// Compiles `source`, which came from `path`.
    pub(super) fn new(source: String, path: PathBuf) -> Self {
        let (rewritten, marks_generation) = rewrite_generation_tags(&source);
        let environment = compile(rewritten).map_err(|e| e.to_string());
        ChatTemplate { source, path, environment, marks_generation }
    }

    /// The template as it was written.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether the template itself says what the assistant produces.
    pub(super) fn marks_generation(&self) -> bool {
        self.marks_generation
    }

    /// Renders a conversation; `variables` are visible to the template by name.
    pub(super) fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        variables: [&Map<String, serde_json::Value>; 2],
    ) -> Result<Rendered> {
        if let Some(i) = messages.iter().position(|m| m.content.contains([OPEN, CLOSE])) {
            return Err(Error::invalid(format!(
                "message {i} contains the reserved code point U+FDD0 or U+FDD1; remove it"
            )));
        }
        let environment = self.environment.as_ref().map_err(|e| self.error(e))?;
        let fixed = [
            ("messages", Value::from_serialize(messages)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ];
        let context: Value = fixed
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v))
            .chain(variables.into_iter().flatten().map(|(k, v)| (k.clone(), Value::from_serialize(v))))
            .collect();
        let text = environment
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(|e| self.error(&explain(&e)))?;
        Ok(take_out_marks(&text))
    }

    pub(super) fn error(&self, message: &str) -> Error {
        Error::format(&self.path, format!("the chat template cannot be rendered: {message}"))
    }
}

/// One template, or the one named "default" among several.
fn default_template(value: &serde_json::Value) -> Option<String> {
    let named = |entry: &&serde_json::Value| entry.get("name").and_then(|n| n.as_str()) == Some("default");
    match value {
        serde_json::Value::String(source) => Some(source.clone()),
        serde_json::Value::Array(list) => {
            list.iter().find(named)?.get("template")?.as_str().map(str::to_owned)
        }
        _ => None,
    }
}

fn compile(source: String) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment
        .set_formatter(|out, _, value| out.write_str(&python::to_str(value)).map_err(minijinja::Error::from));
    environment.set_unknown_method_callback(python::method);
    environment.add_filter("tojson", python::tojson);
    environment.add_filter("string", |value: &Value| python::to_str(value));
    environment.add_filter("amend_generation", |body: &Value| format!("{OPEN}{body}{CLOSE}"));
    environment.add_function("raise_exception", |message: &Value| -> Result<String, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, python::to_str(message)))
    });
    environment.add_function("strftime_now", |format: String| strftime(&format, now()));
    environment.add_template_owned(NAME, source)?;
    Ok(environment)
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

/// The error with its causes, on one line.
fn explain(error: &minijinja::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Turns `{% generation %}…{% endgeneration %}` into a filter block, which minijinja knows and which
/// treats white space the same way; says whether there was one.
fn rewrite_generation_tags(source: &str) -> (String, bool) {
    let mut out = String::with_capacity(source.len());
    let mut found = false;
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        out.push_str(before);
        rest = tag;
        let name_start = tag.len() - tag.trim_start_matches(['-', '+']).trim_start().len();
        let name: String =
            tag[name_start..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let end = tag[name_start + name.len()..].trim_start();
        let replacement = match name.as_str() {
            "generation" => "filter amend_generation",
            "endgeneration" => "endfilter",
            _ => continue,
        };
        if end.trim_start_matches(['-', '+']).starts_with("%}") {
            out.push_str(&tag[..name_start]);
            out.push_str(replacement);
            rest = &tag[name_start + name.len()..];
            found = true;
        }
    }
    out.push_str(rest);
    (out, found)
}

fn take_out_marks(text: &str) -> Rendered {
    let mut rendered = Rendered { text: String::with_capacity(text.len()), generated: Vec::new() };
    let mut open = None;
    for c in text.chars() {
        match c {
            OPEN => open = Some(rendered.text.len()),
            CLOSE => {
                if let Some(start) = open.take() {
                    rendered.generated.push(start..rendered.text.len());
                }
            }
            c => rendered.text.push(c),
        }
    }
    rendered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, contents: &[&str]) -> Result<Rendered> {
        let messages: Vec<_> = contents.iter().map(|c| Message::new("user", *c)).collect();
        let template = ChatTemplate::new(source.into(), "t.jinja".into());
        template.render(&messages, true, [&Map::new(), &Map::new()])
    }

    #[test]
    fn generation_blocks_keep_their_white_space_control() {
        let (rewritten, found) =
            rewrite_generation_tags("{%- generation -%} {%endgeneration%} {% generations %}");
        assert_eq!(rewritten, "{%- filter amend_generation -%} {%endfilter%} {% generations %}");
        assert!(found);
        let source = "{% for m in messages %}\n<a>\n    {% generation %}\n{{ m.content }}\n    {% endgeneration %}\n</a>\n{% endfor %}";
        let rendered = render(source, &["é", "y"]).unwrap();
        assert_eq!(rendered.text, "<a>\né\n</a>\n<a>\ny\n</a>\n");
        assert_eq!(rendered.generated, [4..7, 16..18]);
    }

    #[test]
    fn loop_controls_and_exceptions() {
        let source = "{% for m in messages %}{% if m.content == 'b' %}{% continue %}{% endif %}{{ m.content }}{% endfor %}";
        assert_eq!(render(source, &["a", "b", "c"]).unwrap().text, "ac");
        let message = render("{{ raise_exception('no system role') }}", &[]).unwrap_err().to_string();
        assert!(message.contains("t.jinja") && message.contains("no system role"), "{message}");
        let message = render("{% for %}", &[]).unwrap_err().to_string();
        assert!(message.contains("chat template:1"), "{message}");
    }

    #[test]
    fn reserved_code_points_are_refused() {
        assert!(render("", &["a\u{fdd0}"]).unwrap_err().to_string().contains("message 0"));
    }
}
