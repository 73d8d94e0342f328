//! `checkpoints/<stage>-<step>/`: what a stage needs to go on after an interruption. After decisions that were
//! made about the stage, their number follows the step: `forget-80.1`.
//!
//! A checkpoint is written under a temporary name, flushed, and renamed; a folder with a checkpoint's name is
//! therefore always whole.

use std::fs;
use std::path::{Path, PathBuf};

use crate::file::{FileError, at as doing, sync_folder, sync_tree};

const HALF_WRITTEN: &str = ".writing-";

/// How far a stage is. It only grows: a stage that goes back to an earlier step has obeyed one decision more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Decisions obeyed; see [`crate::decisions`].
    pub decisions: usize,
    /// Steps taken.
    pub step: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.decisions {
            0 => write!(f, "{}", self.step),
            decisions => write!(f, "{}.{decisions}", self.step),
        }
    }
}

impl std::str::FromStr for Position {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (step, decisions) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Position { decisions: decisions.parse()?, step: step.parse()? })
    }
}

/// The checkpoints of a run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    root: PathBuf,
    keep_last: usize,
}

impl Checkpoints {
    /// The checkpoints in the run folder `dir`, of which each stage keeps the last `keep_last` (at least one).
    /// What an interrupted run left half-written is removed; so this is for the process that holds the run
    /// folder's lock.
    ///
    /// # Errors
    /// Where the folder cannot be created or cleaned.
    pub fn new(dir: &Path, keep_last: usize) -> Result<Self, FileError> {
        let root = dir.join("checkpoints");
        fs::create_dir_all(&root).map_err(doing("create", &root))?;
        for entry in fs::read_dir(&root).map_err(doing("read", &root))? {
            let entry = entry.map_err(doing("read", &root))?;
            if entry.file_name().to_string_lossy().starts_with(HALF_WRITTEN) {
                remove(&entry.path())?;
            }
        }
        Ok(Self { root, keep_last: keep_last.max(1) })
    }

    /// From now on each stage keeps its last `keep_last` checkpoints (at least one).
    pub fn keep(&mut self, keep_last: usize) {
        self.keep_last = keep_last.max(1);
    }

    /// Writes a checkpoint: `write` fills the folder it is given; then it appears under its name at once, and
    /// older ones of the stage are removed. Returns the checkpoint's folder.
    ///
    /// # Errors
    /// Those of `write`, and of the file system; no half-written checkpoint stays behind.
    pub fn save<E: From<FileError>>(
        &self,
        stage: &str,
        at: Position,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let name = format!("{}-{at}", folder_name(stage));
        let unfinished = self.root.join(format!("{HALF_WRITTEN}{name}"));
        let finished = self.root.join(name);
        if finished.exists() {
            // A stage computes the same however often it comes to a step; and to replace a checkpoint would leave
            // a moment without.
            return Ok(finished);
        }
        if unfinished.exists() {
            remove(&unfinished)?;
        }
        fs::create_dir_all(&unfinished).map_err(doing("create", &unfinished))?;
        let written = write(&unfinished).and_then(|()| Ok(sync_tree(&unfinished)?));
        if let Err(error) = written {
            // The first error is the one worth reporting; the next start cleans up whatever is left.
            let _ = remove(&unfinished);
            return Err(error);
        }
        fs::rename(&unfinished, &finished).map_err(doing("rename", &unfinished))?;
        sync_folder(&self.root)?;
        tracing::debug!("checkpoint of stage {stage} written at step {}", at.step);
        self.prune(stage)?;
        Ok(finished)
    }

    /// The newest checkpoint of a stage, and its folder.
    ///
    /// # Errors
    /// Where the checkpoints' folder cannot be read.
    pub fn latest(&self, stage: &str) -> Result<Option<(Position, PathBuf)>, FileError> {
        Ok(self.of(stage)?.pop())
    }

    /// Removes all checkpoints of a stage that is done and will not be resumed.
    ///
    /// # Errors
    /// Where one of them cannot be removed.
    pub fn clear(&self, stage: &str) -> Result<(), FileError> {
        self.of(stage)?.iter().try_for_each(|(_, path)| remove(path))
    }

    fn prune(&self, stage: &str) -> Result<(), FileError> {
        let all = self.of(stage)?;
        let surplus = all.len().saturating_sub(self.keep_last);
        all[..surplus].iter().try_for_each(|(_, path)| remove(path))
    }

    /// The checkpoints of a stage and their folders, oldest first.
    ///
    /// # Errors
    /// Where the checkpoints' folder cannot be read.
    pub fn of(&self, stage: &str) -> Result<Vec<(Position, PathBuf)>, FileError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(doing("read", &self.root))? {
            let entry = entry.map_err(doing("read", &self.root))?;
            let name = entry.file_name();
            let Some((of, at)) = name.to_str().and_then(|name| name.rsplit_once('-')) else { continue };
            if let (true, Ok(at)) = (of == folder_name(stage), at.parse()) {
                found.push((at, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Stage names are chosen by areas, but a stage named after a data set must not escape the folder.
pub(crate) fn folder_name(stage: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_+".contains(c) { c } else { '_' };
    stage.chars().map(plain).collect()
}

/// Renamed first: a folder that is half removed must not look like a checkpoint.
fn remove(path: &Path) -> Result<(), FileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let doomed = path.with_file_name(format!("{HALF_WRITTEN}removing-{name}"));
    fs::rename(path, &doomed).map_err(doing("rename", path))?;
    if doomed.is_dir() {
        fs::remove_dir_all(&doomed).map_err(doing("remove", &doomed))
    } else {
        fs::remove_file(&doomed).map_err(doing("remove", &doomed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(step: u64) -> Position {
        Position { decisions: 0, step }
    }

    fn save(checkpoints: &Checkpoints, stage: &str, step: u64) -> PathBuf {
        let write = |dir: &Path| fs::write(dir.join("state"), step.to_string()).map_err(doing("write", dir));
        checkpoints.save::<FileError>(stage, after(step), write).unwrap()
    }

    #[test]
    fn keeps_the_last_of_each_stage() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path(), 2).unwrap();
        for step in [5, 10, 100] {
            save(&checkpoints, "forget", step);
        }
        save(&checkpoints, "forget-more", 7);
        let (step, path) = checkpoints.latest("forget").unwrap().unwrap();
        assert_eq!((step.step, fs::read_to_string(path.join("state")).unwrap().as_str()), (100, "100"));
        assert_eq!(checkpoints.of("forget").unwrap().len(), 2);
        assert_eq!(checkpoints.latest("forget-more").unwrap().unwrap().0, after(7));
        assert_eq!(checkpoints.latest("attack").unwrap(), None);
        save(&checkpoints, "forget", 100);
        checkpoints.clear("forget").unwrap();
        assert_eq!(checkpoints.latest("forget").unwrap(), None);
        assert_eq!(fs::read_dir(dir.path().join("checkpoints")).unwrap().count(), 1);
    }

    #[test]
    fn what_was_half_written_is_ignored_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path(), 1).unwrap();
        save(&checkpoints, "a", 1);
        let half = dir.path().join("checkpoints/.writing-a-2");
        fs::create_dir(&half).unwrap();
        fs::write(half.join("state"), "ha").unwrap();
        assert_eq!(checkpoints.latest("a").unwrap().unwrap().0, after(1));
        let again = Checkpoints::new(dir.path(), 1).unwrap();
        assert!(!half.exists());

        let failing = |_: &Path| Err(doing("write", Path::new("w"))(std::io::ErrorKind::StorageFull.into()));
        assert!(again.save::<FileError>("a", after(3), failing).is_err());
        assert_eq!(again.latest("a").unwrap().unwrap().0, after(1));
        assert_eq!(fs::read_dir(dir.path().join("checkpoints")).unwrap().count(), 1);
    }

    #[test]
    fn a_stage_that_went_back_is_further_than_before() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path(), 1).unwrap();
        save(&checkpoints, "a", 100);
        let back = Position { decisions: 1, step: 80 };
        checkpoints.save::<FileError>("a", back, |_| Ok(())).unwrap();
        assert_eq!(checkpoints.latest("a").unwrap().unwrap().0, back);
        assert_eq!(checkpoints.of("a").unwrap().len(), 1);
        assert_eq!("80.1".parse(), Ok(back));
        assert_eq!(back.to_string(), "80.1");
    }
}
