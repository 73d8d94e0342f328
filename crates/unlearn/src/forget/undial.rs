//! Self-distillation with adjusted logits.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// Distils the reference model with the answer talked down: the target at every scored token is softmax of the reference's
/// logits with β taken off that of the answer's token, and the loss the mean cross-entropy with that.
///
/// # When to use it
/// Where training must not run away: the target is fixed, and reached at the end.
///
/// # What it logs
/// `loss_forget`: the cross-entropy above, in nats per token.
///
/// # Source
/// Dong et al., "UNDIAL: Self-Distillation with Adjusted Logits for Robust Unlearning in Large Language Models",
/// arXiv 2402.10052; β = 10, learning rate 1e-4 and no retain objective are the settings of the standard framework.
///
/// # Inferred parts
/// Only scored tokens count; the reference code scores masked ones as well.
///
/// # Expected result
/// At β = 0 nothing changes. Robust to many steps and large learning rates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Undial {
    /// What is taken off the logit of the answer's token. In nats.
    #[schemars(range(min = 0.0))]
    pub beta: f32,
}

impl Default for Undial {
    fn default() -> Self {
        Undial { beta: 10.0 }
    }
}

impl ForgetObjective for Undial {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let answers = &batch.answers;
        let reference = Var::constant(batch.reference_logits()?);
        let adjusted = pass.g.shift_chosen(&reference, &answers.target_columns(), -self.beta)?;
        let logits = pass.logits(answers)?;
        let weights = vec![1.0 / answers.targets.len().max(1) as f32; answers.targets.len()];
        pass.g.soft_cross_entropy(&logits, &adjusted, &weights)
    }
}
