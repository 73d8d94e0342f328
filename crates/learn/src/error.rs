//! What can go wrong in a run that trains.

use amend_run::folder::FolderError;
use amend_run::metrics::MetricsError;
use amend_run::records::RecordsError;
use amend_run::{FileError, RecipeError};

/// An error of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine's.
    #[error(transparent)]
    Engine(#[from] amend_engine::Error),
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
    /// The run folder's.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file's.
    #[error(transparent)]
    File(#[from] FileError),
    /// The metrics file's.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The data's.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The recipe's.
    #[error(transparent)]
    Recipe(#[from] Box<RecipeError>),
    /// Options or data that do not fit together.
    #[error("{0}")]
    Invalid(String),
    /// The user asked to stop; everything done so far is kept.
    #[error("interrupted; everything done so far is kept")]
    Interrupted,
}

impl Error {
    /// Options or data that do not fit together, said in one sentence.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::Invalid(message.into())
    }
}
