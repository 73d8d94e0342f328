//! What a run found out.

use std::path::PathBuf;

use amend_engine::models::TensorChange;
use amend_eval::Summary;
use serde::{Deserialize, Serialize};

use crate::locate::Traced;
use crate::recipe::Required;

/// Everything a run found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The editor.
    pub editor: String,
    /// The layers that it changed.
    pub layers: Vec<usize>,
    /// Edits that were made.
    pub edits: usize,
    /// Edits made together.
    pub batch_size: usize,
    /// Whether the weights were put back before every batch.
    pub restored: bool,
    /// How many of the first edits were looked at again while later ones were made.
    pub watched: usize,
    /// What tracing found, where it was done.
    pub traced: Option<Traced>,
    /// Figures of the unedited model.
    pub before: Summary,
    /// Figures after the edits; after each batch alone, where weights were put back.
    pub after: Summary,
    /// What changed in which tensor, most changed first; nothing where weights were put back.
    pub changes: Vec<TensorChange>,
    /// Folder of the edited model; none where weights were put back.
    pub model: Option<PathBuf>,
    /// What is asked of the figures.
    pub require: Required,
    /// Whether they are so; nothing where nothing is asked.
    pub passed: Option<bool>,
}

impl Outcome {
    /// What has to be known before the figures are read.
    pub(crate) fn premises(&self) -> Vec<String> {
        let value = |name: &str| self.before.figure(name).map(|figure| figure.value);
        let mut all = Vec::new();
        if value("efficacy").is_some_and(|share| share > 0.5) {
            all.push(
                "The unedited model says most of the new targets already: there was hardly anything to rewrite.".into(),
            );
        }
        if value("neighbours_right").is_some_and(|share| share < 0.1) {
            all.push(
                "The unedited model hardly knows what it is asked about others: that it says the same as before does not \
                 mean that it says what is right."
                    .into(),
            );
        }
        if self.traced.as_ref().is_some_and(|traced| traced.known == 0) {
            all.push(
                "The model knows none of the facts that were traced: the layer was found on what it says instead. Name \
                 one that others found for this model, with `layer` or `layers`."
                    .into(),
            );
        }
        all
    }
}
