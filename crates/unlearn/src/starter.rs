//! The recipes the program carries with it.

/// What `amend new unlearn` prints: every section with its usual values, explained.
pub const STARTER: &str = include_str!("starter.toml");

/// What `amend demo` runs.
pub const DEMO: &str = include_str!("../../../recipes/demo.toml");
