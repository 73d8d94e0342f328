//! A run at work: its folder, its metrics, its checkpoints, who listens and who may stop it; and its stages, each
//! of which is done once in the life of the run.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoints::{Checkpoints, Position, folder_name};
use crate::decisions::{Decisions, Overseer};
use crate::file::FileError;
use crate::folder::{FolderError, RunFolder};
use crate::progress::{Progress, Stop};
use crate::step_log::{METRICS, StepLog, StepLogError, TRAJECTORIES};
use crate::stored;

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The run folder's.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file's.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of rows'.
    #[error(transparent)]
    StepLog(#[from] StepLogError),
    /// Two parts of a run have one name. The second would have taken what the first left for its own.
    #[error("two stages of this run are called {stage:?}; give them names of their own")]
    StageTwice {
        /// The name.
        stage: String,
    },
    /// A stage was begun while another was in progress. Rows and checkpoints of the outer one would be lost.
    #[error("stage {inner:?} began within stage {outer:?}; do one after the other")]
    StageWithin {
        /// The stage that began.
        inner: String,
        /// The stage in progress.
        outer: String,
    },
    /// A stage went through steps a second time. It would have taken the first time's checkpoint for its own.
    #[error("stage {stage:?} has gone through its steps; what comes after them is another stage")]
    StepsTwice {
        /// The stage.
        stage: String,
    },
    /// Something that only a stage can do was done outside of every stage.
    #[error("this has to happen within a stage of the run")]
    NoStage,
    /// What a stage left in `run.json` is not what it is now expected to leave.
    #[error("run.json: what stage {stage:?} left cannot be read: {reason}")]
    StageValue {
        /// The stage.
        stage: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Rows of metrics that a stage had logged are gone.
    #[error(
        "{METRICS}: of stage {stage:?}, {found} rows are left of the {step} steps that its checkpoint has; put the \
         file back as it was, or start a new run"
    )]
    RowsMissing {
        /// The stage.
        stage: String,
        /// Rows that are there.
        found: u64,
        /// Steps that were taken.
        step: u64,
    },
    /// What a finished run found out is not what a run of its kind writes.
    #[error(
        "{}: these are not the results of such a run: {reason}; another version of amend may have written them, run \
         its recipe again", path.display()
    )]
    Results {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The user asked to stop; everything done so far is kept.
    #[error("interrupted; everything done so far is kept")]
    Interrupted,
}

impl RunError {
    /// What programs know the error by; it does not change with the message.
    pub fn code(&self) -> &'static str {
        match self {
            RunError::Folder(e) => e.code(),
            RunError::File(e) => e.code(),
            RunError::StepLog(e) => e.code(),
            RunError::StageTwice { .. }
            | RunError::StageWithin { .. }
            | RunError::StepsTwice { .. }
            | RunError::NoStage => "stage-misplaced",
            RunError::StageValue { .. } | RunError::Results { .. } | RunError::RowsMissing { .. } => {
                "run-damaged"
            }
            RunError::Interrupted => "interrupted",
        }
    }
}

/// Everything a stage of a run works with.
pub struct Run<'a> {
    /// The run folder.
    pub folder: RunFolder,
    /// Its metrics.
    pub metrics: StepLog,
    /// What its steps sampled.
    pub trajectories: StepLog,
    /// What was decided about it from outside.
    pub decisions: Decisions,
    /// Its checkpoints.
    pub checkpoints: Checkpoints,
    /// Who is told about progress.
    pub progress: &'a dyn Progress,
    /// Who may ask to stop.
    pub stop: Stop,
    /// Time between two checkpoints. When they happen has no influence on results.
    pub checkpoint_every: Duration,
    /// Who looks at its metrics and may decide something.
    pub overseer: Option<Box<dyn Overseer + 'a>>,
    /// The stages that this process has come to, whether it did them or found them done, by the names of their
    /// checkpoints.
    begun: BTreeSet<String>,
    /// The stage in progress.
    stage: Option<String>,
    /// Whether it has begun its steps.
    stepping: bool,
}

impl<'a> Run<'a> {
    /// A run in an open folder.
    ///
    /// # Errors
    /// Where rows or checkpoints of the folder cannot be read or cleaned up; the folder is then marked as failed.
    pub fn new(folder: RunFolder, progress: &'a dyn Progress, stop: Stop) -> Result<Self, RunError> {
        let files = match Files::open(&folder) {
            Ok(files) => files,
            Err(error) => {
                folder.fail(&error);
                return Err(error);
            }
        };
        let Files { metrics, trajectories, decisions, checkpoints } = files;
        Ok(Run {
            metrics,
            trajectories,
            decisions,
            checkpoints,
            progress,
            stop,
            checkpoint_every: Duration::from_secs(20),
            overseer: None,
            begun: BTreeSet::new(),
            stage: None,
            stepping: false,
            folder,
        })
    }

    /// The folder, when the work is over.
    pub fn into_folder(self) -> RunFolder {
        self.folder
    }

    /// The stage in progress.
    ///
    /// # Errors
    /// [`RunError::NoStage`].
    pub fn stage(&self) -> Result<&str, RunError> {
        self.stage.as_deref().ok_or(RunError::NoStage)
    }

    /// Begins the steps of the stage in progress, which it does once: gives its latest checkpoint and forgets what was
    /// logged after that.
    ///
    /// # Errors
    /// [`RunError::NoStage`], [`RunError::StepsTwice`], and where a file cannot be read or replaced.
    pub fn begin_steps(&mut self) -> Result<Option<(Position, PathBuf)>, RunError> {
        let stage = self.stage()?.to_owned();
        if std::mem::replace(&mut self.stepping, true) {
            return Err(RunError::StepsTwice { stage });
        }
        let latest = self.checkpoints.latest(&stage)?;
        self.rewind(latest.as_ref().map(|(at, _)| at.step))?;
        if let Some((at, _)) = &latest {
            let rows = StepLog::read(self.folder.path(), METRICS)?;
            let found = rows.iter().filter(|row| row.stage == stage).count() as u64;
            // The last of them may not have been looked at when the checkpoint was written.
            if found + 1 < at.step {
                return Err(RunError::RowsMissing { stage, found, step: at.step });
            }
        }
        Ok(latest)
    }

    /// Forgets what the stage in progress logged after `step` (`None`: all of it), and what stages logged that
    /// were never finished.
    ///
    /// # Errors
    /// Where a file of rows cannot be replaced.
    pub fn rewind(&mut self, step: Option<u64>) -> Result<(), RunError> {
        let stage = self.stage()?.to_owned();
        for rows in [&mut self.metrics, &mut self.trajectories] {
            rows.rewind(&stage, step, |stage| self.folder.stage_done(stage))?;
        }
        Ok(())
    }

    /// Fails where the user has asked to stop.
    ///
    /// # Errors
    /// [`RunError::Interrupted`].
    pub fn check_stop(&self) -> Result<(), RunError> {
        if self.stop.requested() { Err(RunError::Interrupted) } else { Ok(()) }
    }

    /// Runs `work` once in the life of the run, as the stage of this name; a resumed run takes the value it left.
    /// That value is handed on as it is read from `run.json`, also when it was just made: what the stages after it
    /// see does not depend on an interruption.
    ///
    /// # Errors
    /// Those of `work`; [`RunError::StageTwice`] where this process has come to a stage of that name before;
    /// [`RunError::StageWithin`] within another stage.
    pub fn once<T, E>(&mut self, stage: &str, work: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<RunError>,
    {
        if let Some(outer) = &self.stage {
            return Err(RunError::StageWithin { inner: stage.to_owned(), outer: outer.clone() }.into());
        }
        if !self.begun.insert(folder_name(stage)) {
            return Err(RunError::StageTwice { stage: stage.to_owned() }.into());
        }
        if let Some(left) = self.folder.stage_value(stage) {
            return Ok(read_left(stage, left.clone())?);
        }
        self.check_stop()?;
        (self.stage, self.stepping) = (Some(stage.to_owned()), false);
        let worked = work(self);
        self.stage = None;
        let left = stored::to_value(&worked?).map_err(|e| unreadable(stage, &e))?;
        let value = read_left(stage, left.clone())?;
        self.folder.mark_stage(stage, left).map_err(RunError::from)?;
        self.checkpoints.clear(stage).map_err(RunError::from)?;
        Ok(value)
    }
}

/// What a run appends to, opened.
struct Files {
    metrics: StepLog,
    trajectories: StepLog,
    decisions: Decisions,
    checkpoints: Checkpoints,
}

impl Files {
    fn open(folder: &RunFolder) -> Result<Self, RunError> {
        let dir = folder.path();
        let checkpoints = Checkpoints::new(dir, 1)?;
        for stage in folder.state().stages.keys() {
            // A process that was killed between marking a stage and clearing up after it has left its checkpoint.
            checkpoints.clear(stage)?;
        }
        Ok(Files {
            metrics: StepLog::open(dir, METRICS)?,
            trajectories: StepLog::open(dir, TRAJECTORIES)?,
            decisions: Decisions::open(dir)?,
            checkpoints,
        })
    }
}

fn read_left<T: DeserializeOwned>(stage: &str, left: serde_json::Value) -> Result<T, RunError> {
    stored::from_value(left).map_err(|e| unreadable(stage, &e))
}

fn unreadable(stage: &str, error: &serde_json::Error) -> RunError {
    RunError::StageValue { stage: stage.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::{Program, RunInfo};
    use crate::progress::Silent;

    fn open(dir: &std::path::Path) -> Run<'static> {
        let folder = match dir.exists() {
            true => RunFolder::open(dir, Program::default()).unwrap(),
            false => RunFolder::create(dir, "", RunInfo::default()).unwrap(),
        };
        Run::new(folder, &Silent, Stop::default()).unwrap()
    }

    #[test]
    fn a_stage_is_done_once_and_its_name_is_its_own() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("run");
        let count = |run: &mut Run<'_>, stage: &str, n: u32| run.once(stage, |_| Ok::<u32, RunError>(n));
        let mut run = open(&dir);
        assert_eq!(count(&mut run, "a", 1).unwrap(), 1);
        // Two arms of one rule once had one name, and the second took the first's results without a word.
        let error = count(&mut run, "a", 2).unwrap_err();
        assert!(error.to_string().contains("two stages of this run are called \"a\""), "{error}");
        drop(run);
        let mut run = open(&dir);
        assert_eq!(count(&mut run, "a", 2).unwrap(), 1, "a resumed run takes what is there");
        assert!(matches!(count(&mut run, "a", 2), Err(RunError::StageTwice { .. })), "but once");
        let error = run.once("b", |run| run.once("c", |_| Ok::<u32, RunError>(0)));
        assert!(matches!(error, Err(RunError::StageWithin { .. })));
        run.stop.request();
        assert!(matches!(count(&mut run, "d", 3), Err(RunError::Interrupted)));
    }

    #[test]
    fn a_stage_goes_through_its_steps_once() {
        let parent = tempfile::tempdir().unwrap();
        let mut run = open(&parent.path().join("run"));
        assert!(matches!(run.begin_steps(), Err(RunError::NoStage)));
        run.once("a", |run| {
            assert_eq!(run.begin_steps()?, None);
            assert!(matches!(run.begin_steps(), Err(RunError::StepsTwice { .. })));
            Ok::<(), RunError>(())
        })
        .unwrap();
        run.once("b", |run| run.begin_steps().map(|_| ())).unwrap();
    }

    /// The checkpoints of `a.b` would be taken for those of `a/b`.
    #[test]
    fn names_that_share_checkpoints_are_one_name() {
        let parent = tempfile::tempdir().unwrap();
        let mut run = open(&parent.path().join("run"));
        run.once("a.b", |_| Ok::<(), RunError>(())).unwrap();
        assert!(matches!(run.once("a/b", |_| Ok::<(), RunError>(())), Err(RunError::StageTwice { .. })));
    }

    #[test]
    fn a_stage_may_leave_what_was_undefined_and_hands_on_what_a_resumed_run_reads() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("run");
        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut run = open(&dir);
            let left: (f64, Option<f64>) =
                run.once("a", |_| Ok::<_, RunError>((f64::NAN, Some(f64::INFINITY)))).unwrap();
            seen.push(format!("{left:?}"));
        }
        assert_eq!(seen, ["(NaN, None)", "(NaN, None)"]);
    }

    /// It stayed "running" once, with nothing in the log, as if it had been killed.
    #[test]
    fn a_run_whose_files_are_damaged_has_failed_and_says_why() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("run");
        drop(open(&dir));
        std::fs::write(dir.join(METRICS), "no row\nno row either\n").unwrap();
        let folder = RunFolder::open(&dir, Program::default()).unwrap();
        let Err(error) = Run::new(folder, &Silent, Stop::default()) else { panic!("it should be refused") };
        assert!(error.to_string().contains(METRICS), "{error}");
        let state = crate::folder::read_state(&dir).unwrap();
        assert_eq!(state.status, crate::Status::Failed);
        assert!(state.finished.is_some());
        let log = std::fs::read_to_string(dir.join("log.txt")).unwrap();
        assert!(log.contains(&format!("error: {error}")), "{log}");
    }

    /// Its curves began in the middle, without a word.
    #[test]
    fn a_stage_whose_rows_are_gone_is_not_gone_on_with() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("run");
        let begun = |rows: u64| -> Result<(), RunError> {
            let mut run = open(&dir);
            let _ = std::fs::remove_file(dir.join(METRICS));
            for step in 1..=rows {
                run.metrics.append("a", step, &serde_json::json!({}))?;
            }
            run.checkpoints
                .save("a", Position { step: 5, ..Position::default() }, |_| Ok::<_, RunError>(()))?;
            drop(run);
            open(&dir).once("a", |run| {
                run.begin_steps()?;
                // The stage is to be open the next time.
                Err(RunError::Interrupted)
            })
        };
        assert!(matches!(begun(5), Err(RunError::Interrupted)));
        assert!(matches!(begun(4), Err(RunError::Interrupted)), "a step may not have been looked at");
        let error = begun(3).unwrap_err();
        assert!(error.to_string().contains("3 rows are left of the 5 steps"), "{error}");
        assert_eq!(error.code(), "run-damaged");
    }

    #[test]
    fn a_checkpoint_left_behind_by_a_kill_is_cleared() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("run");
        let mut run = open(&dir);
        run.once("a", |_| Ok::<(), RunError>(())).unwrap();
        for stage in ["a", "b"] {
            run.checkpoints.save(stage, Default::default(), |_| Ok::<(), RunError>(())).unwrap();
        }
        drop(run);
        let run = open(&dir);
        assert_eq!(run.checkpoints.latest("a").unwrap(), None, "the stage is done");
        assert!(run.checkpoints.latest("b").unwrap().is_some(), "this one is not");
    }
}
