//! What can go wrong in a run that trains or measures.

use amend_run::folder::FolderError;
use amend_run::records::RecordsError;
use amend_run::step_log::StepLogError;
use amend_run::{FileError, RecipeError, RunError};

/// An error of a run that trains.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine's.
    #[error(transparent)]
    Engine(amend_engine::Error),
    /// A training step's, with where and on what it happened.
    #[error("{stage}, step {step}: {source}{kept}")]
    Step {
        /// The stage.
        stage: String,
        /// The step, counted from 1.
        step: u64,
        /// What is left: the last good checkpoint and the batch concerned.
        kept: String,
        /// What went wrong.
        source: Box<amend_engine::Error>,
    },
    /// The run's: its folder, its files, its stages, or the user's wish to stop.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The data's.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The recipe's.
    #[error(transparent)]
    Recipe(#[from] Box<RecipeError>),
    /// Options of a recipe that do not fit together, or not to the model or the data.
    #[error("{message}")]
    Conflict {
        /// The dotted key of the recipe that says the one of them, where there is one.
        key: Option<String>,
        /// What does not fit, in one sentence.
        message: String,
    },
    /// What an evaluation kept, or a log of one, is not what it should be.
    #[error("{0}")]
    Samples(String),
    /// Data that cannot be used.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// What programs know the error by; it does not change with the message.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Engine(e) => e.code(),
            Error::Step { source, .. } => source.code(),
            Error::Run(e) => e.code(),
            Error::Records(e) => e.code(),
            Error::Recipe(e) => e.code(),
            Error::Conflict { .. } => "recipe-conflict",
            Error::Samples(_) => "samples-invalid",
            Error::Invalid(_) => "data-invalid",
        }
    }

    /// Options that do not fit together, or not to the model or the data, said in one sentence.
    pub fn conflict(message: impl Into<String>) -> Self {
        Error::Conflict { key: None, message: message.into() }
    }

    /// The same, where what a recipe says under a dotted key does not fit: the error then points at its line.
    pub fn conflict_at(key: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Conflict { key: Some(key.into()), message: message.into() }
    }

    /// An argument that the engine has refused, where the recipe says it under a dotted key. Other errors stay.
    pub fn refused_at(key: &str, error: amend_engine::Error) -> Self {
        match error {
            amend_engine::Error::Invalid(message) => Self::conflict_at(key, message),
            other => other.into(),
        }
    }

    /// What an evaluation kept, or a log of one, that is not what it should be, said in one sentence.
    pub fn samples(message: impl Into<String>) -> Self {
        Error::Samples(message.into())
    }

    /// Data that cannot be used, said in one sentence.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::Invalid(message.into())
    }
}

impl From<amend_engine::Error> for Error {
    fn from(error: amend_engine::Error) -> Self {
        match error {
            amend_engine::Error::Interrupted => Error::Run(RunError::Interrupted),
            error => Error::Engine(error),
        }
    }
}

impl From<FolderError> for Error {
    fn from(error: FolderError) -> Self {
        Error::Run(error.into())
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Error::Run(error.into())
    }
}

impl From<StepLogError> for Error {
    fn from(error: StepLogError) -> Self {
        Error::Run(error.into())
    }
}

impl From<RecipeError> for Error {
    fn from(error: RecipeError) -> Self {
        Error::Recipe(Box::new(error))
    }
}
