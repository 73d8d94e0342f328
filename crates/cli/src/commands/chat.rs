//! `amend chat`: a conversation in the terminal.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use amend_engine::generate::{
    Constraint, Event, GenerateOptions, Generated, Request, Session, SessionOptions,
};
use amend_engine::tokenizer::{Message, Tokenizer};
use clap::Args;
use serde_json::json;

use crate::app::Exit;
use crate::console::Console;
use crate::constraint::ConstraintArgs;
use crate::context::Context;
use crate::error::{self, Error};
use crate::interrupt;
use crate::open::{ModelArgs, Opened};
use crate::output::Output;
use crate::sampling::SamplingArgs;

const EXAMPLES: &str = "\
While chatting:
  /system TEXT   set the system message and start over; without TEXT remove it
  /reset         start over
  /quit          leave, as does Ctrl-D
  Ctrl-C         stop the answer; at the prompt: leave

Questions can also be piped in, one per line:
  printf 'Who wrote Faust?\\nWhen?\\n' | amend chat models/my-model --json

With --json-schema, --json-object, --regex or --choice every answer matches,
unless Ctrl-C stops it.

The model needs a chat template. For one without, use `amend generate`.";

const HELP: &str = "/system TEXT sets the system message, /reset starts over, /quit leaves";

/// Chat with a model
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// System message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Tokens per answer at most
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = crate::args::parse_count)]
    max_new_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    constraint: ConstraintArgs,
}

pub(crate) fn execute(args: ChatArgs, context: &mut Context) -> Result<Exit, Error> {
    let opened = Opened::open(&args.model)?;
    let tokenizer = opened.tokenizer()?;
    if !tokenizer.has_chat_template() {
        return Err(Error::told(
            format!(
                "{}: the model has no chat template, so it was not made for chatting",
                args.model.model.display()
            ),
            "continue texts with `amend generate`, or add a chat_template.jinja to the folder",
        ));
    }
    args.sampling.warn_of_ignored(1, &context.console);
    let constraint = args.constraint.compile(&opened)?;
    let signals = Signals::listen()?;
    if context.console.is_terminal() {
        context.console.note(HELP);
    }
    let mut chat = Conversation { system: args.system.clone(), turns: Vec::new(), asked: 0, constraint };
    let mut lines = std::io::stdin().lock().lines();
    loop {
        if context.console.is_terminal() && !context.console.quiet() {
            context.console.write("> ");
        }
        let Some(line) = lines.next() else { return Ok(Exit::Done) };
        let line = line.map_err(|e| Error::plain(format!("cannot read standard input: {e}")))?;
        match Input::of(&line) {
            Input::Nothing => {}
            Input::Quit => return Ok(Exit::Done),
            Input::Help => context.console.note(HELP),
            Input::Reset => chat.turns.clear(),
            Input::System(text) => {
                chat.system = text;
                chat.turns.clear();
            }
            Input::Unknown(command) => {
                context.console.warn(&format!("there is no {command}; {HELP}"));
            }
            Input::Question(text) => {
                match chat.ask(&text, &opened, tokenizer, args.max_new_tokens, &context.console) {
                    Ok(prompt) => chat.answer(prompt, &opened, &args, &signals, context)?,
                    // A person asks something else. Who pipes questions in would miss an answer.
                    Err(e) if std::io::stdin().is_terminal() => error::report(&e, context.json),
                    Err(e) => return Err(e),
                }
            }
        }
    }
}

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    Nothing,
    Quit,
    Help,
    Reset,
    System(Option<String>),
    Unknown(String),
    Question(String),
}

impl Input {
    fn of(line: &str) -> Self {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "" => Input::Nothing,
            "/quit" | "/exit" => Input::Quit,
            "/help" => Input::Help,
            "/reset" => Input::Reset,
            "/system" => Input::System(Some(rest.trim().to_owned()).filter(|text| !text.is_empty())),
            word if word.starts_with('/') => Input::Unknown(word.to_owned()),
            _ => Input::Question(line.to_owned()),
        }
    }
}

/// Ctrl-C stops an answer in progress, and leaves where there is none.
struct Signals {
    answering: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
}

impl Signals {
    fn listen() -> Result<Self, Error> {
        let signals = Signals { answering: Arc::default(), stopped: Arc::default() };
        let (answering, stopped) = (signals.answering.clone(), signals.stopped.clone());
        interrupt::on_signal(move || {
            if !answering.load(Ordering::Relaxed) || stopped.swap(true, Ordering::Relaxed) {
                std::process::exit(i32::from(crate::chosen::INTERRUPTED));
            }
        })?;
        Ok(signals)
    }
}

struct Conversation {
    system: Option<String>,
    turns: Vec<Message>,
    /// Questions so far; advances the seed, so that asking again can answer differently.
    asked: u64,
    /// What answers must look like.
    constraint: Option<Constraint>,
}

impl Conversation {
    fn messages(&self) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::new("system", text));
        system.chain(self.turns.iter().cloned()).collect()
    }

    /// The conversation with one more question as ids. A question that cannot be put leaves it as it was.
    fn ask(
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
    fn answer(
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
        self.asked += 1;
        let session = opened.session(SessionOptions::default());
        let mut unseen = Output::nowhere();
        let out = if context.json { &mut unseen } else { &mut context.out };
        let generated = answer(session, Request::new(prompt, options), signals, out)?;
        let answer = generated.text.unwrap_or_default();
        if context.json {
            let ids = generated.ids;
            context.out.json_line(&json!({ "role": "assistant", "content": answer, "ids": ids }))?;
        } else {
            context.out.line("")?;
        }
        context.out.flush()?;
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
    signals.stopped.store(false, Ordering::Relaxed);
    signals.answering.store(true, Ordering::Relaxed);
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
        if signals.stopped.load(Ordering::Relaxed) && ended.is_none() {
            ended = session.cancel(id).pop();
            let rest = ended.as_ref().and_then(|g| g.text.as_ref()?.get(shown..));
            out.said(rest.unwrap_or_default())?;
        }
        if let Some(generated) = ended {
            break generated;
        }
    };
    signals.answering.store(false, Ordering::Relaxed);
    Ok(generated)
}

#[cfg(test)]
mod tests {
    use amend_engine::Model;
    use amend_engine::tokenizer::train_bpe;

    use super::*;
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
        let mut chat = Conversation { system: None, turns: Vec::new(), asked: 0, constraint: None };
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
    fn lines_are_commands_or_questions() {
        assert_eq!(Input::of("  "), Input::Nothing);
        assert_eq!(Input::of("/system  Be brief. "), Input::System(Some("Be brief.".into())));
        assert_eq!(Input::of("/system"), Input::System(None));
        assert_eq!(Input::of("/sytem x"), Input::Unknown("/sytem".into()));
        assert_eq!(Input::of("what is / for?"), Input::Question("what is / for?".into()));
    }
}
