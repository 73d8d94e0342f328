//! Staying at the reference's hidden states.

use amend_engine::{Batch, Graph, Model, Result, Taps, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RetainBatch, RetainObjective};
use crate::forget::Pass;
use crate::forget::misdirection::{self, Looked};
use crate::minor::Tokens;
use crate::objectives::LossAndGradients;

/// # What it does
/// Keeps the hidden states of one layer where they were: ‖h_θ − h_ref‖²/d, the mean over the tokens of every answer and then over
/// answers, or over other `tokens`.
///
/// # When to use it
/// With the forget objective `rmu`, at the same layer or behind it, and at no fewer tokens than are driven there. What comes behind the layer has no gradient.
///
/// # What it logs
/// `loss_retain`: the distance above, in squared units of the hidden states; 0 at the first step.
///
/// # Source
/// Li et al., "The WMDP Benchmark: Measuring and Reducing Malicious Use with Unlearning" (RMU), arXiv 2403.03218, which weighs
/// it by 1200 for a model of 7B; the standard framework by 1.
///
/// # Inferred parts
/// As of the forget objective `rmu`.
///
/// # Expected result
/// What the model says to retained questions stays as it was, as far as it follows from that layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rmu {
    /// The layer, counted from 0, behind which hidden states are compared; default: as of the forget objective `rmu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// The tokens whose states are compared: `answer`, `text` or `subject`.
    pub tokens: Tokens,
}

impl RetainObjective for Rmu {
    fn gradients(&self, model: &Model, batch: &RetainBatch<'_>) -> Result<Option<LossAndGradients>> {
        let layer = misdirection::layer(self.layer, model, "retain")?;
        let packed = Batch::new(batch.examples.iter().copied())?;
        let (reference, taps) = (batch.context.reference, Taps::none());
        let before = reference.residual(&mut Graph::inference(&reference.params), &packed, layer, &taps)?;
        let before = Var::constant(before.value().clone());
        let mut pass = Pass::new(model, &taps);
        let hidden = pass.residual(&packed, layer)?;
        let away = pass.g.sub(&hidden, &before)?;
        let looked = Looked::at(&packed, &batch.positions(self.tokens)?)?;
        let loss = misdirection::mean_square(&mut pass, &away, &looked)?;
        Ok(Some(LossAndGradients { loss: f64::from(loss.scalar()), gradients: pass.g.backward(&loss)? }))
    }
}
