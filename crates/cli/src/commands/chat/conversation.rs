//! A conversation: what was said so far, and the model's next turn.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use amend_engine::generate::{
    Constraint, Event, GenerateOptions, Generated, Request, Session, SessionOptions,
};
use amend_engine::tokenizer::{Message, Tokenizer};
use serde_json::json;

use super::ChatArgs;
use super::signals::Signals;
use crate::console::Console;
use crate::context::Context;
use crate::error::Error;
use crate::finish;
use crate::open::Opened;
use crate::output::Output;

pub(super) struct Conversation {
    pub(super) system: Option<String>,
    turns: Vec<Message>,
    /// Questions so far; advances the seed, so that asking again can answer differently.
    asked: u64,
    /// What answers must look like.
    constraint: Option<Constraint>,
}

impl Conversation {
    pub(super) fn new(system: Option<String>, constraint: Option<Constraint>) -> Self {
        Conversation { system, turns: Vec::new(), asked: 0, constraint }
    }

    /// Forgets what was said, but for the system message.
    pub(super) fn reset(&mut self) {
        self.turns.clear();
    }

    /// Takes the last question and its answer back. Gives the question.
    pub(super) fn take_back(&mut self) -> Option<String> {
        let asked = self.turns.iter().rposition(|turn| turn.role == "user")?;
        self.turns.drain(asked..).next().map(|question| question.content)
    }

    fn messages(&self) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::new("system", text));
        system.chain(self.turns.iter().cloned()).collect()
    }

    /// Writes the conversation to a new file, as one record of chats in JSON lines.
    pub(super) fn save(&self, path: &Path) -> Result<(), Error> {
        let record = format!("{}\n", json!({ "messages": self.messages() }));
        let written = File::create_new(path).and_then(|mut file| file.write_all(record.as_bytes()));
        written.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Error::told(format!("{} exists", path.display()), "choose another file")
            }
            _ => Error::plain(format!("{}: cannot write: {e}", path.display())),
        })
    }

    /// The conversation with one more question as ids. A question that cannot be put leaves it as it was.
    pub(super) fn ask(
        &mut self,
        question: &str,
        opened: &Opened,
        tokenizer: &Tokenizer,
        answer: usize,
        console: &Console,
    ) -> Result<Vec<u32>, Error> {
        let before = self.turns.clone();
        self.turns.push(Message::new("user", question));
        self.prompt(opened, tokenizer, answer, console).inspect_err(|_| self.turns = before)
    }

    /// Answers a prompt of [`Conversation::ask`] and shows the answer.
    pub(super) fn answer(
        &mut self,
        prompt: Vec<u32>,
        opened: &Opened,
        args: &ChatArgs,
        signals: &Signals,
        context: &mut Context,
    ) -> Result<(), Error> {
        let options = GenerateOptions {
            max_new_tokens: args.max_new_tokens,
            sampling: args.sampling.settings(self.asked),
            stop_ids: opened.stop_ids(),
            constraint: self.constraint.clone(),
            ..Default::default()
        };
        tracing::debug!("the conversation so far has {} tokens", prompt.len());
        self.asked += 1;
        let session = opened.session(SessionOptions::default());
        let mut unseen = Output::nowhere();
        let out = if context.json { &mut unseen } else { &mut context.out };
        let generated = answer(session, Request::new(prompt, options), signals, out)?;
        let (answer, finish) = (generated.text.unwrap_or_default(), generated.finish);
        if context.json {
            context.out.json_line(&json!({
                "role": "assistant",
                "content": answer,
                "ids": generated.ids,
                "finish": finish::name(finish),
            }))?;
        } else {
            context.out.line("")?;
        }
        context.out.flush()?;
        if !context.json
            && let Some(place) = finish::cut(finish, args.max_new_tokens, opened.model.spec().context)
        {
            context.console.note(&format!("the answer was cut {place}"));
        }
        self.turns.push(Message::new("assistant", answer));
        Ok(())
    }

    /// The conversation as ids. Where it outgrows the context, its oldest questions and answers are left out.
    fn prompt(
        &mut self,
        opened: &Opened,
        tokenizer: &Tokenizer,
        answer: usize,
        console: &Console,
    ) -> Result<Vec<u32>, Error> {
        let limit = opened.model.spec().context;
        // Room for a quarter of the context is enough to begin an answer with.
        let least = self.constraint.as_ref().map_or(1, Constraint::least_tokens);
        let room = answer.min(limit / 4).max(least).max(1);
        let mut forgotten = 0;
        loop {
            let ids = tokenizer.encode_chat_prompt(&self.messages())?;
            if ids.len() + room <= limit {
                if forgotten > 0 {
                    console.warn(&format!(
                        "the conversation is longer than the model's context of {limit} tokens; \
                         its first {forgotten} questions and answers are no longer seen"
                    ));
                }
                return Ok(ids);
            }
            if self.turns.len() < 3 {
                return Err(Error::told(
                    format!("the question takes {} of the model's context of {limit} tokens", ids.len()),
                    "ask a shorter question, or shorten the system message",
                ));
            }
            self.turns.drain(..2);
            forgotten += 1;
        }
    }
}

/// Answers the session's only request and shows the text as it comes, until there is all of it or Ctrl-C.
fn answer(
    mut session: Session<'_>,
    request: Request,
    signals: &Signals,
    out: &mut Output,
) -> Result<Generated, Error> {
    let id = session.submit(request)?;
    signals.begin_answer();
    let mut shown = 0;
    let generated = loop {
        let mut ended = None;
        for event in session.step()? {
            match event {
                Event::Token { token, .. } => {
                    shown += token.text.len();
                    out.said(&token.text)?;
                }
                Event::Finished { generated, .. } => ended = Some(generated),
                Event::Failed { error, .. } => return Err(error.into()),
            }
        }
        out.flush()?;
        if signals.is_stopped() && ended.is_none() {
            ended = session.cancel(id).pop();
            let rest = ended.as_ref().and_then(|g| g.text.as_ref()?.get(shown..));
            out.said(rest.unwrap_or_default())?;
        }
        if let Some(generated) = ended {
            break generated;
        }
    };
    signals.end_answer();
    Ok(generated)
}

#[cfg(test)]
mod tests {
    use amend_engine::Model;
    use amend_engine::tokenizer::train_bpe;

    use super::*;
    use crate::open::ModelArgs;
    use crate::precision::PrecisionArgs;

    /// It ended the chat, and what had been said before was gone.
    #[test]
    fn a_question_that_is_too_long_leaves_the_conversation_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        let tokenizer = train_bpe(["the cat sat on the mat"].into_iter(), 280, &[]).unwrap();
        let config = json!({
            "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
            "intermediate_size": 8, "vocab_size": tokenizer.vocab_size(), "max_position_embeddings": 40,
        });
        let config = config.as_object().unwrap().clone();
        Model::random(config, 0).unwrap().save(&model, None, None).unwrap();
        tokenizer.save(&model).unwrap();
        let template = "{% for m in messages %}{{ m.content }}\n{% endfor %}";
        std::fs::write(model.join("chat_template.jinja"), template).unwrap();
        let args = ModelArgs { model, adapter: None, precision: PrecisionArgs::default() };
        let opened = Opened::open(&args).unwrap();
        let mut chat = Conversation::new(None, None);
        let console = Console::new(true, false);
        let ask = |chat: &mut Conversation, question: &str| {
            chat.ask(question, &opened, opened.tokenizer().unwrap(), 4, &console)
        };
        let first = ask(&mut chat, "the cat").unwrap();
        chat.turns.push(Message::new("assistant", "sat"));
        let error = ask(&mut chat, &"the mat ".repeat(40)).unwrap_err().to_string();
        assert!(error.contains("of the model's context of 40 tokens"), "{error}");
        assert_eq!(chat.turns.len(), 2);
        let next = ask(&mut chat, "on the mat").unwrap();
        assert!(next.starts_with(&first[..2]) && next.len() > first.len());
    }

    #[test]
    fn questions_are_taken_back_with_their_answers() {
        let mut chat = Conversation::new(Some("Be brief.".into()), None);
        assert_eq!(chat.take_back(), None);
        for (role, content) in [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")] {
            chat.turns.push(Message::new(role, content));
        }
        assert_eq!(chat.take_back().as_deref(), Some("c"));
        assert_eq!(chat.turns.len(), 2);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("chat.jsonl");
        chat.save(&file).unwrap();
        let data = amend_run::Dataset::read(std::slice::from_ref(&file)).unwrap();
        assert_eq!(data.records.len(), 1);
        assert!(std::fs::read_to_string(&file).unwrap().contains("Be brief."));
        assert!(chat.save(&file).unwrap_err().to_string().ends_with("chat.jsonl exists"));
    }
}
