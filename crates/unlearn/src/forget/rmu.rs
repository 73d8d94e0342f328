//! Representation misdirection for unlearning.

use amend_engine::{Result, Rng, Tensor, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass, misdirection};

/// # What it does
/// Drives the hidden states of one layer, on the forget set, to one fixed point that means nothing: the loss is ‖h_θ − c·u‖²/d
/// with a random unit vector u, the mean over the scored tokens of every sequence and then over sequences.
///
/// # When to use it
/// For whole fields of knowledge rather than single answers. With the retain objective `rmu`, and
/// `where = { name = "layers", layers = [l−2, l−1, l], modules = ["down_proj"] }`, as its authors do. Where nothing at or below
/// the layer may change it is refused: there is nothing that could move its hidden states.
///
/// # What it logs
/// `loss_forget`: the distance above, in squared units of the hidden states.
///
/// # Source
/// Li et al., "The WMDP Benchmark: Measuring and Reducing Malicious Use with Unlearning" (RMU), arXiv 2403.03218, which takes
/// layer 7 of 32 and c = 6.5 for a model of 7B; the standard framework takes c = 2 for smaller ones.
///
/// # Inferred parts
/// u is drawn from [0, 1)^d and normalised, as published, once for a seed. The mean is taken sequence by sequence; the
/// published code mixes the lengths of a batch up. The layer, where none is given: a quarter of the way up, as 7 of 32, and not
/// below 2. What watches answers sees forgetting only once the misdirected states reach them.
///
/// # Expected result
/// Noise on the forget set; the rest hardly changes. What was forgotten is hidden from the later layers rather than gone, which
/// relearning shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rmu {
    /// The layer l, counted from 0, behind which hidden states are driven; default: a quarter of the way up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// How far from the origin the point lies: c, in the units of the hidden states.
    #[schemars(range(min = 0.0))]
    pub coefficient: f32,
}

impl Default for Rmu {
    fn default() -> Self {
        Rmu { layer: None, coefficient: 2.0 }
    }
}

impl ForgetObjective for Rmu {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let layer = misdirection::layer(self.layer, pass.model, "forget")?;
        let hidden = pass.residual(&batch.answers, layer)?;
        let point: Vec<f32> =
            direction(batch.seed(), hidden.value().columns()).iter().map(|u| -self.coefficient * u).collect();
        let point = Var::constant(Tensor::from_f32(&point, &[point.len()])?);
        let away = pass.g.add_columns(&hidden, &point)?;
        misdirection::mean_square(pass, &away, &batch.answers)
    }
}

/// The unit vector u of so many dimensions: in the positive orthant, the same for a seed.
pub(super) fn direction(seed: u64, dimensions: usize) -> Vec<f32> {
    let mut rng = Rng::named(seed, "rmu direction");
    let drawn: Vec<f64> = (0..dimensions).map(|_| rng.uniform()).collect();
    let norm = drawn.iter().map(|x| x * x).sum::<f64>().sqrt();
    drawn.iter().map(|x| (x / norm) as f32).collect()
}
