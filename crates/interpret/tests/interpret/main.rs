//! What the crate promises, on small models of random weights.
#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

mod heads;
mod support;
mod swapping;
mod tracing;
