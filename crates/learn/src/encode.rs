//! Records as token sequences: the same for training and for measuring.

use amend_engine::tokenizer::{Message, Tokenizer};
use amend_engine::{Error, Example, Result};
use amend_run::records::Turn;
use amend_run::{Content, Record};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conversation::Conversation;

/// How a question becomes a prompt where the model has no chat template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Template {
    /// Text before the question.
    pub before: String,
    /// Text between question and answer.
    pub between: String,
    /// Use the model's chat template for questions where it has one.
    pub chat: bool,
}

impl Default for Template {
    fn default() -> Self {
        // What the TOFU benchmark uses for models without a chat format.
        Template { before: "Question: ".into(), between: "\nAnswer: ".into(), chat: true }
    }
}

/// Turns records into scored token sequences with one tokenizer.
pub struct RecordEncoder<'a> {
    tokenizer: &'a Tokenizer,
    template: Template,
    context: usize,
}

impl<'a> RecordEncoder<'a> {
    /// An encoder for a model with a context of `context` tokens.
    pub fn new(tokenizer: &'a Tokenizer, template: Template, context: usize) -> Self {
        RecordEncoder { tokenizer, template, context }
    }

    /// A record's content with its own answer, however long; [`RecordEncoder::encode_all`] cuts to the context.
    ///
    /// # Errors
    /// A conversation in which the assistant says nothing; a template that fails.
    pub fn encode(&self, content: &Content) -> Result<Example> {
        let example = match content {
            Content::Question { answer, .. } => self.whole_reply(content, answer)?,
            Content::PromptCompletion { completion, .. } => self.whole_reply(content, completion)?,
            Content::Messages(messages) => {
                let conversation = Conversation::of(messages);
                if conversation.answer.is_none() {
                    let question = conversation.question();
                    return Err(Error::invalid(format!(
                        "the conversation about {question:?} has no message of the assistant, hence no answer"
                    )));
                }
                let (ids, scored) = self.tokenizer.encode_chat(&chat_messages(messages))?;
                Example { ids, scored }
            }
            Content::Text(text) => {
                let mut ids = self.tokenizer.encode(text, true)?;
                self.push_end(&mut ids);
                Example::text(ids)
            }
        };
        Ok(example)
    }

    /// The same without its end: what a text that goes on may begin with.
    ///
    /// # Errors
    /// As [`RecordEncoder::encode`].
    pub fn beginning(&self, content: &Content) -> Result<Example> {
        let mut example = self.encode(content)?;
        if example.ids.last().is_some_and(|last| self.tokenizer.eos_ids().contains(last)) {
            example.truncate(example.ids.len() - 1);
        }
        Ok(example)
    }

    /// Encodes all records, cutting what is longer than the context; also says how many were cut.
    pub fn encode_all(&self, records: &[Record]) -> Result<(Vec<Example>, usize)> {
        let mut cut = 0;
        let mut examples = Vec::with_capacity(records.len());
        for record in records {
            let mut example = self.encode(&record.content)?;
            cut += usize::from(example.truncate(self.context));
            examples.push(example);
        }
        Ok((examples, cut))
    }

    /// The question with another answer: a refusal, a paraphrase, a wrong one. Cut to the context.
    pub fn reply(&self, content: &Content, reply: &str) -> Result<Example> {
        let mut example = self.whole_reply(content, reply)?;
        example.truncate(self.context);
        Ok(example)
    }

    fn whole_reply(&self, content: &Content, reply: &str) -> Result<Example> {
        match content {
            Content::Question { question, .. } if self.uses_chat() => {
                let messages = [Message::new("user", question), Message::new("assistant", reply)];
                let (ids, scored) = self.tokenizer.encode_chat_reply(&messages)?;
                Ok(Example { ids, scored })
            }
            Content::Question { .. } | Content::PromptCompletion { .. } => {
                self.continuation(&self.prompt_text(content), reply)
            }
            Content::Messages(messages) => {
                let mut turns = chat_messages(Conversation::of(messages).asked);
                turns.push(Message::new("assistant", reply));
                let (ids, scored) = self.tokenizer.encode_chat_reply(&turns)?;
                Ok(Example { ids, scored })
            }
            Content::Text(_) => self.continuation("", reply),
        }
    }

    /// Token ids that ask the question.
    pub fn prompt(&self, content: &Content) -> Result<Vec<u32>> {
        let example = match content {
            Content::Question { question, .. } if self.uses_chat() => {
                return self.tokenizer.encode_chat_prompt(&[Message::new("user", question)]);
            }
            Content::Messages(messages) => {
                return self.tokenizer.encode_chat_prompt(&chat_messages(Conversation::of(messages).asked));
            }
            Content::Text(text) => return self.tokenizer.encode(text, true),
            Content::Question { .. } | Content::PromptCompletion { .. } => self.encode(content)?,
        };
        let end = example.scored.iter().position(|&s| s).unwrap_or(example.ids.len());
        Ok(example.ids[..end].to_vec())
    }

    /// Token ids that ask the question after others with their answers, in the form in which the question is asked, and
    /// begin the reply. With neither it is [`RecordEncoder::prompt`].
    pub fn prompt_after(
        &self,
        examples: &[(String, String)],
        content: &Content,
        begun: &str,
    ) -> Result<Vec<u32>> {
        let asked = match content {
            Content::Question { question, .. } if self.uses_chat() => vec![Message::new("user", question)],
            Content::Messages(messages) => chat_messages(Conversation::of(messages).asked),
            Content::Question { .. } | Content::PromptCompletion { .. } | Content::Text(_) => {
                return self.text_after(examples, content, begun);
            }
        };
        // What a system says comes before everything.
        let first = asked.iter().position(|message| message.role != "system").unwrap_or(asked.len());
        let mut turns = asked[..first].to_vec();
        for (question, answer) in examples {
            turns.extend([Message::new("user", question), Message::new("assistant", answer)]);
        }
        turns.extend_from_slice(&asked[first..]);
        let mut ids = self.tokenizer.encode_chat_prompt(&turns)?;
        ids.extend(self.tokenizer.encode(begun, false)?);
        Ok(ids)
    }

    /// The same as plain text.
    fn text_after(&self, examples: &[(String, String)], content: &Content, begun: &str) -> Result<Vec<u32>> {
        let Template { before, between, .. } = &self.template;
        let mut text = String::new();
        for (question, answer) in examples {
            text += &match content {
                Content::Question { .. } => format!("{before}{question}{between}{answer}\n\n"),
                _ => format!("{question}{answer}\n"),
            };
        }
        text += &self.prompt_text(content);
        if begun.is_empty() {
            let completion = match content {
                Content::Question { answer, .. } => answer.clone(),
                Content::PromptCompletion { completion, .. } => completion.clone(),
                Content::Messages(_) | Content::Text(_) => String::new(),
            };
            // Where prompt and answer are one text, the token across their border is left to the model.
            return self.prompt(&Content::PromptCompletion { prompt: text, completion });
        }
        let mut ids = self.tokenizer.encode(&format!("{text}{begun}"), true)?;
        while ids.last().is_some_and(|last| self.tokenizer.eos() == Some(*last)) {
            ids.pop();
        }
        Ok(ids)
    }

    /// The prompt as text, where it is text; the question of a chat.
    pub fn prompt_text(&self, content: &Content) -> String {
        match content {
            Content::Question { question, .. } => {
                format!("{}{question}{}", self.template.before, self.template.between)
            }
            Content::Messages(messages) => Conversation::of(messages).question().to_owned(),
            Content::PromptCompletion { .. } | Content::Text(_) => content.prompt().to_owned(),
        }
    }

    fn uses_chat(&self) -> bool {
        self.template.chat && self.tokenizer.has_chat_template()
    }

    /// `prompt` followed by `reply` and the end token; the reply's tokens and the end are scored.
    ///
    /// Both are encoded as one text and told apart by their bytes, so that no token boundary is
    /// forced where the tokenizer would have none; a token that straddles the two counts as reply.
    fn continuation(&self, prompt: &str, reply: &str) -> Result<Example> {
        let encoded = self.tokenizer.encode_offsets(&format!("{prompt}{reply}"), true)?;
        let mut ids = encoded.ids;
        let mut scored: Vec<bool> =
            encoded.offsets.iter().map(|o| !o.is_empty() && o.end > prompt.len()).collect();
        if ids.last().is_some_and(|last| self.tokenizer.eos() == Some(*last)) {
            // Tokenizers that end every text themselves: their end token is the reply's.
            if let Some(last) = scored.last_mut() {
                *last = true;
            }
        } else {
            self.push_end(&mut ids);
            scored.resize(ids.len(), true);
        }
        Ok(Example { ids, scored })
    }

    fn push_end(&self, ids: &mut Vec<u32>) {
        if let Some(eos) = self.tokenizer.eos().filter(|eos| ids.last() != Some(eos)) {
            ids.push(eos);
        }
    }
}

fn chat_messages(turns: &[Turn]) -> Vec<Message> {
    turns.iter().map(|m| Message::new(m.role.clone(), m.content.clone())).collect()
}

#[cfg(test)]
mod tests {
    use amend_engine::tokenizer::train_bpe;

    use super::*;

    #[test]
    fn answers_and_the_end_are_scored_and_what_is_too_long_is_cut() {
        let tokenizer = train_bpe(["Question: a b c Answer: d e f"].into_iter(), 300, &[]).unwrap();
        let encoder = RecordEncoder::new(&tokenizer, Template::default(), 24);
        let content = Content::Question { question: "a b".into(), answer: "d e".into() };
        let example = encoder.encode(&content).unwrap();
        let scored: Vec<u32> =
            example.ids.iter().zip(&example.scored).filter(|(_, s)| **s).map(|(id, _)| *id).collect();
        // The space before the answer belongs to its first token, as it does when the model writes it.
        assert_eq!(tokenizer.decode(&scored, true).unwrap(), " d e");
        assert_eq!(scored.last().copied(), tokenizer.eos());
        assert_eq!(example.ids.first().copied(), tokenizer.bos());
        assert!(!example.scored[0]);
        let open = encoder.beginning(&content).unwrap();
        assert_eq!(open.ids, example.ids[..example.ids.len() - 1], "all but the end");
        assert_eq!(open.scored, example.scored[..open.ids.len()]);
        let long = encoder.reply(&content, &"d e f ".repeat(30)).unwrap();
        assert_eq!(long.ids.len(), 24);
        assert_eq!(encoder.prompt(&content).unwrap(), example.ids[..example.ids.len() - scored.len()]);
    }

    #[test]
    fn examples_come_first_and_a_reply_may_be_begun() {
        let tokenizer = train_bpe(["Question: a b c\nAnswer: d e f\n\n"].into_iter(), 300, &[]).unwrap();
        let encoder = RecordEncoder::new(&tokenizer, Template::default(), 200);
        let text = |ids: Vec<u32>| tokenizer.decode(&ids, true).unwrap();
        let content = Content::Question { question: "a b".into(), answer: "d e".into() };
        assert_eq!(encoder.prompt_after(&[], &content, "").unwrap(), encoder.prompt(&content).unwrap());
        let example = [("c".to_owned(), "f".to_owned())];
        let asked = text(encoder.prompt_after(&example, &content, "d").unwrap());
        assert_eq!(asked, "Question: c\nAnswer: f\n\nQuestion: a b\nAnswer: d");
        let plain = Content::PromptCompletion { prompt: "a b".into(), completion: " c".into() };
        assert_eq!(text(encoder.prompt_after(&example, &plain, "").unwrap()), "cf\na b");
        assert_ne!(encoder.prompt_after(&[], &content, "d").unwrap().last().copied(), tokenizer.eos());

        let template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}\
                        {% if add_generation_prompt %}assistant:{% endif %}";
        let tokenizer = tokenizer.clone().with_chat_template(template);
        let encoder = RecordEncoder::new(&tokenizer, Template::default(), 200);
        let asked = tokenizer.decode(&encoder.prompt_after(&example, &content, " d").unwrap(), true).unwrap();
        assert_eq!(asked, "user: c\nassistant: f\nuser: a b\nassistant: d");
    }

    /// What follows the answer was asked instead of the question.
    #[test]
    fn a_conversation_that_ends_with_the_user_is_asked_up_to_its_answer() {
        let template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}\
                        {% if add_generation_prompt %}assistant:{% endif %}";
        let tokenizer = train_bpe(["user: assistant: a b c"].into_iter(), 300, &[]).unwrap();
        let tokenizer = tokenizer.with_chat_template(template);
        let encoder = RecordEncoder::new(&tokenizer, Template::default(), 64);
        let turn = |role: &str, content: &str| Turn {
            role: role.into(),
            content: content.into(),
            fields: amend_run::records::Row::new(),
        };
        let answered = [turn("user", "a"), turn("assistant", "b")];
        let thanked = Content::Messages([&answered[..], &[turn("user", "c")]].concat());
        let plain = Content::Messages(answered.to_vec());
        assert_eq!(encoder.prompt(&thanked).unwrap(), encoder.prompt(&plain).unwrap());
        assert_eq!(encoder.reply(&thanked, "c").unwrap(), encoder.reply(&plain, "c").unwrap());
        assert_eq!(encoder.prompt_text(&thanked), "a");

        let unanswered = Content::Messages(vec![turn("user", "a")]);
        assert_eq!(encoder.prompt(&unanswered).unwrap(), encoder.prompt(&plain).unwrap());
        let error = encoder.encode(&unanswered).unwrap_err().to_string();
        assert!(error.contains("\"a\" has no message of the assistant"), "{error}");
    }
}
