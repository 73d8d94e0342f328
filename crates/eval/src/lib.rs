//! Measuring a language model: statistics, scorers, the TOFU benchmark's logs, and a small world to
//! measure in.
//!
//! [`questions`] asks a model; [`scorers`] turn what it returned (log-probabilities, matches, texts)
//! into the field's metrics, [`tofu`] turns a whole evaluation log into its summary,
//! [`stats`] says how sure a figure is, [`world`] makes people who do not exist, and [`refusals`]
//! holds the sentences with which a model declines.

pub mod questions;
pub mod refusals;
pub mod scorers;
pub mod stats;
pub mod tofu;
pub mod world;
