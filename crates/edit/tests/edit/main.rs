//! The pipeline of edits, from outside.
#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

mod interrupted;
mod refused;
mod registry;
mod support;
