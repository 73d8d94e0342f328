//! The two places an encoder's tensors come from: a checkpoint, or random numbers.

use std::collections::HashSet;

use super::build::Source;
use crate::checkpoint::Checkpoint;
use crate::models::parts::Start;
use crate::{Result, Rng, Tensor};

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

    fn take(&mut self, name: &str, shape: &[usize], _: Start) -> Result<Tensor> {
        self.used.insert(name.to_owned());
        self.checkpoint.tensor_f32(name, shape)
    }
}

/// Tensors made up.
pub(super) struct Drawn {
    /// The class the model is to be of, such as `BertForMaskedLM`.
    pub(super) architecture: String,
    /// Standard deviation of matrices.
    pub(super) deviation: f64,
    pub(super) seed: u64,
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

impl Source for Drawn {
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

    fn take(&mut self, name: &str, shape: &[usize], start: Start) -> Result<Tensor> {
        Ok(Tensor::build(shape, |out| match start {
            Start::Constant(value) => out.fill(value),
            Start::Random => {
                let mut rng = Rng::named(self.seed, name);
                out.iter_mut().for_each(|w| *w = (rng.normal() * self.deviation) as f32);
            }
        }))
    }
}
