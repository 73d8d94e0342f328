//! The folder of a run: what was asked (`recipe.toml`), what is known about it (`run.json`), what it said
//! (`log.txt`), and who is working on it (`lock`).
//!
//! `run.json` records which stages are done, with what each of them found out, so that an interrupted run goes
//! on where it stopped. The lock is the operating system's: it vanishes with the process, however that ends.

mod state;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::clock::now;
use crate::file::{FileError, at, text_hash, write_atomic};
use crate::machine::{Machine, peak_memory};
use crate::shell;

pub use state::{Program, Resumed, Revision, RunInfo, RunState, Status};

/// The file by which a folder is locked. It stays when the lock is gone.
pub const LOCK: &str = "lock";

/// Why a run folder was refused.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A new run was sent to a folder that already holds something.
    #[error("{} exists; {}", path.display(), ways_out(path))]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// There is no run to go on with.
    #[error("{} is not a run folder: {reason}", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is missing or damaged.
        reason: String,
    },
    /// The run was completed.
    #[error("{} is finished; nothing is left to resume (its report is report.html)", path.display())]
    Finished {
        /// The folder.
        path: PathBuf,
    },
    /// Its recipe is no longer the one that it was begun with.
    #[error(
        "{} was changed by something else since the run was interrupted, and what is done was done by the old one; put that \
         back, and change what is still to be done with `amend resume --set`",
        path.display()
    )]
    RecipeChanged {
        /// The recipe.
        path: PathBuf,
    },
    /// Another process is working on the run.
    #[error("{} is in use by another process; wait for it or stop it first", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What can be done about a folder that is there.
fn ways_out(path: &Path) -> String {
    match read_state(path).map(|state| state.status) {
        Ok(Status::Done) => "choose another --out, or --overwrite the run that is there".into(),
        Ok(_) => format!(
            "choose another --out, --overwrite the run that is there, or go on with it: `amend resume {}`",
            shell::path(path)
        ),
        Err(_) => "choose another --out; it holds something else than a run".into(),
    }
}

impl FolderError {
    /// What programs know the error by; it does not change with the message.
    pub fn code(&self) -> &'static str {
        match self {
            FolderError::Exists { .. } => "output-exists",
            FolderError::NotARun { .. } => "folder-no-run",
            FolderError::Finished { .. } => "folder-finished",
            FolderError::RecipeChanged { .. } => "run-damaged",
            FolderError::Locked { .. } => "folder-in-use",
            FolderError::File(e) => e.code(),
        }
    }
}

/// A run folder that this process has locked.
#[derive(Debug)]
pub struct RunFolder {
    dir: PathBuf,
    state: RunState,
    /// When this process took it up, and what others had worked on it until then.
    taken_up: (Instant, f64),
    /// Held open for the lock alone.
    _lock: File,
}

impl RunFolder {
    /// Starts a new run in `dir`, which must not exist or be empty.
    ///
    /// # Errors
    /// [`FolderError::Exists`], [`FolderError::Locked`], or a file that cannot be written.
    pub fn create(dir: &Path, resolved_recipe: &str, info: RunInfo) -> Result<Self, FolderError> {
        let existed = dir.exists();
        if existed && !dir.is_dir() {
            return Err(FolderError::Exists { path: dir.to_path_buf() });
        }
        fs::create_dir_all(dir).map_err(at("create", dir))?;
        Self::create_in(dir, resolved_recipe, info).inspect_err(|_| {
            // A folder that somebody else has filled in the meantime is not empty, and stays.
            if !existed {
                let _ = fs::remove_dir(dir);
            }
        })
    }

    fn create_in(dir: &Path, resolved_recipe: &str, info: RunInfo) -> Result<Self, FolderError> {
        if fs::read_dir(dir).map_err(at("read", dir))?.next().is_some() {
            return Err(FolderError::Exists { path: dir.to_path_buf() });
        }
        let lock = lock(dir)?;
        // Between looking and locking, another process may have come and gone.
        if dir.join("run.json").exists() {
            return Err(FolderError::Exists { path: dir.to_path_buf() });
        }
        let mut folder = Self {
            dir: dir.to_path_buf(),
            state: RunState::new(info, resolved_recipe),
            taken_up: (Instant::now(), 0.0),
            _lock: lock,
        };
        let recipe = dir.join("recipe.toml");
        let written = write_atomic(&recipe, resolved_recipe.as_bytes()).map_err(FolderError::from);
        if let Err(error) = written.and_then(|()| folder.write_state()) {
            // Half a folder would be refused by the next attempt, and could not be resumed either.
            for name in ["recipe.toml", "run.json", LOCK] {
                let _ = fs::remove_file(dir.join(name));
            }
            return Err(error);
        }
        Ok(folder)
    }

    /// Opens an unfinished run, so that `program` goes on with it.
    ///
    /// # Errors
    /// [`FolderError::NotARun`], [`FolderError::Finished`], [`FolderError::Locked`].
    pub fn open(dir: &Path, program: Program) -> Result<Self, FolderError> {
        // Read before locking: locking creates a file, and a folder that is no run is none of our business.
        read_state(dir)?;
        let lock = lock(dir)?;
        let mut state = read_state(dir)?;
        if state.status == Status::Done {
            return Err(FolderError::Finished { path: dir.to_path_buf() });
        }
        let recipe = dir.join("recipe.toml");
        let is_changed = |text: &str| state.recipe.as_ref().is_some_and(|hash| *hash != text_hash(text));
        if fs::read_to_string(&recipe).is_ok_and(|text| is_changed(&text)) {
            return Err(FolderError::RecipeChanged { path: recipe });
        }
        state.status = Status::Running;
        state.machine = Machine::detect();
        state.resumed.push(Resumed { at: now(), program });
        let before = state.took().map_or(0.0, |took| took.as_secs_f64());
        state.finished = None;
        let mut folder =
            Self { dir: dir.to_path_buf(), state, taken_up: (Instant::now(), before), _lock: lock };
        folder.write_state()?;
        Ok(folder)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// What `run.json` says.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// The resolved recipe's text.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn recipe(&self) -> Result<String, FolderError> {
        let path = self.dir.join("recipe.toml");
        Ok(fs::read_to_string(&path).map_err(at("read", &path))?)
    }

    /// Goes on with another recipe, which is the old one with `sets` applied, and with what it reads: hashes of models and
    /// of data, and numbers of records, as in [`RunInfo`]. What was begun under the old one must have been cleared away
    /// before.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn revise(
        &mut self,
        resolved_recipe: &str,
        sets: &[String],
        [model, data]: [BTreeMap<String, String>; 2],
        records: BTreeMap<String, usize>,
    ) -> Result<(), FolderError> {
        let info = &mut self.state.info;
        (info.model, info.data, info.records) = (model, data, records);
        // A process that ends in between leaves a recipe of which nothing is said, not one that seems to have been changed.
        self.state.recipe = None;
        self.write_state()?;
        write_atomic(&self.dir.join("recipe.toml"), resolved_recipe.as_bytes())?;
        self.state.recipe = Some(text_hash(resolved_recipe));
        self.state.revised.push(Revision { at: now(), set: sets.to_vec() });
        self.write_state()?;
        self.log(&format!("recipe changed: {}", sets.join(" ")))
    }

    /// Records that event files are written to `dir`, from now on and when the run is resumed.
    ///
    /// # Errors
    /// Where `run.json` cannot be written.
    pub fn set_tensorboard(&mut self, dir: PathBuf) -> Result<(), FolderError> {
        self.state.tensorboard = Some(dir);
        self.write_state()
    }

    /// Whether a stage was completed, in this process or before.
    pub fn stage_done(&self, stage: &str) -> bool {
        self.state.stages.contains_key(stage)
    }

    /// Records a stage as completed, with what later stages and the report need of it.
    ///
    /// # Errors
    /// Where `run.json` cannot be written; the stage then counts as not done.
    pub fn mark_stage(&mut self, stage: &str, value: Value) -> Result<(), FolderError> {
        let before = self.state.stages.insert(stage.to_owned(), value);
        tracing::info!("stage {stage} is done");
        self.write_state().inspect_err(|_| {
            match before {
                Some(before) => self.state.stages.insert(stage.to_owned(), before),
                None => self.state.stages.shift_remove(stage),
            };
        })
    }

    /// What a completed stage left.
    pub fn stage_value(&self, stage: &str) -> Option<&Value> {
        self.state.stages.get(stage)
    }

    /// Appends one line with the time to `log.txt`.
    ///
    /// # Errors
    /// Where the log cannot be written.
    pub fn log(&self, line: &str) -> Result<(), FolderError> {
        let path = self.log_path();
        let mut file = self.open_log()?;
        Ok(writeln!(file, "{} {line}", now()).map_err(at("write", &path))?)
    }

    /// `log.txt`, opened for appending: for a subscriber of log events.
    ///
    /// # Errors
    /// Where the log cannot be opened.
    pub fn open_log(&self) -> Result<File, FolderError> {
        let path = self.log_path();
        Ok(OpenOptions::new().create(true).append(true).open(&path).map_err(at("write", &path))?)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log.txt")
    }

    /// Notes that the work ends now: what is left is to write down what it came to, the time it took included.
    pub fn end(&mut self) {
        self.count_time();
        self.state.finished = Some(now());
        self.state.peak_memory = peak_memory();
    }

    /// Ends the run for this process and releases the folder.
    ///
    /// # Errors
    /// Where `run.json` cannot be written.
    pub fn finish(mut self, status: Status) -> Result<(), FolderError> {
        self.state.status = status;
        if self.state.finished.is_none() {
            self.end();
        }
        self.write_state()
    }

    /// Ends the run for this process because of `error`, which goes into the log. As far as that can be written: the
    /// error is the one worth telling, and a full disk may well refuse to be told of it.
    pub fn fail(self, error: &dyn std::fmt::Display) {
        let _ = self.log(&format!("error: {error}"));
        let _ = self.finish(Status::Failed);
    }

    fn count_time(&mut self) {
        let (taken_up, before) = self.taken_up;
        self.state.worked = Some(before + taken_up.elapsed().as_secs_f64());
    }

    /// Writes down how long the run has been worked on until now.
    ///
    /// # Errors
    /// Where `run.json` cannot be written.
    pub fn note_time(&mut self) -> Result<(), FolderError> {
        self.write_state()
    }

    fn write_state(&mut self) -> Result<(), FolderError> {
        if self.state.finished.is_none() {
            self.count_time();
        }
        let path = self.dir.join("run.json");
        let mut text = serde_json::to_string_pretty(&self.state).map_err(|e| at("write", &path)(e.into()))?;
        text.push('\n');
        Ok(write_atomic(&path, text.as_bytes())?)
    }
}

/// Reads `run.json` without locking the folder: for reports and monitors, also of a run in progress.
///
/// # Errors
/// [`FolderError::NotARun`] where there is none or it is damaged.
pub fn read_state(dir: &Path) -> Result<RunState, FolderError> {
    let refuse = |reason: String| FolderError::NotARun { path: dir.to_path_buf(), reason };
    let text = match fs::read_to_string(dir.join("run.json")) {
        Ok(text) => text,
        Err(_) if !dir.exists() => return Err(refuse("it does not exist".into())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(refuse("it has no run.json".into()));
        }
        Err(e) => return Err(refuse(format!("run.json cannot be read: {e}"))),
    };
    serde_json::from_str(&text).map_err(|e| refuse(format!("run.json is damaged: {e}")))
}

/// Whether a process is working on the run. Creates nothing, and holds the lock no longer than it takes to ask.
pub fn is_in_use(dir: &Path) -> bool {
    let lock = OpenOptions::new().write(true).open(dir.join("lock"));
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Whether a run folder holds nothing but what every run begins with, so that nobody would miss it. What an area
/// has written there, be it a row, a sample or a data set, somebody may.
pub fn is_untouched(dir: &Path) -> bool {
    const BEGINNING: [&str; 4] = ["recipe.toml", "run.json", LOCK, "log.txt"];
    let is_empty = |path: &Path| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    let belongs = |entry: std::io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            BEGINNING.iter().any(|name| entry.file_name() == *name)
                || entry.file_name() == "checkpoints" && is_empty(&entry.path())
        })
    };
    read_state(dir).is_ok_and(|state| state.stages.is_empty())
        && fs::read_dir(dir).is_ok_and(|mut entries| entries.all(belongs))
}

/// Locks a folder that exists for this process, until the file that this gives is dropped or the process ends.
///
/// # Errors
/// [`FolderError::Locked`] where another process has it, and where the file `lock` cannot be made.
pub fn lock(dir: &Path) -> Result<File, FolderError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(at("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FolderError::Locked { path: dir.to_path_buf() }),
        Err(TryLockError::Error(e)) => Err(at("lock", &path)(e).into()),
    }
}

#[cfg(test)]
mod tests;
