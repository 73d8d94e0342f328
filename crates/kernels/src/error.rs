//! What can go wrong with tensors: always a shape, a size or a type, said with both sides.

/// Result of a fallible operation on tensors.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operand that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two things that must have the same shape do not.
    #[error("{what}: expected shape {expected:?}, got {got:?}")]
    Shape {
        /// The tensor or operation concerned.
        what: String,
        /// Shape required.
        expected: Vec<usize>,
        /// Shape found.
        got: Vec<usize>,
    },
    /// A size, type or value that has no meaning here.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// A shape mismatch of the named tensor or operation.
    pub fn shape(what: impl Into<String>, expected: &[usize], got: &[usize]) -> Self {
        Error::Shape { what: what.into(), expected: expected.to_vec(), got: got.to_vec() }
    }

    /// What programs know the error by; it does not change with the message.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Shape { .. } => "shape-mismatch",
            Error::Invalid(_) => "invalid-argument",
        }
    }

    /// A size, type or value that has no meaning here, said in one sentence.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::Invalid(message.into())
    }
}
