//! The two places an encoder's tensors come from: a checkpoint, or random numbers.

use std::collections::HashSet;

use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::models::source::{Drawn, Source, Taken, Wanted};

/// Tensors of a checkpoint.
pub(super) struct Stored<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    /// Names that were taken.
    pub(super) used: HashSet<String>,
}

impl Source for Stored<'_> {
    fn has(&self, name: &str) -> bool {
        self.checkpoint.contains(name)
    }

    fn take(&mut self, wanted: &Wanted<'_>) -> Result<Taken> {
        self.used.insert(wanted.name.to_owned());
        let tensor = self.checkpoint.tensor_f32(wanted.name, wanted.shape)?;
        Ok(Taken { tensor, stored: self.checkpoint.own_type(wanted.name) })
    }
}

/// Tensors made up, of a class such as `BertForMaskedLM`, which says what there is.
pub(super) struct DrawnClass {
    pub(super) architecture: String,
    pub(super) drawn: Drawn,
}

/// How names of tensors begin that only some classes have, and how the names of those classes end.
const HEADS: &[(&str, &[&str])] = &[
    ("classifier.", &["Classification", "ForMultipleChoice"]),
    ("cls.predictions.", &["ForMaskedLM", "ForPreTraining"]),
    ("cls.seq_relationship.", &["ForPreTraining", "ForNextSentencePrediction"]),
    ("lm_head.", &["ForMaskedLM"]),
    ("text_projection.", &["WithProjection"]),
    ("visual_projection.", &["WithProjection"]),
];

/// How the names of classes end that have no pooler.
const WITHOUT_POOLER: &[&str] =
    &["ForTokenClassification", "ForMaskedLM", "ForQuestionAnswering", "ForImageClassification"];

/// What stands before the names of the model under a head.
const BASES: &[&str] = &["bert.", "roberta.", "vit."];

/// Parts of names that only some checkpoints use.
const OTHER_SPELLINGS: &[&str] = &[".gamma", "layers.0.attention.q_proj"];

impl Source for DrawnClass {
    /// Whether a checkpoint of this class would have it.
    fn has(&self, name: &str) -> bool {
        let is = |endings: &[&str]| endings.iter().any(|ending| self.architecture.ends_with(ending));
        if let Some((_, classes)) = HEADS.iter().find(|(start, _)| name.starts_with(start)) {
            return is(classes);
        }
        if OTHER_SPELLINGS.iter().any(|part| name.contains(part)) {
            return false;
        }
        let pooled = !name.contains("pooler.") || !is(WITHOUT_POOLER);
        let under_head = self.architecture.contains("For");
        pooled && (under_head || !BASES.iter().any(|base| name.starts_with(base)))
    }

    fn take(&mut self, wanted: &Wanted<'_>) -> Result<Taken> {
        self.drawn.take(wanted)
    }
}
