//! In a low-rank adapter that begins in the weights that matter to what is to be forgotten.

use amend_engine::kernels::linalg::{Matrix, svd};
use amend_engine::models::LoraOptions;
use amend_engine::{Model, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Place;
use super::reglu::check_rank;
use crate::context::{Context, Side};
use crate::features::{Sampled, of_layer};

/// Of the mean importance of a layer's rows, what is added to each, so that rows without any have a ratio.
const FLOOR: f64 = 1e-6;

/// # What it does
/// Freezes the model and trains a low-rank adapter that begins as the part of the weights that matters to the forget set more
/// than to the retain set. FILA: every row i of a weight W₀ has the weight w_i = F_f/F_r, the ratio of its Fisher information
/// on both sets; B·A is the matrix of rank r that comes closest to W₀ when squared errors are weighed so, by the
/// singular vectors of diag(√w)·W₀; and the base is W₀ − s·B·A with s = alpha / r, so that nothing has changed yet.
///
/// # When to use it
/// As the baseline of `reglu`, with `ihl`. It costs a backward pass over `sequences` items of both sets, one at a
/// time, and a singular value decomposition of every adapted weight: minutes for weights of some thousand rows.
///
/// # What it logs
/// Nothing of its own.
///
/// # Source
/// Cha et al., "Towards Robust and Parameter-Efficient Knowledge Unlearning for LLMs" (LoKU), arXiv 2408.06621.
///
/// # Inferred parts
/// F is the mean over sequences of the squared gradient of their mean cross-entropy, summed along the row, to which a
/// millionth of the layer's mean is added. B and A share the singular values evenly. As with `reglu`, what is held and written
/// is the adapter of rank 2r for the original model that computes the same.
///
/// # Expected result
/// In the miniature of `reglu` (seeds 0, 1, 2) the same forgetting in 69, 52, 54 steps, fewer than with any
/// other beginning, with retain accuracies of 0.59, 0.86, 0.94 on the way, where `reglu` has 0.59, 0.70, 0.69.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fila {
    /// Rank of the update: no more than a layer has inputs, or outputs.
    #[schemars(range(min = 1))]
    pub r: usize,
    /// The update is scaled by alpha / r.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub alpha: f32,
    /// Projections to adapt (`q_proj`, `down_proj`, …); empty means all linear layers of all blocks.
    pub targets: Vec<String>,
    /// Most sequences of each set that are looked at.
    #[schemars(range(min = 1))]
    pub sequences: usize,
}

impl Default for Fila {
    fn default() -> Self {
        Fila { r: 16, alpha: 32.0, targets: Vec::new(), sequences: 256 }
    }
}

impl Place for Fila {
    fn prepare(&self, model: &mut Model, context: &Context<'_>) -> Result<()> {
        let layers = model.lora_layers(&self.options())?;
        let of = |side| context.row_importance(&Sampled { side, sequences: self.sequences, layers: &layers });
        let [forget, retain] = [of(Side::Forget)?, of(Side::Retain)?];
        let starts = context.starts(self, &layers, |layer, weight| {
            check_rank(self.r, layer, [weight.rows(), weight.columns()])?;
            let ratios = ratios(of_layer(&forget, layer)?, of_layer(&retain, layer)?);
            let [a, b] = weighted_factors(&Matrix::from_tensor(weight), &ratios, self.r)?;
            Ok([a.to_tensor(), b.to_tensor()])
        })?;
        model.attach_started_lora(&self.options(), |layer, _| of_layer(&starts, layer).cloned())
    }

    fn size(&self, model: &Model) -> Result<usize> {
        model.lora_weights(&self.options())
    }
}

impl Fila {
    fn options(&self) -> LoraOptions {
        LoraOptions { r: self.r, alpha: self.alpha, targets: self.targets.clone() }
    }
}

/// What rows matter to the forget set for what they matter to the retain set.
fn ratios(forget: &[f64], retain: &[f64]) -> Vec<f64> {
    let floor = |all: &[f64]| {
        // Rows that nothing reaches leave all ratios at 1.
        FLOOR * all.iter().sum::<f64>() / all.len().max(1) as f64 + f64::MIN_POSITIVE
    };
    let floor = floor(forget).max(floor(retain));
    forget.iter().zip(retain).map(|(f, r)| (f + floor) / (r + floor)).collect()
}

/// A [r, in] and B [out, r] whose product comes closest to W [out, in], errors of row i weighed by `weights[i]`.
fn weighted_factors(w: &Matrix, weights: &[f64], r: usize) -> Result<[Matrix; 2]> {
    let mut scaled = w.clone();
    for (i, weight) in weights.iter().enumerate() {
        scaled.row_mut(i).iter_mut().for_each(|x| *x *= weight.sqrt());
    }
    let found = svd(&scaled)?;
    let (mut a, mut b) = (Matrix::zeros(r, w.columns()), Matrix::zeros(w.rows(), r));
    for j in 0..r {
        let root = found.values[j].sqrt();
        a.row_mut(j).iter_mut().zip(found.right.row(j)).for_each(|(a, v)| *a = root * v);
        for (i, weight) in weights.iter().enumerate() {
            b.row_mut(i)[j] = root * found.left.at(j, i) / weight.sqrt();
        }
    }
    Ok([a, b])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight() -> Matrix {
        Matrix::new(3, 2, vec![3.0, 0.5, -1.0, 2.0, 0.25, 4.0]).unwrap()
    }

    fn product([a, b]: &[Matrix; 2]) -> Matrix {
        b.times(a).unwrap()
    }

    fn error(w: &Matrix, of: &Matrix, weights: &[f64]) -> f64 {
        let row = |i: usize| {
            let squares = w.row(i).iter().zip(of.row(i)).map(|(a, b)| (a - b) * (a - b));
            weights[i] * squares.sum::<f64>()
        };
        (0..3).map(row).sum()
    }

    #[test]
    fn at_full_rank_the_factors_are_the_weight() {
        let w = weight();
        let found = product(&weighted_factors(&w, &[1.0, 100.0, 0.01], 2).unwrap());
        assert!(error(&w, &found, &[1.0; 3]) < 1e-20);
    }

    /// The best under its own weights, and worse under others: the weighting does something, and the right thing.
    #[test]
    fn of_lower_rank_they_err_least_where_it_counts() {
        let (w, even, uneven) = (weight(), [1.0; 3], [1.0, 50.0, 0.1]);
        let [plain, weighted] = [even, uneven].map(|by| product(&weighted_factors(&w, &by, 1).unwrap()));
        assert!(error(&w, &weighted, &uneven) < 0.9 * error(&w, &plain, &uneven));
        assert!(error(&w, &plain, &even) < 0.9 * error(&w, &weighted, &even));
    }

    #[test]
    fn rows_that_nothing_reaches_count_as_any_other() {
        assert_eq!(ratios(&[0.0, 0.0], &[0.0, 0.0]), [1.0, 1.0]);
        let found = ratios(&[4.0, 0.0, 1.0], &[1.0, 0.0, 2.0]);
        assert!(
            (found[0] - 4.0).abs() < 1e-4 && (found[1] - 1.0).abs() < 1e-4 && (found[2] - 0.5).abs() < 1e-4
        );
    }
}
