//! Simple negative preference optimisation.

use amend_engine::{Result, Tensor, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// NPO without a reference model and with length-normalised likelihoods: the loss is
/// −(2/β)·mean log σ(β·(NLL_θ/|y| − δ)). An answer stops pulling once its loss per token is large.
///
/// # When to use it
/// Where answers differ much in length, or a second forward pass for the reference is too dear.
///
/// # What it logs
/// `loss_forget`: the loss above, in nats per token.
///
/// # Source
/// Fan et al., "Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning",
/// arXiv 2410.07163; β = 4.5, δ = 0 and γ = 0.125 are its TOFU settings.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// Little damage to retained knowledge; forgetting slower than NPO's at the same learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SimNpo {
    /// Inverse temperature β. No unit.
    #[schemars(range(min = 0.000001))]
    pub beta: f32,
    /// Margin δ on the loss per token, in nats.
    pub delta: f32,
}

impl Default for SimNpo {
    fn default() -> Self {
        SimNpo { beta: 4.5, delta: 0.0 }
    }
}

impl ForgetObjective for SimNpo {
    fn default_weight(&self) -> f32 {
        0.125
    }

    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let nll = pass.sequence_nll(&batch.answers)?;
        let lengths = batch.answers.scored_lengths();
        let inverse: Vec<f32> = lengths.iter().map(|&n| 1.0 / n.max(1) as f32).collect();
        let inverse = Var::constant(Tensor::from_f32(&inverse, nll.shape())?);
        let per_token = pass.g.mul(&nll, &inverse)?;
        let margin = pass.g.shift(&per_token, -self.delta)?;
        pass.logistic(&margin, self.beta)
    }
}
