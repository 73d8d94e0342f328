//! Looking inside a model: which tokens a subject is, what its states are, and which of them an answer comes from.
//!
//! [`subject`] finds the tokens of a name in a text, exactly or not at all. [`patching`] reads the residual stream of one
//! run and puts parts of it into another. [`tracing`] does so with a run whose subject was drowned in noise, place by
//! place: a state that brings the answer back is one that the answer comes from. [`lens`](mod@lens) reads what a model would say
//! if it ended where it is, and [`heads`] what single heads add to that, in which directions, and the model without them.
//!
//! The crate stands on the engine and its taps, and knows no area. Areas stand on it.

pub mod heads;
pub mod lens;
pub mod patching;
pub mod subject;
pub mod tracing;

pub use heads::{Head, HeadVectors, attribution, without_heads, without_vectors};
pub use lens::{Held, held, lens, ranks};
pub use patching::{Patch, Swap, patched, probabilities, states, swapped};
pub use subject::subject_tokens;
pub use tracing::{Place, Question, Restored, Trace, Tracing, deviation_of_embeddings};
