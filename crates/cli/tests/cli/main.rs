//! The binary as a user calls it.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails or is skipped says so")]

mod bad_input;
mod bad_models;
mod benching;
mod constraining;
mod converting;
mod embedding;
mod generating;
mod listing;
mod miniature;
mod parity;
mod runs;
mod same_bytes;
mod scoring;
mod support;
