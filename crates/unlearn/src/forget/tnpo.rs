//! Negative preference optimisation, token by token.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// NPO with a preference of every token instead of every answer: the loss is −(2/β)·mean log σ(β·(CE_t − CE_ref,t)) over
/// the scored tokens. A token stops pulling once it is forgotten, whatever the rest of its answer does.
///
/// # When to use it
/// Where answers are long: NPO's weight is that of the whole answer, and soon as good as 0.
///
/// # What it logs
/// `loss_forget`: the loss above, in nats per token; (2/β)·ln 2 at the first step.
///
/// # Source
/// Wang et al., "Rethinking LLM Unlearning Objectives: A Gradient Perspective and Go Beyond", arXiv 2502.19301 (TNPO);
/// NPO: Zhang et al., arXiv 2404.05868.
///
/// # Inferred parts
/// β as in NPO.
///
/// # Expected result
/// At the first step the gradient of gradient ascent; later that of fewer and fewer tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tnpo {
    /// Inverse temperature β. No unit.
    #[schemars(range(min = 0.000001))]
    pub beta: f32,
}

impl Default for Tnpo {
    fn default() -> Self {
        Tnpo { beta: 0.1 }
    }
}

impl ForgetObjective for Tnpo {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let logprobs = pass.token_logprobs(&batch.answers)?;
        let gained = pass.minus(&logprobs, &batch.answer_logprobs()?)?;
        let margin = pass.g.scale(&gained, -1.0)?;
        pass.logistic(&margin, self.beta)
    }
}
