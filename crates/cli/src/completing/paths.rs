//! Files and folders of the kind that a command takes.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use amend_run::Status;
use amend_run::folder::read_state;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};

/// Where runs are unless they are sent elsewhere.
const RUNS: &str = "runs";

/// Model folders and GGUF files, and the folders on the way to them.
pub(crate) fn models() -> ArgValueCompleter {
    ArgValueCompleter::new(PathCompleter::any().filter(is_model))
}

/// Run folders.
pub(crate) fn runs() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| run_folders(current, |_| true))
}

/// Folders of runs that something is left of to do.
pub(crate) fn unfinished_runs() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| run_folders(current, |status| status != Status::Done))
}

fn is_model(path: &Path) -> bool {
    if path.is_dir() {
        return path.join("config.json").is_file();
    }
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Before anything is typed, the runs where runs are; otherwise those that go on what is typed, and the folders on
/// the way to them.
fn run_folders(current: &OsStr, wanted: fn(Status) -> bool) -> Vec<CompletionCandidate> {
    let is_wanted = move |path: &Path| read_state(path).is_ok_and(|state| wanted(state.status));
    if current.is_empty() {
        let entries = std::fs::read_dir(RUNS).into_iter().flatten().flatten();
        let mut known: Vec<PathBuf> = entries
            .map(|entry| Path::new(RUNS).join(entry.file_name()))
            .filter(|dir| is_wanted(dir))
            .collect();
        known.sort();
        if !known.is_empty() {
            return known.into_iter().map(CompletionCandidate::new).collect();
        }
    }
    PathCompleter::any().filter(move |path| path.is_dir() && is_wanted(path)).complete(current)
}
