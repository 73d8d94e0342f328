//! Sharpness-aware minimisation.

use amend_engine::{Gradients, Model, Params, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

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
        // A copy takes the walk: taking it back would not restore the model's bits.
        let mut away = model.clone();
        walk(&mut away.params, self.rho, &here.gradients);
        let there = objectives.forget(&away)?;
        row.insert("sharpness".into(), json!(there.loss - here.loss));
        let forget = LossAndGradients { loss: here.loss, gradients: there.gradients };
        Ok(Pair { forget, retain: objectives.retain(model)? })
    }
}

/// Moves the weights by `distance` along `direction`.
fn walk(params: &mut Params, distance: f32, direction: &Gradients) {
    let norm = direction.norm();
    if norm > 0.0 {
        let factor = (f64::from(distance) / norm) as f32;
        for (id, gradient) in direction.iter() {
            let weight = &mut params.get_mut(id).tensor;
            *weight = weight.zip_map(gradient, |w, g| factor.mul_add(g, w));
        }
    }
}

#[cfg(test)]
mod tests {
    use amend_engine::Tensor;

    use super::*;

    /// The gradient of ½x² is x: from x = 1 and with ρ = 0.1, SAM takes it at 1.1.
    #[test]
    fn hand_case() {
        let mut params = Params::default();
        let x = params.add("x", Tensor::from_f32(&[1.0], &[1]).unwrap()).unwrap();
        let mut gradient = Gradients::none(&params);
        gradient.set(x, params.get(x).tensor.clone());
        walk(&mut params, 0.1, &gradient);
        assert_eq!(params.get(x).tensor.f32(), [1.1]);
    }

    #[test]
    fn the_walk_is_rho_long_over_all_weights_together_and_nowhere_without_a_direction() {
        let mut params = Params::default();
        let weights = [("a", [1.0, 2.0]), ("b", [-3.0, 0.5])];
        let ids = weights.map(|(name, w)| params.add(name, Tensor::from_f32(&w, &[2]).unwrap()).unwrap());
        let mut gradient = Gradients::none(&params);
        for (id, g) in ids.into_iter().zip([[3.0, 0.0], [0.0, -4.0]]) {
            gradient.set(id, Tensor::from_f32(&g, &[2]).unwrap());
        }
        let mut away = params.clone();
        walk(&mut away, 2.5, &gradient);
        let at = |params: &Params| ids.map(|id| params.get(id).tensor.f32().to_vec());
        assert_eq!(at(&away), [[2.5, 2.0], [-3.0, -1.5]]);
        assert_eq!(at(&params), [[1.0, 2.0], [-3.0, 0.5]], "the model itself stays where it is");
        let still = at(&away);
        walk(&mut away, 0.5, &Gradients::none(&params));
        assert_eq!(at(&away), still);
    }
}
