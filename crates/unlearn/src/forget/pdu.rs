//! Flattening logits.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// Flattens what the model predicts: the loss is the mean over the answers' tokens of (max_v z_v − mean_v z_v)², the margin of
/// the likeliest token's logit over the mean logit.
///
/// # When to use it
/// As `me`, which wants the same of probabilities: here the gradient does not fade where one token is certain. With the retain
/// objective `pdu` it is the published primal-dual method.
///
/// # What it logs
/// `loss_forget`: the squared margin above, in nats squared; at least 0.
///
/// # Source
/// Entesari et al., "Constrained Entropic Unlearning: A Primal-Dual Framework for Large Language Models", arXiv 2506.05314.
///
/// # Inferred parts
/// Only scored tokens count; the reference code takes every position.
///
/// # Expected result
/// As `me`: noise instead of answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pdu {}

impl ForgetObjective for Pdu {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let logits = pass.logits(&batch.answers)?;
        margin(pass, &logits)
    }
}

/// The loss of logits [n, V].
pub(super) fn margin(pass: &mut Pass<'_>, logits: &Var) -> Result<Var> {
    let margins = pass.g.max_less_mean(logits)?;
    let squares = pass.g.mul(&margins, &margins)?;
    pass.g.mean(&squares)
}
