//! Negative preference optimisation.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// Treats the answers to be forgotten as the losing side of a preference: the loss is
/// −(2/β)·mean log σ(β·(NLL_θ − NLL_ref)), with summed negative log-likelihoods. Its gradient is that of
/// gradient ascent times 2σ(−β(NLL_θ − NLL_ref)), which is 1 at the start and fades as an answer is forgotten.
///
/// # When to use it
/// As the standard choice: it forgets like gradient ascent at first but does not run away.
///
/// # What it logs
/// `loss_forget`: the loss above, in nats; (2/β)·ln 2 at the first step.
///
/// # Source
/// Zhang et al., "Negative Preference Optimization", arXiv 2404.05868, eq. 3.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// At matched forgetting, more of the retained knowledge is left than with gradient ascent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Npo {
    /// Inverse temperature β; as β → 0 the objective becomes gradient ascent. No unit.
    #[schemars(range(min = 0.000001))]
    pub beta: f32,
}

impl Default for Npo {
    fn default() -> Self {
        Npo { beta: 0.1 }
    }
}

impl ForgetObjective for Npo {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let nll = pass.sequence_nll(&batch.answers)?;
        let margin = pass.minus(&nll, &batch.answer_nll()?)?;
        pass.logistic(&margin, self.beta)
    }
}
