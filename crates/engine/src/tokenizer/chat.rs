//! Conversations as token ids, and which of the tokens the assistant must produce.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::template::{ChatTemplate, Rendered};
use super::{Encoded, Tokenizer};
use crate::{Error, Result};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: "system", "user", "assistant" or whatever else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of `role` that says `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into() }
    }
}

/// Text the assistant produces within a rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    range: Range<usize>,
    end: End,
}

/// How far the end of a span can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The template itself says so.
    Marked,
    /// Where the turn's text ends, which may be after what the assistant says.
    Turn,
    /// The template renders a turn differently at the end of a conversation, so that only what comes
    /// before the turn's closing token is known to be the assistant's.
    MustClose,
}

impl Tokenizer {
    /// Whether conversations can be rendered.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// The same tokenizer with another chat template.
    pub fn with_chat_template(mut self, source: impl Into<String>) -> Self {
        self.template = Some(ChatTemplate::new(source.into(), "chat_template.jinja".into()));
        self
    }

    /// The same tokenizer with further variables for its chat template, such as `enable_thinking`, or
    /// `date_string` where a template would otherwise print today's date.
    pub fn with_template_variables(mut self, variables: Map<String, Value>) -> Self {
        self.variables = variables;
        self
    }

    /// The conversation as text, exactly as `apply_chat_template` renders it; with
    /// `add_generation_prompt` followed by what makes the assistant answer.
    ///
    /// Fails where there is no template or where the template refuses the conversation.
    pub fn render_chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        Ok(self.render(messages, add_generation_prompt)?.text)
    }

    /// Token ids of the prompt that makes the assistant answer the conversation.
    pub fn encode_chat_prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.encode(&self.render_chat(messages, true)?, false)
    }

    /// Token ids of a conversation, and for each whether the assistant must produce it.
    ///
    /// The template's `{% generation %}` blocks decide where it has them. Otherwise an assistant turn
    /// is what rendering it adds to the prompt before it, up to the token that closes it; this needs
    /// a template that renders earlier turns the same way however the conversation continues, and
    /// fails with the turn's number where it does not. No BOS is added to the template's own.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<(Vec<u32>, Vec<bool>)> {
        self.encode_turns(messages, |_| true)
    }

    /// Like [`Tokenizer::encode_chat`], but only the last turn counts as produced.
    pub fn encode_chat_reply(&self, messages: &[Message]) -> Result<(Vec<u32>, Vec<bool>)> {
        self.encode_turns(messages, |i| i + 1 == messages.len())
    }

    fn encode_turns(
        &self,
        messages: &[Message],
        wanted: impl Fn(usize) -> bool,
    ) -> Result<(Vec<u32>, Vec<bool>)> {
        let whole = self.render(messages, false)?;
        let turns: Vec<usize> = (0..messages.len()).filter(|&i| messages[i].role == "assistant").collect();
        let mut spans = Vec::new();
        if self.template()?.marks_generation() {
            spans = self.marked_spans(&whole, messages, &turns, &wanted)?;
        } else {
            for &turn in turns.iter().filter(|&&turn| wanted(turn)) {
                spans.push(self.span_of_turn(messages, turn, &whole.text)?);
            }
        }
        let encoded = self.encode_offsets(&whole.text, false)?;
        let mut mask = vec![false; encoded.ids.len()];
        for span in &spans {
            let tokens = self.tokens_of(span, &whole.text, &encoded)?;
            mask[tokens].fill(true);
        }
        Ok((encoded.ids, mask))
    }

    fn template(&self) -> Result<&ChatTemplate> {
        self.template.as_ref().ok_or_else(|| {
            Error::format(
                &self.path,
                "this tokenizer has no chat template; use plain texts, or add a chat_template.jinja to its folder",
            )
        })
    }

    fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Rendered> {
        self.template()?.render(messages, add_generation_prompt, [&self.special.names, &self.variables])
    }

    /// Spans from the template's own blocks. To pick single turns, the blocks that the turns before
    /// produce are counted.
    fn marked_spans(
        &self,
        whole: &Rendered,
        messages: &[Message],
        turns: &[usize],
        wanted: &impl Fn(usize) -> bool,
    ) -> Result<Vec<Span>> {
        let span = |range: &Range<usize>| Span { range: range.clone(), end: End::Marked };
        if turns.iter().all(|&turn| wanted(turn)) {
            return Ok(whole.generated.iter().map(span).collect());
        }
        let mut spans = Vec::new();
        for &turn in turns.iter().filter(|&&turn| wanted(turn)) {
            let before = self.render(&messages[..turn], false)?.generated.len();
            let after = self.render(&messages[..=turn], false)?.generated.len();
            spans.extend(whole.generated.get(before..after).unwrap_or_default().iter().map(span));
        }
        Ok(spans)
    }

    /// What the assistant adds in `turn`, found by rendering the conversation up to before and after it.
    fn span_of_turn(&self, messages: &[Message], turn: usize, whole: &str) -> Result<Span> {
        let unstable = |what: &str| {
            self.template.as_ref().map_or_else(
                || Error::invalid(what),
                |t| {
                    t.error(&format!(
                        "{what} in turn {turn}, so what the assistant produces there cannot be told apart; \
                     split the conversation so that each part ends with the turn to be learned, or use a \
                     template with {{% generation %}} blocks"
                    ))
                },
            )
        };
        let prompt = self.render(&messages[..turn], true)?.text;
        let after = self.render(&messages[..=turn], false)?.text;
        if !after.starts_with(&prompt) {
            return Err(unstable("the generation prompt is not how the assistant's message begins"));
        }
        let common = common_prefix(&after, whole);
        let end = if common < after.len() { End::MustClose } else { End::Turn };
        // A template may put something at the end of every conversation; the turn itself must be there.
        let turn_is_there =
            || whole.get(prompt.len()..common).is_some_and(|s| s.contains(messages[turn].content.trim()));
        if end == End::MustClose && !turn_is_there() {
            return Err(unstable("earlier messages are rendered differently as the conversation goes on"));
        }
        Ok(Span { range: prompt.len()..common, end })
    }

    /// The tokens of a span. A token that reaches into it from before counts, as in transformers.
    ///
    /// Where the template does not say it, special tokens and white space at the end close the turn. The assistant produces
    /// the first of them that stops generation (or else the first special one), not what the template
    /// puts after it.
    fn tokens_of(&self, span: &Span, text: &str, encoded: &Encoded) -> Result<Range<usize>> {
        let Range { start, end } = span.range;
        let must_close = span.end == End::MustClose;
        let inside = |o: &Range<usize>| o.start < end && o.end > start && (!must_close || o.end <= end);
        let Some(first) = encoded.offsets.iter().position(inside) else { return Ok(0..0) };
        let after = encoded.offsets.iter().rposition(inside).map_or(first, |last| last + 1);
        if span.end == End::Marked {
            return Ok(first..after);
        }
        let special = |t: &usize| self.is_special(encoded.ids[*t]);
        let blank = |t: &usize| text.get(encoded.offsets[*t].clone()).is_some_and(|s| s.trim().is_empty());
        let mut tail = (first..after).rev().take_while(|t| special(t) || blank(t)).collect::<Vec<_>>();
        tail.reverse();
        let stops = |t: &usize| self.eos_ids().contains(&encoded.ids[*t]);
        match tail.iter().find(|t| stops(t)).or_else(|| tail.iter().find(|t| special(t))) {
            Some(closing) => Ok(first..closing + 1),
            None if must_close => Err(self.template()?.error(
                "no special token closes the assistant's message, and the template renders the last \
                 message differently from earlier ones; give conversations with one answer each",
            )),
            None => Ok(first..after),
        }
    }
}

/// Length in bytes of the longest common prefix, at a character boundary.
fn common_prefix(a: &str, b: &str) -> usize {
    let same = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    (0..=same).rev().find(|&i| a.is_char_boundary(i) && b.is_char_boundary(i)).unwrap_or(0)
}
