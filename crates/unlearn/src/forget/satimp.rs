//! Saturation and importance.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// Gradient ascent with a weight on every token: −mean p_t^β₁·(1 − p_t)^β₂·CE_t over the scored tokens, with p_t taken as
/// a constant. The first factor is the saturation (what is forgotten stops pulling), the second the importance (what is
/// certain in any text, such as the end of a word, hardly pulls).
///
/// # When to use it
/// Where answers are mostly common words, and only a few of their tokens carry what is to be forgotten.
///
/// # What it logs
/// `loss_forget`: the loss above, in nats per token; at most 0.
///
/// # Source
/// Yang et al., "Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning", arXiv 2505.11953; β₁ = 5, β₂ = 1 and
/// γ = 0.1 are its settings.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// With β₁ = β₂ = 0 gradient ascent itself. With the defaults slow: weights are at most 0.067.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SatImp {
    /// Power β₁ of the token's probability. No unit.
    #[schemars(range(min = 0.0))]
    pub saturation: f32,
    /// Power β₂ of what is missing of its probability to 1. No unit.
    #[schemars(range(min = 0.0))]
    pub importance: f32,
}

impl Default for SatImp {
    fn default() -> Self {
        SatImp { saturation: 5.0, importance: 1.0 }
    }
}

impl ForgetObjective for SatImp {
    fn default_weight(&self) -> f32 {
        0.1
    }

    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        pass.reweighted_ascent(&batch.answers, |logprob| self.weight(logprob))
    }
}

impl SatImp {
    /// The weight of a token with this log-probability.
    pub(super) fn weight(&self, logprob: f32) -> f32 {
        (self.saturation * logprob).exp() * (-logprob.exp_m1()).max(0.0).powf(self.importance)
    }
}
