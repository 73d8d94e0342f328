//! Preserving answers.

use amend_engine::{Batch, Model, Result, Taps};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RetainBatch, RetainObjective};
use crate::forget::Pass;
use crate::objectives::LossAndGradients;

/// # What it does
/// Keeps answers ahead of refusals: the loss is −(1/β)·mean log σ(β·(NLL_θ(refusal) − NLL_θ(answer))) over the retain batch,
/// with summed negative log-likelihoods and a fixed refusal per question. There is no reference model.
///
/// # When to use it
/// Beside `idk`, which teaches refusals that spread to every question: this holds them back where an answer is known.
///
/// # What it logs
/// `loss_retain`: the loss above, in nats; close to 0 while answers are much likelier than refusals.
///
/// # Source
/// Yuan et al., "A Closer Look at Machine Unlearning for Large Language Models", arXiv 2410.08109 (AP; with the forget
/// objective `idk` its IDK+AP).
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// Refusals for forgotten questions only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerPreservation {
    /// Inverse temperature β. No unit.
    #[schemars(range(min = 0.000001))]
    pub beta: f32,
}

impl Default for AnswerPreservation {
    fn default() -> Self {
        AnswerPreservation { beta: 0.1 }
    }
}

impl RetainObjective for AnswerPreservation {
    fn gradients(&self, model: &Model, batch: &RetainBatch<'_>) -> Result<Option<LossAndGradients>> {
        let answers = Batch::new(batch.examples.iter().copied())?;
        let refusals = Batch::new(batch.refusals()?)?;
        let taps = Taps::none();
        let mut pass = Pass::new(model, &taps);
        let (answer, refusal) = (pass.sequence_nll(&answers)?, pass.sequence_nll(&refusals)?);
        let margin = pass.g.sub(&refusal, &answer)?;
        let loss = pass.logistic(&margin, self.beta)?;
        let loss = pass.g.scale(&loss, 0.5)?;
        Ok(Some(LossAndGradients { loss: f64::from(loss.scalar()), gradients: pass.g.backward(&loss)? }))
    }
}
