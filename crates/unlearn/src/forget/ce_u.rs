//! Cross-entropy unlearning.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// Teaches the model its own prediction without the answer: the target at every token is softmax of its logits with the
/// answer's token at −∞, taken as a constant, and the loss the cross-entropy with that. The first token of an answer is
/// left out, so that how an answer begins stays as it is.
///
/// # When to use it
/// Where there is nothing to retain by: what the model would say otherwise is where the probability goes.
///
/// # What it logs
/// `loss_forget`: the cross-entropy above, in nats per token.
///
/// # Source
/// Yang, "CE-U: Cross Entropy Unlearning", arXiv 2503.01224.
///
/// # Inferred parts
/// The loss of answers of a single token, which have nothing but a first one, is 0.
///
/// # Expected result
/// Answers that are likely otherwise; the gradient stays bounded where that of gradient ascent grows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CeU {}

impl ForgetObjective for CeU {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let batch = &batch.answers;
        let logits = pass.logits(batch)?;
        let otherwise = pass.g.shift_chosen(&logits.detach(), &batch.target_columns(), f32::NEG_INFINITY)?;
        let is_first = |i: usize| i == 0 || batch.sequence[i] != batch.sequence[i - 1];
        let counted: Vec<f32> =
            (0..batch.targets.len()).map(|i| if is_first(i) { 0.0 } else { 1.0 }).collect();
        let count = counted.iter().sum::<f32>().max(1.0);
        let weights: Vec<f32> = counted.iter().map(|counted| counted / count).collect();
        pass.g.soft_cross_entropy(&logits, &otherwise, &weights)
    }
}
