//! The TOFU benchmark (Maini et al. 2024, arXiv 2401.06121) from its official logs: read and write
//! the aggregated log, and compute model utility and forget quality from it.
//!
//! A log holds four sets: retain, real authors, world facts, forget. [`TofuLog::read`] takes the
//! file that the official scripts call `eval_log_aggregated.json`; [`aggregate`] gives the summary.

mod aggregate;
mod ask;
mod error;
mod item;
mod log;

pub use aggregate::{SetScores, TofuRow, TofuScores, aggregate, rows};
pub use ask::ask;
pub use error::TofuLogError;
pub use item::{AnswerLoss, Measured, TofuItem};
pub use log::{TofuLog, TofuSet};
