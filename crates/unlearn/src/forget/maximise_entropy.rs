//! Maximising the entropy.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// Makes the model guess: the loss is the mean over the answers' tokens of KL(uniform ‖ p), the divergence of its
/// prediction from one in which every token of the vocabulary is as likely as any other.
///
/// # When to use it
/// Where answers are to become untied from what they were, and not merely unlikely: the loss has a floor and no
/// preferred wrong answer.
///
/// # What it logs
/// `loss_forget`: the divergence above, in nats per token; at least 0.
///
/// # Source
/// Yuan et al., "A Closer Look at Machine Unlearning for Large Language Models", arXiv 2410.08109 (ME; with the retain
/// objective `nll` its ME+GD).
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// Noise instead of answers; what else is said to a forgotten question suffers too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaximiseEntropy {}

impl ForgetObjective for MaximiseEntropy {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        // KL(uniform ‖ p) = ln Σ exp z − mean z − ln V.
        let logits = pass.logits(&batch.answers)?;
        let normalisers = pass.g.log_sum_exp(&logits)?;
        let (normaliser, logit) = (pass.g.mean(&normalisers)?, pass.g.mean(&logits)?);
        let difference = pass.g.sub(&normaliser, &logit)?;
        pass.g.shift(&difference, -(logits.value().columns() as f32).ln())
    }
}
