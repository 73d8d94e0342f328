//! Staying at the reference's hidden states, by their distances.

use amend_engine::{Batch, Graph, Model, Result, Taps, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RetainBatch, RetainObjective};
use crate::forget::misdirection::Looked;
use crate::forget::{Pass, usual_layers};
use crate::minor::{Tokens, check_layer, length, rows_of};
use crate::objectives::LossAndGradients;

/// # What it does
/// Keeps the residual stream where it was: mean ‖h − h⁰‖ / mean ‖h⁰‖ behind one layer, over the tokens of the retain batch. Not
/// squared: a token that has gone far pulls as hard as one that has gone a little.
///
/// # When to use it
/// With the forget objective `mlp-breaking`, behind the last layer that may change. What comes behind it has no gradient.
///
/// # What it logs
/// `loss_retain`: the quotient above, 0 at the first step.
///
/// # Source
/// "Robust LLM Unlearning Against Relearning Attacks: The Minor Components in Representations Matter" (MCU), arXiv 2605.11685.
///
/// # Inferred parts
/// Where h = h⁰ the distance has no gradient, and none is taken. The layer, where none is given: the last of the usual layers of
/// the forget objective `mlp-breaking`.
///
/// # Expected result
/// What the model says to retained questions stays as it was, as far as it follows from that layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MlpBreaking {
    /// The layer, counted from 0, behind which hidden states are compared; default: the last of the usual layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// The tokens whose states are compared: `answer`, `text` or `subject`.
    pub tokens: Tokens,
}

impl Default for MlpBreaking {
    fn default() -> Self {
        MlpBreaking { layer: None, tokens: Tokens::Text }
    }
}

impl RetainObjective for MlpBreaking {
    fn gradients(&self, model: &Model, batch: &RetainBatch<'_>) -> Result<Option<LossAndGradients>> {
        let layer = self.layer.unwrap_or(usual_layers(model.spec().layers).end - 1);
        check_layer(layer, model, &format!("retain: `layer = {layer}`"))?;
        let packed = Batch::new(batch.examples.iter().copied())?;
        let (reference, taps) = (batch.context.reference, Taps::none());
        let before = reference.residual(&mut Graph::inference(&reference.params), &packed, layer, &taps)?;
        let before = Var::constant(before.value().clone());
        let rows = Looked::at(&packed, &batch.positions(self.tokens)?)?.rows;
        let usual: f64 = lengths(before.value(), &rows).iter().sum();

        let mut pass = Pass::new(model, &taps);
        let hidden = pass.residual(&packed, layer)?;
        let away = pass.g.sub(&hidden, &before)?;
        let away = pass.g.gather_rows(&away, &rows)?;
        // ‖x‖ = ⟨x, x/‖x‖⟩, and with x/‖x‖ held fixed that has the gradient of ‖x‖.
        let (width, all) = (away.value().columns(), (0..rows.len()).collect::<Vec<_>>());
        let distances = lengths(away.value(), &all);
        let share = |distance: f64| if distance > 0.0 { 1.0 / (distance * usual) } else { 0.0 };
        let shares = distances.iter().flat_map(|&distance| std::iter::repeat_n(share(distance), width));
        let weights: Vec<f32> =
            away.value().f32().iter().zip(shares).map(|(&x, share)| (f64::from(x) * share) as f32).collect();
        let loss = pass.g.weighted_sum(&away, &weights)?;
        Ok(Some(LossAndGradients { loss: f64::from(loss.scalar()), gradients: pass.g.backward(&loss)? }))
    }
}

/// The lengths of some rows.
fn lengths(states: &amend_engine::Tensor, rows: &[usize]) -> Vec<f64> {
    let states = rows_of(states, rows);
    (0..states.rows()).map(|i| length(states.row(i))).collect()
}
