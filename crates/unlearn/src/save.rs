//! Which models a run leaves behind, and how they are written.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::arm::adapter_dir;
use crate::outcome::Outcome;
use crate::stages::Stages;

/// Which models stay in the run folder. While the run lasts, all of them do: they are measured as they were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Save {
    /// Every arm's, and those that were made on the spot.
    #[default]
    All,
    /// That of the arm that does best what the recipe asks for.
    Best,
    /// None: figures and answers are all that was wanted.
    None,
}

impl Save {
    /// The folders that a finished run is not to keep. The outcome then no longer names them.
    pub fn superfluous(self, outcome: &mut Outcome, run: &Path) -> Vec<PathBuf> {
        let kept = match self {
            Save::All => return Vec::new(),
            Save::Best => outcome.best(),
            Save::None => None,
        };
        let mut folders = Vec::new();
        let seeds = outcome.seeds.len();
        for seed in &mut outcome.seeds {
            for (i, arm) in seed.arms.iter_mut().enumerate() {
                if Some(i) != kept
                    && let Some(model) = arm.model.take()
                {
                    folders.extend([adapter_dir(&model), model]);
                }
            }
            let stages = Stages::of(seed.seed, seeds);
            let made = |name: String| run.join("models").join(name);
            folders.push(made(stages.gold()));
            // An adapter is nothing without its base.
            let of_kept = kept.and_then(|i| seed.arms[i].model.as_deref());
            if !of_kept.is_some_and(|model| adapter_dir(model).exists()) {
                folders.push(made(stages.base()));
            }
        }
        // Never what the run did not make.
        folders.retain(|folder| folder.starts_with(run) && folder.exists());
        folders
    }
}
