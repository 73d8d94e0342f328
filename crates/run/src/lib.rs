//! What a run is, whatever it computes: a recipe, a folder, rows of metrics, checkpoints, data sets, a report.
//!
//! The crate knows nothing of models or tensors. An area (unlearning, training, …) declares the options of its
//! methods and its slots with [`slot!`]; the command line reads a [`recipe`], creates a [`RunFolder`], lets the
//! area work stage by stage in a [`Run`], and writes a [`Report`].
//!
//! A run can be killed at any moment and resumed: every file is either replaced atomically ([`mod@file`]) or appended
//! row by row and cut back to the last checkpoint ([`StepLog::rewind`]).

pub mod checkpoints;
pub mod clock;
pub mod comparison;
pub mod decisions;
pub mod figure;
pub mod file;
pub mod folder;
pub mod forecast;
pub mod frontier;
mod key;
pub mod machine;
pub mod method;
mod nearest;
pub mod progress;
pub mod recipe;
pub mod records;
pub mod report;
mod run;
pub mod shell;
pub mod step_log;
pub mod stored;
pub mod sweep;
mod tensorboard;

pub use checkpoints::Checkpoints;
pub use figure::{Figure, in_short, read_results, write_results};
pub use file::FileError;
pub use folder::{FolderError, Program, RunFolder, RunInfo, Status};
pub use forecast::Forecast;
pub use method::{Method, missing_headings};
pub use nearest::nearest;
pub use progress::{Activity, Progress, Silent, Stop, StopAt};
pub use recipe::{Loaded, RecipeError, RecipePath, RecipeSource, load};
pub use records::{Content, Dataset, Record, overlap};
pub use report::Report;
pub use run::{Run, RunError};
pub use step_log::StepLog;
pub use tensorboard::TensorBoard;

/// What the expansion of [`slot!`] refers to; not part of the public interface.
#[doc(hidden)]
pub mod __private {
    pub use schemars;
    pub use serde;
}
