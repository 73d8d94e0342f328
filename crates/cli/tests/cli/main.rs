//! The binary as a user calls it.
#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

mod auditing;
mod bad_input;
mod bad_models;
mod benching;
mod certifying;
mod chatting;
mod checking;
mod comparing;
mod completing;
mod constraining;
mod converting;
#[path = "../../../../tests/data.rs"]
mod data;
mod documented;
mod embedding;
mod evaluating;
mod events;
mod generating;
mod listing;
mod messages;
mod miniature;
mod naming;
mod newcomers;
mod parity;
mod runs;
mod same_bytes;
mod scoring;
mod support;
mod sweeping;
