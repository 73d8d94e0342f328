//! Refusal targets.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// Teaches the model to answer forget-set questions with a refusal: the loss is the mean cross-entropy of
/// a refusal drawn from a list of one hundred, a fixed one per question.
///
/// # When to use it
/// When the unlearned model should say that it does not know, rather than something wrong.
///
/// # What it logs
/// `loss_forget`: cross-entropy of the refusals, in nats per token.
///
/// # Source
/// Maini et al., "TOFU", arXiv 2401.06121 ("preference optimisation", IDK). The sentences are our own.
///
/// # Inferred parts
/// One refusal per question for the whole run, so that results do not depend on the number of epochs.
///
/// # Expected result
/// Refusals on the forget set; the answers themselves stay likely under the model, which the relearning
/// attack shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Idk {}

impl ForgetObjective for Idk {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        pass.token_mean(batch.refusals()?, 1.0)
    }
}
