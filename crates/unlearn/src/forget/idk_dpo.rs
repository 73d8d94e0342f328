//! Direct preference of refusals over answers.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// Prefers a refusal over the answer to be forgotten, relative to the reference model: the loss is
/// −(2/β)·mean log σ(β·[(ℓ_θ − ℓ_ref)(refusal) − (ℓ_θ − ℓ_ref)(answer)]) with summed log-likelihoods ℓ.
///
/// # When to use it
/// When both are wanted: refusals, and answers that really become unlikely.
///
/// # What it logs
/// `loss_forget`: the loss above, in nats; (2/β)·ln 2 at the first step.
///
/// # Source
/// Rafailov et al., "Direct Preference Optimization", arXiv 2305.18290; as an unlearning baseline in Zhang
/// et al., arXiv 2404.05868. The factor 2/β makes it comparable with NPO.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// Refusals after few steps; utility suffers more than with NPO at equal forgetting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IdkDpo {
    /// Inverse temperature β. No unit.
    #[schemars(range(min = 0.000001))]
    pub beta: f32,
}

impl Default for IdkDpo {
    fn default() -> Self {
        IdkDpo { beta: 0.1 }
    }
}

impl ForgetObjective for IdkDpo {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let answer = pass.sequence_nll(&batch.answers)?;
        let answer = pass.minus(&answer, &batch.answer_nll()?)?;
        let refusal = pass.sequence_nll(batch.refusals()?)?;
        let refusal = pass.minus(&refusal, &batch.refusal_nll()?)?;
        let margin = pass.g.sub(&answer, &refusal)?;
        pass.logistic(&margin, self.beta)
    }
}
