//! What `run.json` holds: what a run is, where it ran, and how far it got.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::{now, seconds_between};
use crate::file::text_hash;
use crate::machine::Machine;

/// The program that works on a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// The commit it was built from, or "unknown" for a build outside version control.
    pub commit: String,
}

/// `0.1.0 (9c31a0a)`.
impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.version, self.commit)
    }
}

/// A time at which a run was taken up again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumed {
    /// The time, UTC, RFC 3339.
    pub at: String,
    /// What went on with it.
    #[serde(flatten)]
    pub program: Program,
}

/// A time at which the recipe of an interrupted run was changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// The time, UTC, RFC 3339.
    pub at: String,
    /// What was set, as `key=value`.
    pub set: Vec<String>,
}

/// What is known about a run before it starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// What begins it.
    #[serde(flatten)]
    pub program: Program,
    /// The seed of the run.
    pub seed: u64,
    /// The command line.
    pub command: Vec<String>,
    /// The folder that relative paths in the recipe start from: the absolute path of the original recipe's
    /// folder, not of the copy in the run folder.
    pub recipe_folder: PathBuf,
    /// SHA-256 of the model's files, by path as the recipe says it; see [`crate::file::content_hash`].
    pub model: BTreeMap<String, String>,
    /// SHA-256 of each data file, by path as the recipe says it.
    pub data: BTreeMap<String, String>,
    /// How many records each of them has, by the same path.
    #[serde(default)]
    pub records: BTreeMap<String, usize>,
}

/// How far a run got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Working, or killed without a chance to say so.
    Running,
    /// Stopped on request; can be resumed.
    Interrupted,
    /// Stopped by an error; can be resumed once its cause is gone.
    Failed,
    /// Complete.
    Done,
}

/// The content of `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// What was known before the start.
    #[serde(flatten)]
    pub info: RunInfo,
    /// Where it ran; after a resume, where it ran last.
    pub machine: Machine,
    /// How far it got.
    pub status: Status,
    /// Start, UTC, RFC 3339.
    pub started: String,
    /// When it was resumed, and by what.
    #[serde(default)]
    pub resumed: Vec<Resumed>,
    /// SHA-256 of the recipe as this program last wrote it. Earlier versions wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// How its recipe was changed on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revised: Vec<Revision>,
    /// When it ended, in whatever way.
    pub finished: Option<String>,
    /// Seconds that processes have worked on it until it ended, or until this was last written: that is at every checkpoint, so that
    /// what counts of a killed process is what was kept of it. Earlier versions wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worked: Option<f64>,
    /// The most memory in bytes that the last process had resident, where the system tells.
    #[serde(default)]
    pub peak_memory: Option<u64>,
    /// The folder of its event files for TensorBoard, where it writes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensorboard: Option<PathBuf>,
    /// The stages that are done, in order, each with what later stages need of it.
    #[serde(default)]
    pub stages: Map<String, Value>,
}

impl RunState {
    pub(super) fn new(info: RunInfo, recipe: &str) -> Self {
        Self {
            info,
            machine: Machine::detect(),
            status: Status::Running,
            started: now(),
            resumed: Vec::new(),
            recipe: Some(text_hash(recipe)),
            revised: Vec::new(),
            finished: None,
            worked: None,
            peak_memory: None,
            tensorboard: None,
            stages: Map::new(),
        }
    }

    /// How long processes have worked on the run, pauses left out: until it ended, or until the last stage that was done.
    pub fn took(&self) -> Option<Duration> {
        let from_start_to_end = || seconds_between(&self.started, self.finished.as_deref()?);
        let seconds = self.worked.or_else(from_start_to_end)?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Every program that has worked on the run, in order, each once.
    pub fn programs(&self) -> Vec<&Program> {
        let mut programs = vec![&self.info.program];
        for Resumed { program, .. } in &self.resumed {
            if !programs.contains(&program) {
                programs.push(program);
            }
        }
        programs
    }
}
