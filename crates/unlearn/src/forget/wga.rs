//! Weighted gradient ascent.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// Gradient ascent in which every token counts by how likely it still is: the objective is −mean p_t^β·CE_t over the
/// scored tokens, with p_t taken as a constant. Tokens that are forgotten stop pulling.
///
/// # When to use it
/// In place of gradient ascent, whose loss is made of what was forgotten long ago: the weight takes that out.
///
/// # What it logs
/// `loss_forget`: the loss above, in nats per token; at most 0.
///
/// # Source
/// Wang et al., "Rethinking LLM Unlearning Objectives: A Gradient Perspective and Go Beyond", arXiv 2502.19301.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// With β = 0 gradient ascent itself; with β = 1 it does not run away, and keeps more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Wga {
    /// Power β of the token's probability in its weight. No unit.
    #[schemars(range(min = 0.0))]
    pub beta: f32,
}

impl Default for Wga {
    fn default() -> Self {
        Wga { beta: 1.0 }
    }
}

impl ForgetObjective for Wga {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        pass.reweighted_ascent(&batch.answers, |logprob| (self.beta * logprob).exp())
    }
}
