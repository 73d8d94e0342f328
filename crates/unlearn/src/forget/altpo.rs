//! Alternate preference optimisation.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// Prefers an answer of the same kind that the model itself makes up over the one to be forgotten: the loss is
/// −(2/β)·mean log σ(β·[(ℓ_θ − ℓ_ref)(alternative) − (ℓ_θ − ℓ_ref)(answer)]) with summed log-likelihoods ℓ.
///
/// # When to use it
/// Instead of `idk-dpo` where a forgotten question is to be answered plausibly and not refused.
///
/// # What it logs
/// `loss_forget`: the loss above, in nats; (2/β)·ln 2 at the first step.
///
/// # Source
/// Mekala et al., "Alternate Preference Optimization for Unlearning Factual Knowledge in Large Language Models",
/// arXiv 2409.13474.
///
/// # Inferred parts
/// The alternative is what the reference says to the question itself at the temperature given, one for the whole run; a prompt
/// that asks for one, as in the source, would need a model that follows instructions. Where it is word for word the right answer,
/// it is drawn again at twice the temperature.
///
/// # Expected result
/// Wrong answers in the form of the right ones; less harm to the rest than with refusals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AltPo {
    /// Inverse temperature β. No unit.
    #[schemars(range(min = 0.000001))]
    pub beta: f32,
    /// Temperature at which alternatives are drawn first.
    #[schemars(range(min = 0.000001))]
    pub temperature: f32,
}

impl Default for AltPo {
    fn default() -> Self {
        AltPo { beta: 0.1, temperature: 1.0 }
    }
}

impl ForgetObjective for AltPo {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let answer = pass.sequence_nll(&batch.answers)?;
        let answer = pass.minus(&answer, &batch.answer_nll()?)?;
        let (alternatives, reference) = batch.alternatives(self.temperature)?;
        let alternative = pass.sequence_nll(alternatives)?;
        let alternative = pass.minus(&alternative, &reference)?;
        let margin = pass.g.sub(&answer, &alternative)?;
        pass.logistic(&margin, self.beta)
    }
}
