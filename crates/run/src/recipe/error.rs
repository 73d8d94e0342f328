//! What is wrong with a recipe, and where.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use super::RecipeSource;
use super::places::{set_of, span_of};
use super::tree::Origin;

/// What kind of thing is wrong with a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file cannot be read.
    Unreadable,
    /// It is no TOML, or no text; `--set` is no key with a value.
    Syntax,
    /// A key that there is not.
    UnknownKey,
    /// A key that has to be there.
    MissingKey,
    /// A value of another type.
    WrongType,
    /// A value that is none of those there are.
    UnknownValue,
    /// A number that is too small or too large.
    OutOfRange,
    /// A file or folder that it names and that is not there.
    MissingFile,
    /// Options that do not fit together, or not to the model or the data.
    Conflict,
    /// Anything else.
    Invalid,
}

impl Fault {
    /// What programs know it by; it does not change with the message.
    pub fn code(self) -> &'static str {
        match self {
            Fault::Unreadable => "recipe-unreadable",
            Fault::Syntax => "recipe-syntax",
            Fault::UnknownKey => "recipe-unknown-key",
            Fault::MissingKey => "recipe-missing-key",
            Fault::WrongType => "recipe-wrong-type",
            Fault::UnknownValue => "recipe-unknown-value",
            Fault::OutOfRange => "recipe-out-of-range",
            Fault::MissingFile => "recipe-missing-file",
            Fault::Conflict => "recipe-conflict",
            Fault::Invalid => "recipe-invalid",
        }
    }
}

/// Why a recipe was refused. The fields are the first problem; [`RecipeError::more`] holds the others.
#[derive(Clone, Debug)]
pub struct RecipeError {
    /// The recipe's file.
    pub path: Box<Path>,
    /// The whole text, so that the offending line can be shown.
    pub source_text: Box<str>,
    /// The bytes of `source_text` to point at; `None` where the problem has no place in the file.
    pub span: Option<Range<usize>>,
    /// The kind of what is wrong.
    pub fault: Fault,
    /// What is wrong, in one sentence.
    pub message: Box<str>,
    /// What to write instead.
    pub hint: Option<String>,
    /// Further problems of the same recipe, in the order of the file.
    pub more: Box<[Problem]>,
}

/// One thing that is wrong with a recipe.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The bytes of the recipe to point at.
    pub span: Option<Range<usize>>,
    /// The kind of what is wrong.
    pub fault: Fault,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(fault: Fault, span: Option<Range<usize>>, message: String) -> Self {
        Self { span, fault, message, hint: None }
    }

    pub(crate) fn hint(mut self, hint: String) -> Self {
        self.hint = Some(hint);
        self
    }
}

/// A problem found in the tree, before it is known how its origin is called.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) at: Origin,
    pub(crate) fault: Fault,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Finding {
    pub(crate) fn new(fault: Fault, at: &Origin, message: String, hint: Option<String>) -> Self {
        Self { at: at.clone(), fault, message, hint }
    }

    /// A value given by `--set` has no place in the file; its problem quotes the flag instead.
    pub(crate) fn into_problem(self, sets: &[String]) -> Problem {
        let (span, message) = match self.at {
            Origin::File(span) => (Some(span), self.message),
            Origin::Set(index) => (None, format!("--set {}: {}", sets[index], self.message)),
            Origin::Nowhere => (None, self.message),
        };
        Problem { span, fault: self.fault, message, hint: self.hint }
    }
}

impl RecipeError {
    /// What is wrong with what a recipe, changed by these `--set`, says under a dotted key, found out after it was read.
    pub fn at(
        source: &RecipeSource,
        sets: &[String],
        key: &str,
        problem: (Fault, String, Option<&str>),
    ) -> Self {
        let (fault, message, hint) = problem;
        let set = set_of(sets, key);
        let message = set.map_or_else(|| message.clone(), |set| format!("--set {set}: {message}"));
        let span = if set.is_some() { None } else { span_of(&source.text, key) };
        let problem = Problem { span, fault, message, hint: hint.map(Into::into) };
        Self::new(&source.path, &source.text, vec![problem])
    }

    /// `problems` holds at least one; they are put in the order of the file.
    pub(crate) fn new(path: &Path, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span.as_ref().map_or(usize::MAX, |span| span.start));
        let mut problems = problems.into_iter();
        let first = problems
            .next()
            .unwrap_or_else(|| Problem::new(Fault::Invalid, None, "the recipe could not be read".into()));
        Self {
            path: path.into(),
            source_text: text.into(),
            span: first.span,
            fault: first.fault,
            message: first.message.into(),
            hint: first.hint,
            more: problems.collect(),
        }
    }

    /// What programs know the first problem by; it does not change with the message.
    pub fn code(&self) -> &'static str {
        self.fault.code()
    }

    /// Line and column of a byte of the recipe, both counted from 1, columns in characters.
    pub fn line_column(&self, byte: usize) -> (usize, usize) {
        let mut end = byte.min(self.source_text.len());
        while !self.source_text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.source_text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// Where the first problem is: `recipe.toml:3:8`, or the recipe alone where it has no place in the file.
    pub fn place(&self) -> String {
        match &self.span {
            Some(span) => {
                let (line, column) = self.line_column(span.start);
                format!("{}:{line}:{column}", self.path.display())
            }
            None => self.path.display().to_string(),
        }
    }

    fn write_one(
        &self,
        f: &mut fmt::Formatter<'_>,
        span: &Option<Range<usize>>,
        message: &str,
        hint: &Option<String>,
    ) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(span) = span {
            let (line, column) = self.line_column(span.start);
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {message}")?;
        match hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_one(f, &self.span, &self.message, &self.hint)?;
        for problem in &self.more {
            writeln!(f)?;
            self.write_one(f, &problem.span, &problem.message, &problem.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for RecipeError {}
