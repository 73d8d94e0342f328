//! Several finished runs, to be put side by side: what they are called, and what differs in what they were made of.

mod inputs;
mod names;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::figure::read_results;
use crate::file::{FileError, at};
use crate::folder::{FolderError, RunState, Status, is_in_use, read_state};
use crate::recipe::{Difference, differences};
use crate::shell;

/// Most runs that an error names.
const NAMED: usize = 3;

/// Why runs cannot be put side by side.
#[derive(Debug, thiserror::Error)]
pub enum ComparisonError {
    /// A folder is no run's.
    #[error("{source}; give folders that `amend run` has made (`amend runs` lists them)")]
    NotARun {
        /// Which one, and what is missing.
        source: FolderError,
    },
    /// A folder holds runs and is none itself.
    #[error("{} is not a run but holds {count}; name those to compare: {}", path.display(), examples(runs, *count))]
    HoldsRuns {
        /// The folder.
        path: PathBuf,
        /// Some of them.
        runs: Vec<PathBuf>,
        /// How many it holds.
        count: usize,
    },
    /// A process works on the run.
    #[error("{} is still running; wait until it is done", path.display())]
    Running {
        /// The folder.
        path: PathBuf,
    },
    /// The run is not finished, and no process works on it.
    #[error("{} is not finished; go on with it first: `amend resume {}`", path.display(), shell::path(path))]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// There are not two different ones.
    #[error("{reason}; give two or more run folders: `amend compare runs/one runs/other`")]
    Few {
        /// What there is.
        reason: String,
    },
    /// A recipe is no TOML.
    #[error("{}: {reason}; the file was changed by something else", path.display())]
    Recipe {
        /// The recipe.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl ComparisonError {
    /// What programs know the error by; it does not change with the message.
    pub fn code(&self) -> &'static str {
        match self {
            ComparisonError::NotARun { source } => source.code(),
            ComparisonError::HoldsRuns { .. } => "folder-no-run",
            ComparisonError::Running { .. } => "folder-in-use",
            ComparisonError::Unfinished { .. } => "folder-unfinished",
            ComparisonError::Few { .. } => "invalid-argument",
            ComparisonError::Recipe { .. } => "run-damaged",
            ComparisonError::File(e) => e.code(),
        }
    }
}

fn examples(runs: &[PathBuf], count: usize) -> String {
    let names: Vec<String> = runs.iter().map(|run| run.display().to_string()).collect();
    names.join(" ") + if count > runs.len() { " …" } else { "" }
}

/// A run that came to its end.
#[derive(Clone, Debug)]
pub struct FinishedRun {
    /// What it is called beside the others: the end of its path, as short as tells it from them.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Its recipe, with every default written out.
    pub recipe: String,
    /// What is known about it.
    pub state: RunState,
    /// Every figure.
    pub results: Value,
}

impl FinishedRun {
    /// Opens two or more runs.
    ///
    /// # Errors
    /// Where one is no run or not finished, where there are not two different ones, and where a file cannot be read.
    pub fn open_all(dirs: &[PathBuf]) -> Result<Vec<Self>, ComparisonError> {
        let states = dirs.iter().map(|dir| finished(dir)).collect::<Result<Vec<_>, _>>()?;
        if let [only] = dirs {
            return Err(ComparisonError::Few { reason: format!("{} is only one run", only.display()) });
        }
        let whole: Vec<PathBuf> =
            dirs.iter().map(|dir| dir.canonicalize().unwrap_or_else(|_| dir.clone())).collect();
        if let Some(index) = (1..whole.len()).find(|&index| whole[..index].contains(&whole[index])) {
            let reason = format!("{} is given twice", dirs[index].display());
            return Err(ComparisonError::Few { reason });
        }
        let names = names::shortest(&whole);
        let all = dirs.iter().zip(states).zip(names);
        all.map(|((dir, state), name)| Self::of(dir, state, name)).collect()
    }

    /// Opens a run under a name of its own.
    ///
    /// # Errors
    /// Where it is no run or not finished, and where a file cannot be read.
    pub fn open(dir: &Path, name: String) -> Result<Self, ComparisonError> {
        Self::of(dir, finished(dir)?, name)
    }

    fn of(dir: &Path, state: RunState, name: String) -> Result<Self, ComparisonError> {
        let path = dir.join("recipe.toml");
        let recipe = fs::read_to_string(&path).map_err(at("read", &path))?;
        Ok(FinishedRun { name, dir: dir.to_path_buf(), recipe, state, results: read_results(dir)? })
    }

    /// The keys of the recipes in which runs differ, with their values run by run.
    ///
    /// # Errors
    /// Where a recipe is no TOML.
    pub fn recipe_differences(runs: &[Self]) -> Result<Vec<Difference>, ComparisonError> {
        let recipes: Vec<&str> = runs.iter().map(|run| run.recipe.as_str()).collect();
        differences(&recipes).map_err(|(which, problem)| ComparisonError::Recipe {
            path: runs[which].dir.join("recipe.toml"),
            reason: problem.message,
        })
    }
}

/// The state of a finished run.
fn finished(dir: &Path) -> Result<RunState, ComparisonError> {
    let path = dir.to_path_buf();
    match read_state(dir) {
        Ok(state) if state.status == Status::Done => Ok(state),
        Ok(_) if is_in_use(dir) => Err(ComparisonError::Running { path }),
        Ok(_) => Err(ComparisonError::Unfinished { path }),
        Err(source) => {
            let mut runs = runs_in(dir);
            let count = runs.len();
            if count == 0 {
                return Err(ComparisonError::NotARun { source });
            }
            runs.truncate(NAMED);
            Err(ComparisonError::HoldsRuns { path, runs, count })
        }
    }
}

/// The runs that lie in a folder, in the order of their names.
fn runs_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut runs: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|run| read_state(run).is_ok()).collect();
    runs.sort();
    runs
}

#[cfg(test)]
mod tests;
