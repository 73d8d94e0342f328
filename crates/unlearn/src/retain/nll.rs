//! Plain training on the retain set.

use amend_engine::optim::nll_gradients;
use amend_engine::{Model, Result, SCORING_TOKENS};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RetainBatch, RetainObjective};
use crate::objectives::LossAndGradients;

/// # What it does
/// Goes on training on the retain set: mean cross-entropy of its answer tokens.
///
/// # When to use it
/// By default. It needs data like what the model was trained on; with little or unlike data, prefer `kl`.
///
/// # What it logs
/// `loss_retain`: cross-entropy in nats per token; with the load-balancing loss of a mixture of experts,
/// where the model's config asks for it (`output_router_logits`).
///
/// # Source
/// Liu et al., "Continual Learning and Private Unlearning", arXiv 2203.12817 (GradDiff); Maini et al.,
/// arXiv 2401.06121.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// Retain loss stays near its start while the forget loss climbs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Nll {}

impl RetainObjective for Nll {
    fn gradients(&self, model: &Model, batch: &RetainBatch<'_>) -> Result<Option<LossAndGradients>> {
        let (loss, gradients) = nll_gradients(model, &batch.examples, SCORING_TOKENS)?;
        Ok(Some(LossAndGradients { loss: f64::from(loss), gradients }))
    }
}
