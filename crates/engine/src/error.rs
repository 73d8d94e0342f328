//! What can go wrong in the engine, always with names, shapes and what to do.

use std::path::{Path, PathBuf};

/// Result of every fallible engine call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An engine error. The message names the file, tensor or option concerned and what was expected of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What was being done ("cannot read", "cannot write").
        action: &'static str,
        /// The system's own reason.
        source: std::io::Error,
    },
    /// A file was read but does not hold what its format promises.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        message: String,
    },
    /// A file or folder of a model is not there.
    #[error("{}: {message}", path.display())]
    MissingFile {
        /// Where it was looked for.
        path: PathBuf,
        /// What is not there, and what to do.
        message: String,
    },
    /// A model's files lack a tensor.
    #[error("{}: {message}", path.display())]
    MissingTensor {
        /// The folder or file concerned.
        path: PathBuf,
        /// Which tensor, and what it is needed for.
        message: String,
    },
    /// A configuration says something that has no meaning, or too little.
    #[error("{place}: {message}")]
    Config {
        /// The file, and the object within it.
        place: String,
        /// Which key, what is wrong with it, and what to do.
        message: String,
    },
    /// A model is made in a way that is not computed here.
    #[error("{place}: {message}")]
    Unsupported {
        /// The file that says so.
        place: String,
        /// What is not supported, and what is.
        message: String,
    },
    /// Tensors do not fit together.
    #[error(transparent)]
    Tensor(#[from] amend_kernels::Error),
    /// A number that must be finite is not.
    #[error("{what}: {value} where a finite number is needed{hint}")]
    NotFinite {
        /// What holds the number: a tensor, a loss.
        what: String,
        /// The number.
        value: f64,
        /// What to do about it, starting with "; ", or empty.
        hint: String,
    },
    /// Somebody asked to stop, by [`Params::interrupt_by`](crate::params::Params::interrupt_by).
    #[error("stopped on request")]
    Interrupted,
    /// A combination of options that has no meaning, or an input that does not fit the model.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// An I/O error while `action` ("cannot read", "cannot write") was done to `path`.
    pub fn io(path: impl AsRef<Path>, action: &'static str, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_owned(), action, source }
    }

    /// A file whose content is not what its format promises.
    pub fn format(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Error::Format { path: path.as_ref().to_owned(), message: message.into() }
    }

    /// A file or folder of a model that is not there.
    pub fn missing_file(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Error::MissingFile { path: path.as_ref().to_owned(), message: message.into() }
    }

    /// A tensor that the model in `path` lacks.
    pub fn missing_tensor(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Error::MissingTensor { path: path.as_ref().to_owned(), message: message.into() }
    }

    /// The file or folder that the error is about, where it is about one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Error::Io { path, .. }
            | Error::Format { path, .. }
            | Error::MissingFile { path, .. }
            | Error::MissingTensor { path, .. } => Some(path),
            _ => None,
        }
    }

    /// What programs know the error by; it does not change with the message.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Io { .. } => "file-system",
            Error::Format { .. } => "file-malformed",
            Error::MissingFile { .. } => "model-missing-file",
            Error::MissingTensor { .. } => "model-missing-tensor",
            Error::Config { .. } => "model-config",
            Error::Unsupported { .. } => "model-unsupported",
            Error::Tensor(e) => e.code(),
            Error::NotFinite { .. } => "not-finite",
            Error::Interrupted => "interrupted",
            Error::Invalid(_) => "invalid-argument",
        }
    }

    /// A shape mismatch of the named tensor or operation.
    pub fn shape(what: impl Into<String>, expected: &[usize], got: &[usize]) -> Self {
        Error::Tensor(amend_kernels::Error::shape(what, expected, got))
    }

    /// An input or option that cannot be used, said in one sentence.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::Invalid(message.into())
    }
}
