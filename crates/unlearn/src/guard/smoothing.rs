//! Randomised smoothing.

use amend_engine::{Gradients, Model, Result, Rng, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::walk::moved;
use super::{Forgetting, Pair, Safeguard};
use crate::objectives::{LossAndGradients, Objectives};

/// # What it does
/// Smooths the forget objective over the neighbourhood of the weights: its gradient is the mean over a few draws of θ + ε,
/// where every weight that may change gets noise of its own, ε ~ N(0, σ²). The retain gradient is taken at θ.
///
/// # When to use it
/// As `sam`, where the surroundings as a whole are to forget and not their worst direction alone. Costs a forget pass per
/// draw instead of one per step.
///
/// # What it logs
/// `smoothing_spread`: standard deviation of the forget loss over the draws, in nats; 0 for a single one. `loss_forget` is
/// their mean.
///
/// # Source
/// Cohen et al., "Certified Adversarial Robustness via Randomized Smoothing", arXiv 1902.02918; for unlearning: Fan et al.,
/// "Towards LLM Unlearning Resilient to Relearning Attacks", arXiv 2502.05374 (RS), with three draws.
///
/// # Inferred parts
/// The default of σ. It is in the units of the weights: the whole of the noise has length σ·√n over n weights.
///
/// # Expected result
/// Forgets in about as many steps while σ is small against the weights; with a larger one the draws are broken models, and
/// their gradients say nothing about this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RandomisedSmoothing {
    /// Standard deviation σ of the noise on every weight, in the units of the weights.
    #[schemars(range(min = 0.0))]
    pub sigma: f32,
    /// Draws per step.
    #[schemars(range(min = 1))]
    pub draws: usize,
}

impl Default for RandomisedSmoothing {
    fn default() -> Self {
        RandomisedSmoothing { sigma: 1e-3, draws: 3 }
    }
}

impl Safeguard for RandomisedSmoothing {
    fn gradients(
        &self,
        model: &Model,
        objectives: &Objectives<'_>,
        row: &mut Map<String, Value>,
    ) -> Result<Pair> {
        let draw = |draw: usize| noise(model, &[objectives.seed(), objectives.step(), draw as u64]);
        let (forget, spread) = self.smoothed(model, &draw, &|model| objectives.forget(model))?;
        row.insert("smoothing_spread".into(), json!(spread));
        Ok(Pair { forget, retain: objectives.retain(model)? })
    }
}

impl RandomisedSmoothing {
    /// The mean of loss and gradients over the draws, and the standard deviation of the loss.
    pub(super) fn smoothed(
        &self,
        model: &Model,
        noise: &dyn Fn(usize) -> Gradients,
        forget: &Forgetting<'_>,
    ) -> Result<(LossAndGradients, f64)> {
        let mean = 1.0 / self.draws as f32;
        let mut gradients = Gradients::none(&model.params);
        let mut losses = Vec::new();
        for draw in 0..self.draws {
            let there = forget(&moved(model, self.sigma, &noise(draw)))?;
            gradients.axpy(mean, &there.gradients);
            losses.push(there.loss);
        }
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        let variance =
            losses.iter().map(|l| (l - loss).powi(2)).sum::<f64>() / (losses.len().max(2) - 1) as f64;
        Ok((LossAndGradients { loss, gradients }, variance.sqrt()))
    }
}

/// Standard normal noise on every weight that may change. What is drawn for a weight follows from the coordinates and the
/// weight's place alone.
pub(super) fn noise(model: &Model, coordinates: &[u64; 3]) -> Gradients {
    let [seed, step, draw] = *coordinates;
    let mut all = Gradients::none(&model.params);
    for (place, (id, param)) in model.params.iter().enumerate().filter(|(_, (_, param))| param.trainable) {
        let key = Rng::named(seed, "randomised smoothing").next_u64();
        let mut rng = Rng::at(&[key, step, draw, place as u64]);
        let fill = |values: &mut [f32]| values.fill_with(|| rng.normal() as f32);
        all.set(id, Tensor::build(param.tensor.shape(), fill));
    }
    all.apply_selection(&model.params);
    all
}
