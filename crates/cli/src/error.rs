//! Every error of the command, and the one place that shows them.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use amend_run::comparison::ComparisonError;
use amend_run::folder::FolderError;
use amend_run::{FileError, RecipeError, RunError};
use serde_json::{Value, json};

use crate::console::painted;
use crate::{chosen, snippet};

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
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: Option<String>,
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
    /// The user asked to stop; what was done is kept.
    #[error("interrupted; continue with `amend resume {}`", .0.display())]
    Interrupted(PathBuf),
    /// Standard output was closed or is full.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl Error {
    /// An error with what to do about it.
    pub(crate) fn told(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Told { message: message.into(), hint: Some(hint.into()) }
    }

    /// An error that speaks for itself.
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Error::Told { message: message.into(), hint: None }
    }

    /// A file that could not be read.
    pub(crate) fn read(path: &Path, source: &io::Error) -> Self {
        Error::plain(format!("{}: cannot read: {source}", path.display()))
    }

    /// The same error, said to be about `place`.
    pub(crate) fn within(self, place: impl std::fmt::Display) -> Self {
        let Problem { message, hint, .. } = problems(&self).swap_remove(0);
        Error::Told { message: format!("{place}: {message}"), hint }
    }

    /// What the process exits with: 2, and for Ctrl-C what shells expect of it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Error::Interrupted(_) | Error::Stopped => chosen::INTERRUPTED,
            _ => 2,
        }
    }
}

impl From<RecipeError> for Error {
    fn from(error: RecipeError) -> Self {
        Error::Recipe(Box::new(error))
    }
}

/// One thing to tell the user.
struct Problem {
    message: String,
    hint: Option<String>,
    span: Option<Range<usize>>,
}

/// Shows an error on standard error, as text or as one line of JSON.
pub(crate) fn report(error: &Error, as_json: bool) {
    let text = if as_json { format!("{}\n", to_json(error)) } else { to_text(error) };
    // Where standard error is gone, the exit code still tells.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Shows clap's text about a wrong command line as one line of JSON.
pub(crate) fn report_usage_as_json(text: &str) {
    let (error, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let error = error.trim().trim_start_matches("error: ");
    let value = json!({ "error": error, "hint": rest.trim() });
    let _ = writeln!(io::stderr().lock(), "{value}");
}

fn problems(error: &Error) -> Vec<Problem> {
    let one = |message: String, hint| vec![Problem { message, hint, span: None }];
    match error {
        Error::Told { message, hint } => one(message.clone(), hint.clone()),
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
    let first = (&recipe.span, &recipe.message, &recipe.hint);
    let more = recipe.more.iter().map(|problem| (&problem.span, &problem.message, &problem.hint));
    let problem = |(span, message, hint): (&Option<Range<usize>>, &String, &Option<String>)| Problem {
        message: message.clone(),
        hint: hint.clone(),
        span: span.clone(),
    };
    std::iter::once(first).chain(more).map(problem).collect()
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
    let place = |span: &Option<Range<usize>>| match (error, span) {
        (Error::Recipe(recipe), Some(span)) => {
            let (line, column) = recipe.line_column(span.start);
            json!({ "file": recipe.path, "line": line, "column": column })
        }
        (Error::Recipe(recipe), None) => json!({ "file": recipe.path }),
        _ => json!({}),
    };
    let object = |problem: &Problem| {
        let mut value = json!({ "error": problem.message, "hint": problem.hint });
        if let (Value::Object(value), Value::Object(place)) = (&mut value, place(&problem.span)) {
            value.extend(place);
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
        assert_eq!(
            value,
            json!({ "error": "m/config.json: there is no such folder", "hint": "give a folder" })
        );
        assert_eq!(to_json(&Error::plain("no"))["hint"], Value::Null);
        let placed = Error::told("a", "b").within("line 3");
        assert_eq!(to_json(&placed), json!({ "error": "line 3: a", "hint": "b" }));
    }
    #[test]
    fn recipes_are_drawn_with_line_and_caret() {
        let text = "seed = 0\nstpes = 3\n";
        let error = RecipeError {
            path: Path::new("r.toml").into(),
            source_text: text.into(),
            span: Some(9..14),
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
    }
}
