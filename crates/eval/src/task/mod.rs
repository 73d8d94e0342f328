//! Slot `task`: what is measured.

mod counterfact;
mod records;
mod rewrites;
pub mod tofu;
mod truthfulqa;
mod wikitext;
mod zsre;

use std::path::{Path, PathBuf};

use amend_learn::{Error, Result};
use amend_run::{Method, RecipeError, RecipeSource, slot};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use counterfact::CounterFact;
pub use records::Records;
pub use tofu::Tofu;
pub use truthfulqa::TruthfulQa;
pub use wikitext::WikiText;
pub use zsre::ZsRe;

use crate::item::{Item, Items, Sample, Scores};
use crate::request::{Answer, Request};
use crate::summary::Summary;

/// What is asked, and what the answers are worth.
///
/// A task knows no model and no server: it makes requests and is given answers, which may have been recorded
/// long ago. Whatever it says follows from its options, the item and the answers alone.
pub trait Task: Sync {
    /// The items in the folder `data`, and the hashes of the files that it read.
    ///
    /// # Errors
    /// A file that is missing or does not hold what the task expects.
    fn items(&self, data: &Path) -> Result<Items>;

    /// What a model is asked first about an item.
    ///
    /// # Errors
    /// An item without the columns that it takes.
    fn requests(&self, item: &Item) -> Result<Vec<Request>>;

    /// What it is asked next, given all that it answered about the item so far; nothing ends the item. For
    /// conversations, and for judges who are asked again.
    ///
    /// # Errors
    /// Answers that do not belong to the requests.
    fn follow_up(&self, item: &Item, answers: &[Answer]) -> Result<Vec<Request>> {
        let _ = (item, answers);
        Ok(Vec::new())
    }

    /// What the answers to an item's requests are worth.
    ///
    /// # Errors
    /// Answers that do not belong to the requests.
    fn score(&self, item: &Item, answers: &[Answer]) -> Result<Scores>;

    /// The figures. `reference` are the samples of the model that this one is compared with, where there is one.
    fn aggregate(&self, samples: &[Sample], reference: Option<&[Sample]>) -> Summary;

    /// Whether [`Task::aggregate`] looks at the samples of another model.
    fn uses_reference(&self) -> bool {
        false
    }

    /// The samples in a log of the benchmark's own scripts. Where a log tells answers they are scored as a
    /// model's would be; where it tells measurements, the samples have scores and no answers.
    ///
    /// # Errors
    /// A file that is no such log; a task without a format of its own.
    fn read_log(&self, path: &Path) -> Result<Vec<Sample>> {
        Err(Error::samples(format!(
            "{}: this task has no log format of its own; give a samples.jsonl that `amend eval --out` wrote",
            path.display()
        )))
    }

    /// Writes a log as the benchmark's own scripts would, into the folder `dir`, and says where; nothing where
    /// there is no such format.
    ///
    /// # Errors
    /// Samples that the format cannot hold; a file that cannot be written.
    fn write_log(&self, samples: &[Sample], dir: &Path) -> Result<Option<PathBuf>> {
        let _ = (samples, dir);
        Ok(None)
    }
}

slot! {
    /// What a model is measured on.
    pub slot Benchmark("eval", "task"): dyn Task, default Tofu {
        "counterfact" => CounterFact,
        "records" => Records,
        "tofu" => Tofu,
        "truthfulqa" => TruthfulQa,
        "wikitext" => WikiText,
        "zsre" => ZsRe,
    }
}

impl Benchmark {
    /// The task of this name, with options changed: each of `sets` is `option=value`, as `--set` has it.
    ///
    /// # Errors
    /// An unknown task or option, or a value that the option cannot have, with the nearest valid name.
    pub fn choose(name: &str, sets: &[String]) -> std::result::Result<Self, RecipeError> {
        let source = RecipeSource { path: "--task".into(), text: format!("task = {name:?}\n") };
        let within: Vec<String> = sets.iter().map(|set| format!("task.{set}")).collect();
        let mut loaded = amend_run::load::<Chosen>(source, &within);
        if let Err(error) = &mut loaded
            && !sets.is_empty()
        {
            // It is said of what was typed.
            if let Some(rest) = error.message.strip_prefix("--set task.") {
                error.message =
                    format!("--set {}", rest.replace(" in `task`", &format!(" of the task {name}"))).into();
            }
        }
        Ok(loaded?.recipe.task)
    }
}

/// What there is to choose, in the form of a recipe.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Chosen {
    /// The task.
    task: Benchmark,
}

/// Every task, as the registry describes it.
pub fn tasks() -> &'static [&'static dyn Method] {
    Benchmark::METHODS
}
