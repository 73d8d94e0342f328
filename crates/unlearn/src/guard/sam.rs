//! Sharpness-aware minimisation.

use amend_engine::{Model, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::walk::walked;
use super::{Pair, Safeguard};
use crate::objectives::{LossAndGradients, Objectives};

/// # What it does
/// Takes the forget gradient not where the model is but where forgetting is worst nearby: at θ + ε with
/// ε = ρ·g_f/‖g_f‖, the norm over all weights that may change. That is a short walk back towards remembering, so the
/// model learns to forget from there as well. The retain gradient is taken at θ.
///
/// # When to use it
/// When weights are to be published: a flat minimum is meant to be harder to leave by fine-tuning. Costs a second
/// forget pass per step, and a copy of the weights that may change.
///
/// # What it logs
/// `sharpness`: forget loss at θ + ε minus forget loss at θ, in nats. `loss_forget` is the one at θ.
///
/// # Source
/// Foret et al., "Sharpness-Aware Minimization", arXiv 2010.01412; for unlearning: Fan et al., "Towards LLM Unlearning
/// Resilient to Relearning Attacks", arXiv 2502.05374, which use ρ = 0.01.
///
/// # Inferred parts
/// Where the forget gradient vanishes there is no direction, and the step is the unguarded one.
///
/// # Expected result
/// Forgets in about as many steps. That it resists relearning is the paper's claim for large models; small ones did not
/// show it reliably.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sam {
    /// Length ρ of the walk, in the units of the weights.
    #[schemars(range(min = 0.0))]
    pub rho: f32,
}

impl Default for Sam {
    fn default() -> Self {
        Sam { rho: 0.01 }
    }
}

impl Safeguard for Sam {
    fn gradients(
        &self,
        model: &Model,
        objectives: &Objectives<'_>,
        row: &mut Map<String, Value>,
    ) -> Result<Pair> {
        let here = objectives.forget(model)?;
        let there = objectives.forget(&walked(model, self.rho, &here.gradients))?;
        row.insert("sharpness".into(), json!(there.loss - here.loss));
        let forget = LossAndGradients { loss: here.loss, gradients: there.gradients };
        Ok(Pair { forget, retain: objectives.retain(model)? })
    }
}
