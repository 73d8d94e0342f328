//! Measuring a language model.
//!
//! A [`Task`] says what is asked and what the answers are worth. Whatever is measured takes the same way:
//!
//! ```text
//! items → requests → answers → scores → figures
//! ```
//!
//! A [`Request`] does not know who answers it: an [`Answerer`], which a [`Subject`] is, a model that runs here.
//! [`evaluate`] leads items through it and keeps every [`Sample`] as it is answered, so that an evaluation that
//! was stopped goes on where it was. A benchmark's official log enters behind the answers, or behind the scores.
//!
//! The rest is what tasks are made of: [`questions`] asks about records, [`scorers`] turn what a model returned
//! into the field's metrics, [`stats`] says how sure a figure is, [`world`] makes people who do not exist,
//! [`rewrite`] asks about facts that are to become others, and [`refusals`] holds the sentences with which a model declines.

mod evaluate;
mod item;
pub mod questions;
pub mod refusals;
mod request;
pub mod rewrite;
mod samples;
pub mod scorers;
pub mod stats;
mod subject;
mod summary;
pub mod task;
pub mod world;

pub use evaluate::{evaluate, recorded};
pub use item::{Item, Items, Sample, Scores};
pub use request::{Answer, Answerer, Generation, Likelihood, Request, Written};
pub use samples::{SampleLog, task_of};
pub use subject::Subject;
pub use summary::Summary;
pub use task::{Benchmark, Task, tofu};
