//! The whole pipeline on a world of few people.
#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

mod claims;
mod guided;
mod interrupted;
mod measuring;
mod ranges;
mod registry;
mod support;
mod wording;
