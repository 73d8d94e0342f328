//! Looking inside a model: which tokens a subject is, what its states are, and which of them an answer comes from.
//!
//! [`subject`] finds the tokens of a name in a text, exactly or not at all. [`patching`] reads the residual stream of one
//! run and puts parts of it into another. [`tracing`] does so with a run whose subject was drowned in noise, place by
//! place: a state that brings the answer back is one that the answer comes from.
//!
//! The crate stands on the engine and its taps, and knows no area. Areas stand on it.

pub mod patching;
pub mod subject;
pub mod tracing;

pub use patching::{Patch, patched, states};
pub use subject::subject_tokens;
pub use tracing::{Place, Question, Restored, Trace, Tracing, deviation_of_embeddings};
