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
    /// Options or data that do not fit together.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// Options or data that do not fit together, said in one sentence.
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
