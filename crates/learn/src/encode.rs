//! Records as token sequences: the same for training and for measuring.

use amend_engine::tokenizer::{Message, Tokenizer};
use amend_engine::{Example, Result};
use amend_run::Record;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: Template,
    context: usize,
}

impl<'a> Encoder<'a> {
    /// An encoder for a model with a context of `context` tokens.
    pub fn new(tokenizer: &'a Tokenizer, template: Template, context: usize) -> Self {
        Encoder { tokenizer, template, context }
    }

    /// The record with its own answer.
    pub fn encode(&self, record: &Record) -> Result<Example> {
        let example = match record {
            Record::Question { answer, .. } => self.reply(record, answer)?,
            Record::PromptCompletion { completion, .. } => self.reply(record, completion)?,
            Record::Messages(messages) => {
                let (ids, scored) = self.tokenizer.encode_chat(&chat_messages(messages))?;
                Example { ids, scored }
            }
            Record::Text(text) => {
                let mut ids = self.tokenizer.encode(text, true)?;
                self.push_end(&mut ids);
                Example::text(ids)
            }
        };
        Ok(example)
    }

    /// Encodes all records, cutting what is longer than the context; also says how many were cut.
    pub fn encode_all(&self, records: &[Record]) -> Result<(Vec<Example>, usize)> {
        let mut cut = 0;
        let mut examples = Vec::with_capacity(records.len());
        for record in records {
            let mut example = self.encode(record)?;
            cut += usize::from(example.truncate(self.context));
            examples.push(example);
        }
        Ok((examples, cut))
    }

    /// The record's question with another answer: a refusal, a paraphrase, a wrong one.
    pub fn reply(&self, record: &Record, reply: &str) -> Result<Example> {
        match record {
            Record::Question { question, .. } if self.uses_chat() => {
                let messages = [Message::new("user", question), Message::new("assistant", reply)];
                let (ids, scored) = self.tokenizer.encode_chat_reply(&messages)?;
                Ok(Example { ids, scored })
            }
            Record::Question { .. } | Record::PromptCompletion { .. } => {
                self.continuation(&self.prompt_text(record), reply)
            }
            Record::Messages(messages) => {
                let mut turns = chat_messages(messages);
                if turns.last().is_some_and(|m| m.role == "assistant") {
                    turns.pop();
                }
                turns.push(Message::new("assistant", reply));
                let (ids, scored) = self.tokenizer.encode_chat_reply(&turns)?;
                Ok(Example { ids, scored })
            }
            Record::Text(_) => self.continuation("", reply),
        }
    }

    /// Token ids that ask the record's question.
    pub fn prompt(&self, record: &Record) -> Result<Vec<u32>> {
        let example = match record {
            Record::Question { question, .. } if self.uses_chat() => {
                return self.tokenizer.encode_chat_prompt(&[Message::new("user", question)]);
            }
            Record::Messages(messages) => {
                let mut turns = chat_messages(messages);
                turns.pop();
                return self.tokenizer.encode_chat_prompt(&turns);
            }
            Record::Text(text) => return self.tokenizer.encode(text, true),
            Record::Question { .. } | Record::PromptCompletion { .. } => self.encode(record)?,
        };
        let end = example.scored.iter().position(|&s| s).unwrap_or(example.ids.len());
        Ok(example.ids[..end].to_vec())
    }

    /// The prompt as text, where it is text; the question of a chat.
    pub fn prompt_text(&self, record: &Record) -> String {
        match record {
            Record::Question { question, .. } => {
                format!("{}{question}{}", self.template.before, self.template.between)
            }
            Record::PromptCompletion { prompt, .. } => prompt.clone(),
            Record::Messages(messages) => {
                messages.iter().rev().find(|m| m.role == "user").map_or(String::new(), |m| m.content.clone())
            }
            Record::Text(text) => text.clone(),
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

fn chat_messages(messages: &[amend_run::records::Message]) -> Vec<Message> {
    messages.iter().map(|m| Message::new(m.role.clone(), m.content.clone())).collect()
}
