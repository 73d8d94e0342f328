//! Staying close to the reference distribution.

use amend_engine::{Batch, Graph, Model, Result, Taps};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RetainBatch, RetainObjective};
use crate::objectives::LossAndGradients;

/// # What it does
/// Keeps the model's next-token distributions where they were: mean KL(p_ref ‖ p_θ) over the scored
/// positions of the retain batch, over the whole vocabulary.
///
/// # When to use it
/// Where the retain set is small or unlike the training data: it does not teach the set, only holds still.
/// Costs a second forward pass.
///
/// # What it logs
/// `loss_retain`: divergence in nats per scored token; 0 at the first step.
///
/// # Source
/// Maini et al., "TOFU", arXiv 2401.06121 (KL minimisation). The published code averages over padding too;
/// here only scored positions count, and there is no padding.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// As `nll` on data the model knows; less drift on data it does not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kl {}

impl RetainObjective for Kl {
    fn gradients(&self, model: &Model, batch: &RetainBatch<'_>) -> Result<Option<LossAndGradients>> {
        let packed = Batch::new(batch.examples.iter().copied())?;
        let taps = Taps::none();
        let mut g = Graph::recording(&model.params);
        let divergence = model.divergence_from(&mut g, &packed, batch.context.reference, &taps)?;
        let loss = g.mean(&divergence)?;
        Ok(Some(LossAndGradients { loss: f64::from(loss.scalar()), gradients: g.backward(&loss)? }))
    }
}
