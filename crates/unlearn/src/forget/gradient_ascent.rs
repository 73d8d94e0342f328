//! Gradient ascent.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// Climbs the loss of the forget set: the objective is minus the mean cross-entropy of its answer tokens.
///
/// # When to use it
/// As the baseline everything else is measured against, together with a retain objective (that pair is
/// known as GradDiff, or KL minimisation (KM) with the retain objective `kl`) and an early stop. Alone it destroys the model: the loss has no floor.
///
/// # What it logs
/// `loss_forget`: −CE over the batch's scored tokens, in nats per token.
///
/// # Source
/// Jang et al., "Knowledge Unlearning for Mitigating Privacy Risks in Language Models", arXiv 2210.01504;
/// Maini et al., "TOFU", arXiv 2401.06121 (GradDiff).
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// Forget probability falls to zero within tens of steps; without a retain objective, so does utility.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GradientAscent {}

impl ForgetObjective for GradientAscent {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        pass.token_mean(&batch.answers, -1.0)
    }
}
