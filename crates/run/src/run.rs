//! A run at work: its folder, its metrics, its checkpoints, who listens and who may stop it; and its stages, each
//! of which is done once in the life of the run.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoints::Checkpoints;
use crate::file::FileError;
use crate::folder::{FolderError, RunFolder};
use crate::metrics::{Metrics, MetricsError};
use crate::progress::{Progress, Stop};

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
    /// The metrics file's.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Two parts of a run have one name. The second would have taken what the first left for its own.
    #[error("two stages of this run are called {stage:?}; give them names of their own")]
    StageTwice {
        /// The name.
        stage: String,
    },
    /// What a stage left in `run.json` is not what it is now expected to leave.
    #[error("run.json: stage {stage:?} left something that cannot be read: {reason}; start a new run")]
    StageValue {
        /// The stage.
        stage: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The user asked to stop; everything done so far is kept.
    #[error("interrupted; everything done so far is kept")]
    Interrupted,
}

/// Everything a stage of a run works with.
pub struct Run<'a> {
    /// The run folder.
    pub folder: RunFolder,
    /// Its metrics.
    pub metrics: Metrics,
    /// Its checkpoints.
    pub checkpoints: Checkpoints,
    /// Who is told about progress.
    pub progress: &'a dyn Progress,
    /// Who may ask to stop.
    pub stop: Stop,
    /// Time between two checkpoints. When they happen has no influence on results.
    pub checkpoint_every: Duration,
    /// The stages that this process has come to, whether it did them or found them done.
    begun: BTreeSet<String>,
}

impl<'a> Run<'a> {
    /// A run in an open folder.
    ///
    /// # Errors
    /// Where metrics or checkpoints of the folder cannot be read or cleaned up.
    pub fn new(folder: RunFolder, progress: &'a dyn Progress, stop: Stop) -> Result<Self, RunError> {
        let metrics = Metrics::open(folder.path())?;
        let checkpoints = Checkpoints::new(folder.path(), 1)?;
        let checkpoint_every = Duration::from_secs(20);
        Ok(Run { folder, metrics, checkpoints, progress, stop, checkpoint_every, begun: BTreeSet::new() })
    }

    /// Fails where the user has asked to stop.
    ///
    /// # Errors
    /// [`RunError::Interrupted`].
    pub fn check_stop(&self) -> Result<(), RunError> {
        if self.stop.requested() { Err(RunError::Interrupted) } else { Ok(()) }
    }

    /// Runs `work` once in the life of the run: a resumed run takes the value it left.
    ///
    /// # Errors
    /// Those of `work`; [`RunError::StageTwice`] where this process has come to a stage of that name before.
    pub fn once<T, E>(&mut self, stage: &str, work: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<RunError>,
    {
        if !self.begun.insert(stage.to_owned()) {
            return Err(RunError::StageTwice { stage: stage.to_owned() }.into());
        }
        let unreadable =
            |e: serde_json::Error| RunError::StageValue { stage: stage.to_owned(), reason: e.to_string() };
        if let Some(value) = self.folder.stage_value(stage) {
            return Ok(serde_json::from_value(value.clone()).map_err(unreadable)?);
        }
        self.check_stop()?;
        let value = work(self)?;
        let written = serde_json::to_value(&value).map_err(unreadable)?;
        self.folder.mark_stage(stage, written).map_err(RunError::from)?;
        self.checkpoints.clear(stage).map_err(RunError::from)?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::RunInfo;
    use crate::progress::Silent;

    fn open(dir: &std::path::Path) -> Run<'static> {
        let folder = match dir.exists() {
            true => RunFolder::open(dir).unwrap(),
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
        run.stop.request();
        assert!(matches!(count(&mut run, "b", 3), Err(RunError::Interrupted)));
    }
}
