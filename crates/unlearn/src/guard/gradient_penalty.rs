//! Penalising the length of the forget gradient.

use amend_engine::{Model, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::walk::walked;
use super::{Forgetting, Pair, Safeguard};
use crate::objectives::{LossAndGradients, Objectives};

/// # What it does
/// Adds to the forget objective a penalty on how steep it is, λ·‖∇L_f(θ)‖, the norm over all weights that may change: where
/// it is flat, small changes of the weights bring little back. The penalty's gradient λ·H·ĝ, with ĝ = ∇L_f/‖∇L_f‖ and H the
/// second derivatives of L_f, is taken as λ·[∇L_f(θ + h·ĝ) − ∇L_f(θ)]/h.
///
/// # When to use it
/// As `sam`, of which it is the finer form: at λ = h = ρ the two are the same. Costs a second forget pass per step, and a copy
/// of the weights that may change.
///
/// # What it logs
/// `penalty`: λ·‖∇L_f(θ)‖, in nats. `loss_forget` is without it.
///
/// # Source
/// Zhao et al., "Penalizing Gradient Norm for Efficiently Improving Generalization in Deep Learning", arXiv 2202.03599; for
/// unlearning: Fan et al., "Towards LLM Unlearning Resilient to Relearning Attacks", arXiv 2502.05374 (GP).
///
/// # Inferred parts
/// The difference in place of second derivatives, which is exact to first order in h, and the defaults. Where the gradient
/// vanishes, so does the penalty's.
///
/// # Expected result
/// As `sam`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GradientPenalty {
    /// Weight λ of the penalty, in the units of the weights.
    #[schemars(range(min = 0.0))]
    pub lambda: f32,
    /// Length h of the walk whose difference stands for second derivatives, in the units of the weights.
    #[schemars(range(min = 0.000001))]
    pub h: f32,
}

impl Default for GradientPenalty {
    fn default() -> Self {
        GradientPenalty { lambda: 0.01, h: 1e-3 }
    }
}

impl Safeguard for GradientPenalty {
    fn gradients(
        &self,
        model: &Model,
        objectives: &Objectives<'_>,
        row: &mut Map<String, Value>,
    ) -> Result<Pair> {
        let (forget, penalty) = self.penalised(model, &|model| objectives.forget(model))?;
        row.insert("penalty".into(), json!(penalty));
        Ok(Pair { forget, retain: objectives.retain(model)? })
    }
}

impl GradientPenalty {
    /// The loss without and the gradient with the penalty, and the penalty.
    pub(super) fn penalised(
        &self,
        model: &Model,
        forget: &Forgetting<'_>,
    ) -> Result<(LossAndGradients, f64)> {
        let here = forget(model)?;
        let there = forget(&walked(model, self.h, &here.gradients))?;
        let factor = self.lambda / self.h;
        let gradients =
            here.gradients.zip_map(&there.gradients, |here, there| here + factor * (there - here));
        Ok((LossAndGradients { loss: here.loss, gradients }, f64::from(self.lambda) * here.gradients.norm()))
    }
}
