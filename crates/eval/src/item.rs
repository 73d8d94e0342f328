//! Items, and what became of them.

use std::collections::BTreeMap;

use amend_run::records::Row;
use serde::{Deserialize, Serialize};

use crate::request::Answer;

/// One case of a task: a row of its data. Set and id together name it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The part of the task that it belongs to; empty where there are no parts.
    pub set: String,
    /// Its name within the set.
    pub id: String,
    /// Its columns, as the data has them.
    pub row: Row,
}

/// What a task's data holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Items {
    /// The items, in the order in which they are asked.
    pub items: Vec<Item>,
    /// SHA-256 of every file that was read, by its name in the data folder.
    pub sha256: BTreeMap<String, String>,
}

/// What answers are worth, by the name of the score. One that is not defined is NaN.
pub type Scores = BTreeMap<String, f64>;

/// An item that was answered and scored. In JSON, which has no number for what is not finite, such a score is null;
/// [`amend_run::stored`] reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The item.
    #[serde(flatten)]
    pub item: Item,
    /// What was answered, request by request; empty where a log tells the scores alone.
    pub answers: Vec<Answer>,
    /// What that is worth.
    pub scores: Scores,
}

impl Sample {
    /// The score of this name; NaN where there is none.
    pub fn score(&self, name: &str) -> f64 {
        self.scores.get(name).copied().unwrap_or(f64::NAN)
    }
}
