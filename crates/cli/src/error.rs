//! Every error of the command, and the one place that shows them.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use amend_run::comparison::ComparisonError;
use amend_run::folder::FolderError;
use amend_run::recipe::Fault;
use amend_run::records::RecordsError;
use amend_run::{FileError, RecipeError, RunError};
use serde_json::{Value, json};

use crate::console::painted;
use crate::{chosen, events, snippet};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The engine's.
    #[error(transparent)]
    Engine(#[from] amend_engine::Error),
    /// A recipe's, with its place in the file.
    #[error(transparent)]
    Recipe(Box<RecipeError>),
    /// A run folder's.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// That of runs which cannot be put side by side.
    #[error(transparent)]
    Comparison(#[from] ComparisonError),
    /// A file's.
    #[error(transparent)]
    File(#[from] FileError),
    /// The command's own, said in one sentence.
    #[error("{message}")]
    Told {
        /// What programs know it by.
        code: &'static str,
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A file that could not be read or written, or a folder that could not be made.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done: "cannot read".
        action: &'static str,
        /// The system's own reason.
        source: io::Error,
    },
    /// A run's: its metrics, its stages.
    #[error(transparent)]
    Run(RunError),
    /// Anything else that ends training or measuring.
    #[error(transparent)]
    Learn(Box<amend_learn::Error>),
    /// The work was stopped because the user asked for it.
    #[error("stopped")]
    Stopped,
    /// The user asked to stop; what was done is kept, and this command goes on with it.
    #[error("interrupted; continue with `{0}`")]
    Interrupted(String),
    /// Standard output was closed or is full.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// What an error of the command's own is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// A command line that is not understood.
    Usage,
    /// What was asked for: an option, an input.
    Argument,
    /// A place to write to that is taken.
    Output,
    /// A name of a method, an area, a command, that there is not.
    Name,
    /// What an unfinished run reads, which is no longer what it was.
    Changed,
    /// Numbers that a model computes.
    Numbers,
    /// A file that a model lacks.
    Missing,
    /// Points of a sweep that ended with an error.
    Point,
    /// The machine.
    System,
    /// This program.
    Bug,
}

impl Topic {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Topic::Usage => "usage",
            Topic::Argument => "invalid-argument",
            Topic::Output => "output-exists",
            Topic::Name => "unknown-name",
            Topic::Changed => "run-inputs-changed",
            Topic::Numbers => "not-finite",
            Topic::Missing => "model-missing-file",
            Topic::Point => "sweep-points-failed",
            Topic::System => "system",
            Topic::Bug => "bug",
        }
    }
}

impl Error {
    /// An error with what to do about it.
    pub(crate) fn told(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Told { code: Topic::Argument.code(), message: message.into(), hint: Some(hint.into()) }
    }

    /// An error that speaks for itself.
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Error::Told { code: Topic::Argument.code(), message: message.into(), hint: None }
    }

    /// The same error, filed under `topic`, where it is the command's own.
    pub(crate) fn about(mut self, topic: Topic) -> Self {
        if let Error::Told { code, .. } = &mut self {
            *code = topic.code();
        }
        self
    }

    /// An error of the file system while `action` ("cannot write") was done to `path`.
    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        Error::Io { path: path.to_path_buf(), action, source }
    }

    /// A file that could not be read.
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Error::io(path, "cannot read", source)
    }

    /// The same error, said to be about `place`.
    pub(crate) fn within(self, place: impl std::fmt::Display) -> Self {
        let Problem { code, message, hint, .. } = problems(&self).swap_remove(0);
        Error::Told { code, message: format!("{place}: {message}"), hint }
    }

    /// What programs know the error by. docs/guide.md lists what there is; a code stays when its message changes.
    pub(crate) fn code(&self) -> &'static str {
        let code = match self {
            Error::Engine(e) => e.code(),
            Error::Recipe(e) => e.code(),
            Error::Folder(e) => e.code(),
            Error::Comparison(e) => e.code(),
            Error::File(e) => e.code(),
            Error::Told { code, .. } => code,
            Error::Io { .. } => "file-system",
            Error::Run(e) => e.code(),
            Error::Learn(e) => e.code(),
            Error::Stopped | Error::Interrupted(_) => "interrupted",
            Error::Output(_) => "stdout",
        };
        // Of what the file system says, the kind is what a program can do something about.
        let first: Option<&dyn std::error::Error> = Some(self);
        let mut causes = std::iter::successors(first, |error| error.source());
        match causes.find_map(|error| error.downcast_ref::<io::Error>()) {
            Some(cause) if code == "file-system" => self::code(cause.kind()),
            _ => code,
        }
    }

    /// What the process exits with: 2, and for Ctrl-C what shells expect of it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Error::Interrupted(_) | Error::Stopped => chosen::INTERRUPTED,
            _ => 2,
        }
    }
}

/// Why the file system refused something.
fn code(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "file-not-found",
        io::ErrorKind::PermissionDenied => "file-permission",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk-full",
        _ => "file-system",
    }
}

impl From<RecipeError> for Error {
    fn from(error: RecipeError) -> Self {
        Error::Recipe(Box::new(error))
    }
}

/// One thing to tell the user.
struct Problem {
    code: &'static str,
    message: String,
    hint: Option<String>,
    place: Place,
    /// What to draw of the recipe.
    span: Option<Range<usize>>,
}

/// Where a problem is, as far as is known: a file, a line and a column in it, both counted from 1.
#[derive(Clone, Default)]
struct Place {
    file: Option<PathBuf>,
    line: Option<usize>,
    column: Option<usize>,
}

/// Shows an error on standard error, as text or as one line of JSON.
pub(crate) fn report(error: &Error, as_json: bool) {
    let text = if as_json { events::line("error", to_json(error)) } else { to_text(error) };
    // Where standard error is gone, the exit code still tells.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Shows clap's text about a wrong command line as one line of JSON.
pub(crate) fn report_usage_as_json(text: &str) {
    let (error, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let error = error.trim().trim_start_matches("error: ");
    report(&Error::told(error, rest.trim()).about(Topic::Usage), true);
}

fn problems(error: &Error) -> Vec<Problem> {
    let code = error.code();
    let one = |message: String, hint| vec![Problem { code, message, hint, place: place(error), span: None }];
    if let Some(records) = records(error) {
        return one(records.sentence(), records.hint.clone());
    }
    match error {
        Error::Told { message, hint, .. } => one(message.clone(), hint.clone()),
        Error::Output(_) => one(error.to_string(), None),
        Error::Recipe(recipe) => recipe_problems(recipe),
        // The libraries put what to do behind the last semicolon of their sentence.
        other => match other.to_string().rsplit_once("; ") {
            Some((message, hint)) => one(message.to_owned(), Some(hint.to_owned())),
            None => one(other.to_string(), None),
        },
    }
}

fn recipe_problems(recipe: &RecipeError) -> Vec<Problem> {
    let first = (&recipe.span, recipe.fault, &*recipe.message, &recipe.hint);
    let more =
        recipe.more.iter().map(|problem| (&problem.span, problem.fault, &*problem.message, &problem.hint));
    let problem = |(span, fault, message, hint): (&Option<Range<usize>>, Fault, &str, &Option<String>)| {
        let (line, column) = span.as_ref().map(|span| recipe.line_column(span.start)).unzip();
        Problem {
            code: fault.code(),
            message: message.to_owned(),
            hint: hint.clone(),
            place: Place { file: Some(recipe.path.to_path_buf()), line, column },
            span: span.clone(),
        }
    };
    std::iter::once(first).chain(more).map(problem).collect()
}

/// What is wrong with a data set, where that is the error.
fn records(error: &Error) -> Option<&RecordsError> {
    match error {
        Error::Learn(e) => match e.as_ref() {
            amend_learn::Error::Records(e) => Some(e),
            _ => None,
        },
        _ => None,
    }
}

/// Where the problem is of an error that has one.
fn place(error: &Error) -> Place {
    let in_file = |path: &Path| Place { file: Some(path.to_path_buf()), ..Place::default() };
    match error {
        Error::Engine(e) => e.path().map(in_file).unwrap_or_default(),
        Error::File(e) => in_file(&e.path),
        Error::Io { path, .. } => in_file(path),
        _ => records(error).map_or_else(Place::default, |e| Place {
            line: e.line,
            column: e.column,
            ..in_file(&e.path)
        }),
    }
}

fn to_text(error: &Error) -> String {
    let mut text = String::new();
    for problem in problems(error) {
        let place = match (error, &problem.span) {
            (Error::Recipe(recipe), None) => format!("{}: ", recipe.path.display()),
            _ => String::new(),
        };
        let _ = writeln!(text, "{} {place}{}", painted("1;31", "error:"), problem.message);
        if let (Error::Recipe(recipe), Some(span)) = (error, &problem.span) {
            text.push_str(&snippet::draw(recipe, span));
        }
        if let Some(hint) = &problem.hint {
            let _ = writeln!(text, "{} {hint}", painted("1;36", "hint:"));
        }
    }
    text
}

fn to_json(error: &Error) -> Value {
    let object = |problem: &Problem| {
        let mut value = json!({ "code": problem.code, "error": problem.message, "hint": problem.hint });
        let Place { file, line, column } = &problem.place;
        for (name, known) in [("file", json!(file)), ("line", json!(line)), ("column", json!(column))] {
            if !known.is_null() {
                value[name] = known;
            }
        }
        value
    };
    let all = problems(error);
    let mut value = object(&all[0]);
    if all.len() > 1 {
        value["more"] = all[1..].iter().map(object).collect();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_becomes_the_hint() {
        let engine = amend_engine::Error::format("m/config.json", "there is no such folder; give a folder");
        let value = to_json(&engine.into());
        let message = "m/config.json: there is no such folder";
        let expected = json!({
            "code": "file-malformed", "error": message, "hint": "give a folder", "file": "m/config.json",
        });
        assert_eq!(value, expected);
        assert_eq!(to_json(&Error::plain("no"))["hint"], Value::Null);
        let placed = Error::told("a", "b").within("line 3");
        assert_eq!(
            to_json(&placed),
            json!({ "code": "invalid-argument", "error": "line 3: a", "hint": "b" })
        );
    }

    /// What to do about a full disk is another thing than what to do about a missing file.
    #[test]
    fn the_system_says_what_kind_of_trouble_it_is() {
        let failed = |kind: io::ErrorKind| io::Error::from(kind);
        let engine = amend_engine::Error::io("a", "cannot read", failed(io::ErrorKind::NotFound));
        let learn = amend_learn::Error::Engine(amend_engine::Error::io(
            "a",
            "cannot write",
            failed(io::ErrorKind::StorageFull),
        ));
        assert_eq!(Error::from(engine).code(), "file-not-found");
        assert_eq!(Error::Learn(Box::new(learn)).code(), "disk-full");
        assert_eq!(
            Error::read(Path::new("a"), failed(io::ErrorKind::PermissionDenied)).code(),
            "file-permission"
        );
        assert_eq!(Error::read(Path::new("a"), failed(io::ErrorKind::TimedOut)).code(), "file-system");
        let full = amend_engine::Error::io("a", "cannot write", failed(io::ErrorKind::StorageFull));
        assert_eq!(Error::from(full).within("line 3").code(), "disk-full");
    }

    #[test]
    fn recipes_are_drawn_with_line_and_caret() {
        let text = "seed = 0\nstpes = 3\n";
        let error = RecipeError {
            path: Path::new("r.toml").into(),
            source_text: text.into(),
            span: Some(9..14),
            fault: Fault::UnknownKey,
            message: "unknown key `stpes`".into(),
            hint: Some("did you mean `steps`?".into()),
            more: Box::new([]),
        };
        let shown = to_text(&error.clone().into());
        assert!(shown.starts_with("error: unknown key `stpes`\n"), "{shown}");
        assert!(shown.contains("r.toml:2:1") && shown.contains("stpes = 3"), "{shown}");
        assert!(shown.ends_with("hint: did you mean `steps`?\n"), "{shown}");
        let value = to_json(&error.into());
        assert_eq!((&value["line"], &value["column"]), (&json!(2), &json!(1)));
        assert_eq!((&value["code"], &value["file"]), (&json!("recipe-unknown-key"), &json!("r.toml")));
    }
}
