//! `amend chat`: a conversation in the terminal.

mod conversation;
mod draft;
mod history;
mod input;
mod prompt;
mod signals;

use std::io::IsTerminal;
use std::path::Path;

use amend_engine::tokenizer::Tokenizer;
use amend_run::RecipePath;
use clap::Args;

use crate::app::Exit;
use crate::constraint::ConstraintArgs;
use crate::context::Context;
use crate::error::{self, Error};
use crate::open::{ModelArgs, Opened};
use crate::sampling::SamplingArgs;
use conversation::Conversation;
use draft::{Draft, Message};
use input::Input;
use prompt::{Prompt, Typed};
use signals::Signals;

/// What stands under the help page.
fn examples() -> String {
    format!(
        "While chatting:\n{}\n\
         Questions can also be piped in, one per line:\n\
         \x20 printf 'Who wrote Faust?\\nWhen?\\n' | amend chat models/my-model --json\n\n\
         With --json each answer is a line: \"role\", \"content\", \"ids\" and \"finish\" (stop,\n\
         length, context, or cancelled by Ctrl-C).\n\n\
         What is typed can be edited, and comes back with the arrow keys in later chats\n\
         too. It is kept in $XDG_STATE_HOME/amend/chat-history (otherwise under\n\
         ~/.local/state), for you alone to read, but for lines that begin with a space.\n\n\
         With --json-schema, --json-object, --regex or --choice every answer matches,\n\
         unless Ctrl-C stops it.\n\n\
         The model needs a chat template. For one without, use `amend generate`.",
        input::help()
    )
}

/// Chat with a model
#[derive(Debug, Args)]
#[command(after_help = examples())]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// System message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Tokens per answer at most
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = crate::args::parse_count)]
    max_new_tokens: usize,
    /// Neither read nor write the file of what was typed in earlier chats
    #[arg(long)]
    no_history: bool,
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
    let signals = Signals::listen(std::io::stdin().is_terminal())?;
    let mut prompt = Prompt::open(!args.no_history, &signals, &context.console)?;
    if prompt.is_terminal() {
        context.console.note("/help lists the commands, Ctrl-D leaves");
    }
    let conversation = Conversation::new(args.system.clone(), constraint);
    let mut chat = Chat { args: &args, opened: &opened, tokenizer, signals, conversation };
    while let Some(message) = next(&mut prompt, context)? {
        match chat.take(&message, context) {
            Ok(Next::GoOn) => {}
            Ok(Next::Leave) => break,
            // A person asks something else. Who pipes questions in would miss an answer.
            Err(Failure::Input(e)) if prompt.is_terminal() => error::report(&e, context.json),
            Err(Failure::Input(e) | Failure::Answer(e)) => return Err(e),
        }
    }
    Ok(Exit::Done)
}

/// The next message, until there are no more.
fn next(prompt: &mut Prompt, context: &Context) -> Result<Option<Message>, Error> {
    let (mut draft, mut warned) = (Draft::default(), false);
    loop {
        let mark = match (context.console.quiet(), draft.is_begun()) {
            (true, _) => "",
            (false, false) => "> ",
            (false, true) => ". ",
        };
        let typed = match prompt.read(mark)? {
            Typed::End => return Ok(None),
            Typed::Dropped { nothing } if nothing && !draft.is_begun() => {
                if warned {
                    return Ok(None);
                }
                // It may have been meant for an answer that has just ended, and what was said would be gone.
                context.console.note("Ctrl-C again, or Ctrl-D, leaves");
                warned = true;
                continue;
            }
            Typed::Dropped { .. } => {
                warned = false;
                draft = Draft::default();
                continue;
            }
            Typed::Line(typed) => typed,
        };
        // A line from a pipe is a message whatever it ends in.
        let message = match prompt.is_terminal() {
            true => draft.add(&typed),
            false => Some(Message { text: typed, quoted: false, private: false }),
        };
        if let Some(message) = message {
            prompt.remember(&message.entry());
            return Ok(Some(message));
        }
    }
}

/// What a message leads to.
enum Next {
    GoOn,
    Leave,
}

/// Why a message could not be followed.
enum Failure {
    /// It asks for what cannot be done.
    Input(Error),
    /// The model could not answer, or nobody could be told.
    Answer(Error),
}

/// A chat in progress.
struct Chat<'a> {
    args: &'a ChatArgs,
    opened: &'a Opened,
    tokenizer: &'a Tokenizer,
    signals: Signals,
    conversation: Conversation,
}

impl Chat<'_> {
    fn take(&mut self, message: &Message, context: &mut Context) -> Result<Next, Failure> {
        match Input::of(message) {
            Input::Nothing => {}
            Input::Quit => return Ok(Next::Leave),
            Input::Help => context.console.note(input::help().trim_end()),
            Input::Reset => self.conversation.reset(),
            Input::Undo => match self.conversation.take_back() {
                Some(question) => context.console.note(&format!("taken back: {}", beginning(&question))),
                None => context.console.note(NOTHING_ASKED),
            },
            Input::Retry => match self.conversation.take_back() {
                Some(question) => {
                    if self.args.sampling.is_greedy() {
                        context.console.note("at temperature 0 the answer is the same again");
                    }
                    self.answer(&question, context)?;
                }
                None => context.console.note(NOTHING_ASKED),
            },
            Input::System(text) => {
                self.conversation.system = text;
                self.conversation.reset();
            }
            Input::Save(file) => self.save(file, context).map_err(Failure::Input)?,
            Input::Unknown { command, nearest } => {
                let nearest = nearest.map_or(String::new(), |near| format!("; did you mean {near}?"));
                context.console.warn(&format!("there is no {command}{nearest} (/help lists the commands)"));
            }
            Input::Question(text) => self.answer(&text, context)?,
        }
        Ok(Next::GoOn)
    }

    fn answer(&mut self, question: &str, context: &mut Context) -> Result<(), Failure> {
        let Chat { args, opened, tokenizer, signals, conversation } = self;
        let prompt = conversation
            .ask(question, opened, tokenizer, args.max_new_tokens, &context.console)
            .map_err(Failure::Input)?;
        conversation.answer(prompt, opened, args, signals, context).map_err(Failure::Answer)
    }

    fn save(&self, file: Option<String>, context: &Context) -> Result<(), Error> {
        let file = file.ok_or_else(|| Error::told("/save needs a file", "write /save chat.jsonl"))?;
        // There is no shell that would know what ~ is.
        let path = RecipePath::from(file.as_str()).resolve(Path::new(""));
        self.conversation.save(&path)?;
        context.console.note(&format!("saved to {}", path.display()));
        Ok(())
    }
}

const NOTHING_ASKED: &str = "nothing has been asked yet";

/// How a question begins, on one line.
fn beginning(question: &str) -> String {
    const SHOWN: usize = 60;
    let line = question.lines().next().unwrap_or_default();
    let shown: String = line.chars().take(SHOWN).collect();
    if shown == question { shown } else { format!("{shown}…") }
}
