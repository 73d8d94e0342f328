//! Penalising the curvature of the forget objective.

use amend_engine::{Model, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::walk::walked;
use super::{Forgetting, Pair, Safeguard};
use crate::objectives::{LossAndGradients, Objectives};

/// # What it does
/// Adds to the forget objective a penalty on how fast its gradient turns, λ·‖Δ‖² with Δ = ∇L_f(θ + μ·v) − ∇L_f(θ) and v the
/// forget gradient's direction, taken as a constant. The penalty's gradient 2λ·[H(θ + μ·v) − H(θ)]·Δ, with H the second
/// derivatives of L_f, is taken as a difference of gradients along d = Δ/‖Δ‖:
/// 2λ·‖Δ‖·[∇L_f(θ + μ·v + h·d) − ∇L_f(θ + μ·v) − ∇L_f(θ + h·d) + ∇L_f(θ)]/h.
///
/// # When to use it
/// As `sam`, where the dearest form is affordable: four forget passes per step instead of one.
///
/// # What it logs
/// `penalty`: λ·‖Δ‖². `loss_forget` is without it.
///
/// # Source
/// Moosavi-Dezfooli et al., "Robustness via Curvature Regularization, and Vice Versa", arXiv 1811.09716; for unlearning: Fan
/// et al., "Towards LLM Unlearning Resilient to Relearning Attacks", arXiv 2502.05374 (CR).
///
/// # Inferred parts
/// The difference in place of third derivatives, and the defaults. Where the gradient vanishes, or does not turn, so does the
/// penalty's.
///
/// # Expected result
/// As `sam`. Of an objective whose second derivatives are the same everywhere, the penalty changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CurvaturePenalty {
    /// Weight λ of the penalty.
    #[schemars(range(min = 0.0))]
    pub lambda: f32,
    /// Length μ of the walk along which the gradient turns, in the units of the weights.
    #[schemars(range(min = 0.0))]
    pub mu: f32,
    /// Length h of the walk whose difference stands for second derivatives, in the units of the weights.
    #[schemars(range(min = 0.000001))]
    pub h: f32,
}

impl Default for CurvaturePenalty {
    fn default() -> Self {
        CurvaturePenalty { lambda: 0.1, mu: 0.01, h: 0.01 }
    }
}

impl Safeguard for CurvaturePenalty {
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

impl CurvaturePenalty {
    /// The loss without and the gradient with the penalty, and the penalty.
    pub(super) fn penalised(
        &self,
        model: &Model,
        forget: &Forgetting<'_>,
    ) -> Result<(LossAndGradients, f64)> {
        let here = forget(model)?;
        let away = walked(model, self.mu, &here.gradients);
        let there = forget(&away)?.gradients;
        let turn = there.zip_map(&here.gradients, |there, here| there - here);
        let length = turn.norm();
        // Both second derivatives along the turn, each as a difference.
        let there_further = forget(&walked(&away, self.h, &turn))?.gradients;
        let here_further = forget(&walked(model, self.h, &turn))?.gradients;
        let along = |further, from| amend_engine::Gradients::zip_map(further, from, |f, g| f - g);
        let (bent_there, bent_here) = (along(&there_further, &there), along(&here_further, &here.gradients));
        let bent = along(&bent_there, &bent_here);
        let factor = (2.0 * f64::from(self.lambda) * length / f64::from(self.h)) as f32;
        let mut gradients = here.gradients;
        gradients.axpy(factor, &bent);
        let penalty = f64::from(self.lambda) * length.powi(2);
        Ok((LossAndGradients { loss: here.loss, gradients }, penalty))
    }
}
