//! MEMIT: many facts at once, over several layers.

use amend_engine::Model;
use amend_engine::kernels::linalg::{Matrix, solve_spd};
use amend_learn::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::spread::over_layers;
use super::{Bench, Editor, Memory, columns};
use crate::request::Request;
use crate::target::TargetSearch;

/// # What it does
/// Writes many facts at once: finds what the residual stream behind the last of several layers would have to hold at each
/// subject, and spreads what is missing over the layers, each by the least-squares update Δ = R·Kᵀ·(λ·C + K·Kᵀ)⁻¹ of the last
/// matrix of its feed-forward.
///
/// # When to use it
/// For hundreds or thousands of facts; `batch_size` says how many are written together.
///
/// # What it logs
/// `loss_target`, `target_steps`, `target_length` as `rome`, of the residual stream; `change`: ‖ΔW‖/‖W‖, mean over layers;
/// `missing`: what the last layer still lacks of ‖δ‖ when all are changed.
///
/// # Source
/// Meng et al. 2023, Mass-Editing Memory in a Transformer, arXiv 2210.07229, §4.
///
/// # Inferred parts
/// Keys, states and targets are means over all contexts. Where layers are found by tracing, they are the five up to the
/// one that was found, or as many as there are.
///
/// # Expected result
/// With λ near 0 and independent keys an exact fit; with the default, other keys keep their values nearly as they were. As
/// good as ROME on one fact, and on thousands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Memit {
    /// The layers that are changed, counted from 0; none: those up to the one that causal tracing finds.
    pub layers: Vec<usize>,
    /// λ: how many keys of the text one of an edit has to stand up to.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub lambda: f64,
    /// How the target is looked for.
    pub target: TargetSearch,
}

impl Default for Memit {
    fn default() -> Self {
        Memit { layers: Vec::new(), lambda: 15_000.0, target: TargetSearch::default() }
    }
}

/// Layers that are changed, where they are found by tracing.
pub(super) const SPAN: usize = 5;

impl Editor for Memit {
    fn layers(&self) -> Vec<usize> {
        super::ascending(&self.layers)
    }

    fn span(&self) -> usize {
        SPAN
    }

    fn edit(
        &self,
        model: &mut Model,
        batch: &[&Request],
        bench: &Bench,
        _memory: &mut Memory,
    ) -> Result<Map<String, Value>> {
        over_layers(model, batch, bench, &self.target, |layer, keys, residuals| {
            ridge(bench.statistics(layer)?.moment(), self.lambda, &columns(keys)?, residuals)
        })
    }
}

/// Δ = R·Kᵀ·(λ·C + K·Kᵀ)⁻¹ [d, f] for C [f, f], keys K [f, N] and residuals R [d, N].
///
/// # Errors
/// Where shapes do not fit, or the matrix is not positive definite.
pub fn ridge(
    moment: &Matrix,
    lambda: f64,
    keys: &Matrix,
    residuals: &Matrix,
) -> amend_engine::Result<Matrix> {
    let mut system = keys.times(&keys.transposed())?;
    system.values_mut().iter_mut().zip(moment.values()).for_each(|(x, c)| *x += lambda * c);
    Ok(residuals.times(&solve_spd(&system, keys)?.transposed())?)
}
