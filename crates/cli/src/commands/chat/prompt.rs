//! What the user types, line by line: edited at a terminal, as it comes from a pipe.

use std::cell::Cell;
use std::io::{self, BufRead, IsTerminal, Lines, StdinLock};
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Behavior, CompletionType, Config, Context, Editor, Helper};

use super::signals::Signals;
use super::{history, input};
use crate::console::Console;
use crate::error::Error;

/// Entries that are kept.
const HISTORY: usize = 1000;

/// Where messages come from.
pub(super) enum Prompt {
    Terminal(Box<Terminal>),
    Pipe(Lines<StdinLock<'static>>),
}

/// What came.
pub(super) enum Typed {
    Line(String),
    /// Ctrl-C, and whether there was nothing it could have dropped from the line.
    Dropped {
        nothing: bool,
    },
    End,
}

impl Prompt {
    /// The terminal where standard input is one, with the history of earlier chats unless it is not wanted.
    pub(super) fn open(keep_history: bool, signals: &Signals, console: &Console) -> Result<Self, Error> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(Prompt::Pipe(stdin.lock().lines()));
        }
        Ok(Prompt::Terminal(Box::new(Terminal::open(keep_history, signals, console)?)))
    }

    /// Whether somebody types.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Prompt::Terminal(_))
    }

    /// The next line, after `mark` where somebody types. Pasted lines come as one.
    pub(super) fn read(&mut self, mark: &str) -> Result<Typed, Error> {
        let failed = |e: &dyn std::fmt::Display| Error::plain(format!("cannot read standard input: {e}"));
        match self {
            Prompt::Pipe(lines) => match lines.next() {
                None => Ok(Typed::End),
                Some(line) => Ok(Typed::Line(line.map_err(|e| failed(&e))?)),
            },
            Prompt::Terminal(terminal) => match terminal.read(mark) {
                Ok(line) => Ok(Typed::Line(line)),
                Err(ReadlineError::Interrupted) => Ok(Typed::Dropped { nothing: terminal.is_line_empty() }),
                Err(ReadlineError::Eof) => Ok(Typed::End),
                Err(e) => Err(failed(&e)),
            },
        }
    }

    /// Keeps a message for the arrow keys, in this chat and in later ones.
    pub(super) fn remember(&mut self, entry: &str) {
        if let Prompt::Terminal(terminal) = self {
            terminal.remember(entry);
        }
    }
}

/// A terminal with line editing.
pub(super) struct Terminal {
    editor: Editor<Line, DefaultHistory>,
    /// The file of the history, where one is kept.
    history: Option<PathBuf>,
}

impl Terminal {
    fn open(keep_history: bool, signals: &Signals, console: &Console) -> Result<Self, Error> {
        let failed = |e: ReadlineError| Error::plain(format!("cannot use the terminal: {e}"));
        let config = Config::builder()
            // Standard output may be a file, which a prompt has no place in.
            .behavior(Behavior::PreferTerm)
            .completion_type(CompletionType::List)
            .max_history_size(HISTORY)
            .map_err(failed)?
            .history_ignore_space(true)
            .build();
        let mut editor = Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(Line { empty: Cell::default(), signals: signals.clone() }));
        let mut history = history::file().filter(|_| keep_history);
        if let Some(file) = &history {
            let loaded = history::prepare(file).map_err(ReadlineError::from);
            if let Err(e) = loaded.and_then(|()| editor.load_history(file)) {
                console.warn(&format!("{}: what is typed is not kept: {e}", file.display()));
                history = None;
            }
        }
        Ok(Terminal { editor, history })
    }

    fn read(&mut self, mark: &str) -> rustyline::Result<String> {
        let line = self.editor.readline(mark);
        if let Some(helper) = self.editor.helper() {
            helper.signals.end_typing();
        }
        line
    }

    fn is_line_empty(&self) -> bool {
        self.editor.helper().is_none_or(|line| line.empty.get())
    }

    fn remember(&mut self, entry: &str) {
        // Written at once, because a chat may end with its terminal. What cannot be kept is no reason to end one.
        let _ = self.editor.add_history_entry(entry);
        if let Some(file) = &self.history {
            let _ = self.editor.append_history(file);
        }
    }
}

/// What the editor asks about the line.
struct Line {
    /// Whether nothing is typed.
    empty: Cell<bool>,
    signals: Signals,
}

impl Helper for Line {}

impl Highlighter for Line {}

/// Every line will do. Whoever judges it sees it last, while Ctrl-C is a key still.
impl Validator for Line {
    fn validate(&self, _: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        self.signals.end_typing();
        Ok(ValidationResult::Valid(None))
    }
}

/// There are no hints. But their maker sees every change of the line, which the editor keeps to itself at Ctrl-C, and
/// the empty line first, when Ctrl-C is a key already.
impl Hinter for Line {
    type Hint = String;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.empty.set(line.is_empty());
        self.signals.begin_typing();
        None
    }
}

/// Tab completes commands.
impl Completer for Line {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let beginning = &line[..position];
        let commands = if beginning.starts_with('/') { input::completions(beginning) } else { Vec::new() };
        Ok((0, commands))
    }
}
