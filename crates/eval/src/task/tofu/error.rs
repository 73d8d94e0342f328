//! What can be wrong with a log.

use std::path::PathBuf;

use amend_run::file::FileError;

/// Why a TOFU log cannot be read or written. Every message names the file, and the key where one is
/// at fault.
#[derive(Debug, thiserror::Error)]
pub enum TofuLogError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The log.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// A measurement that JSON has no number for.
    #[error(
        "{path}: `{set}` / `{key}` / `{item}` is not finite, which the log cannot hold; \
         the evaluated model has diverged",
        path = path.display()
    )]
    NotFinite {
        /// The log.
        path: PathBuf,
        /// The set.
        set: String,
        /// The column.
        key: String,
        /// The item.
        item: String,
    },
    /// The file is no JSON object.
    #[error("{path}: not a JSON object: {detail}", path = path.display())]
    Json {
        /// The log.
        path: PathBuf,
        /// Line, column and reason.
        detail: String,
    },
    /// None of the four sets is there.
    #[error(
        "{path}: none of the sets eval_log.json, eval_real_author_wo_options.json, \
         eval_real_world_wo_options.json, eval_log_forget.json is in it; its keys are {found}. {advice}",
        path = path.display()
    )]
    NoSets {
        /// The log.
        path: PathBuf,
        /// The first keys found.
        found: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// A set lacks a column that the scores need.
    #[error("{path}: set `{set}` has no `{key}`, which its scores need{nearest}", path = path.display())]
    MissingKey {
        /// The log.
        path: PathBuf,
        /// The set.
        set: &'static str,
        /// The missing column.
        key: &'static str,
        /// "; did you mean `…`?" or nothing.
        nearest: String,
    },
    /// A column lacks an item that `avg_gt_loss` has.
    #[error("{path}: `{set}` / `{key}` has no item `{item}`, which `avg_gt_loss` has", path = path.display())]
    MissingItem {
        /// The log.
        path: PathBuf,
        /// The set.
        set: &'static str,
        /// The column.
        key: &'static str,
        /// The item.
        item: String,
    },
    /// A value is not what the column holds.
    #[error(
        "{path}: `{set}` / `{key}` / `{item}` should be {expected}, found {found}",
        path = path.display()
    )]
    Value {
        /// The log.
        path: PathBuf,
        /// The set.
        set: &'static str,
        /// The column.
        key: &'static str,
        /// The item, or `*` for the whole column.
        item: String,
        /// What belongs there.
        expected: &'static str,
        /// What is there, shortened.
        found: String,
    },
}
