//! AlphaEdit: as MEMIT, where other keys hardly ever are.

use amend_engine::kernels::linalg::{Matrix, solve_spd};
use amend_engine::{Error, Model};
use amend_learn::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::memit::SPAN;
use super::spread::over_layers;
use super::{Bench, Editor, Memory, columns};
use crate::request::Request;
use crate::target::TargetSearch;

/// # What it does
/// Writes facts as MEMIT does, but only into directions that keys of ordinary text hardly use: the update is projected on the
/// eigenvectors of C with eigenvalues below a threshold, and kept from what earlier edits have written:
/// (P·(K·Kᵀ + Kₚ·Kₚᵀ) + L₂·I)·Δᵀ = P·K·Rᵀ.
///
/// # When to use it
/// For many edits one after the other.
///
/// # What it logs
/// `loss_target`, `target_steps`, `target_length`, `change`, `missing` as `memit`; `unused`: the share of directions that it
/// may write into, mean over layers; `remembered`: keys of earlier edits in a layer.
///
/// # Source
/// Fang et al. 2025, AlphaEdit: Null-Space Constrained Knowledge Editing for Language Models, arXiv 2410.02355.
///
/// # Inferred parts
/// The system is solved in its symmetric form, (P·M·P + L₂·I)·Δᵀ = P·K·Rᵀ, whose solution is the same. Keys are remembered as
/// long as the weights are: with `restore`, not at all.
///
/// # Expected result
/// Keys of the text find what they found, up to the threshold; keys of earlier edits nearly so. A curve over a hundred edits
/// that falls more slowly than ROME's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlphaEdit {
    /// The layers that are changed, counted from 0; none: those up to the one that causal tracing finds.
    pub layers: Vec<usize>,
    /// The mean square below which a direction counts as unused.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub threshold: f64,
    /// L₂: how large an update may be.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub l2: f64,
    /// How the target is looked for.
    pub target: TargetSearch,
}

impl Default for AlphaEdit {
    fn default() -> Self {
        AlphaEdit { layers: Vec::new(), threshold: 2e-2, l2: 1.0, target: TargetSearch::default() }
    }
}

impl Editor for AlphaEdit {
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
        memory: &mut Memory,
    ) -> Result<Map<String, Value>> {
        let (mut unused, mut earlier) = (0.0, 0);
        let mut row = over_layers(model, batch, bench, &self.target, |layer, keys, residuals| {
            let (projection, rank) = bench.statistics(layer)?.unused(self.threshold)?;
            if *rank == 0 {
                return Err(Error::invalid(format!(
                    "alpha-edit: every direction of layer {layer} is used (mean squares of {} and more); raise `threshold`",
                    self.threshold
                )));
            }
            let remembered = memory.keys.entry(layer).or_default();
            earlier = remembered.len();
            unused += *rank as f64 / projection.rows() as f64;
            let delta = projected(projection, self.l2, &columns(keys)?, &columns(remembered)?, residuals)?;
            remembered.extend(keys.iter().cloned());
            Ok(delta)
        })?;
        row.insert("unused".into(), json!(unused / bench.layers.len() as f64));
        row.insert("remembered".into(), json!(earlier));
        Ok(row)
    }
}

/// The update Δ [d, f] with (P·(K·Kᵀ + Kₚ·Kₚᵀ) + L₂·I)·Δᵀ = P·K·Rᵀ, for a projection P [f, f], keys K [f, N], keys of earlier
/// edits Kₚ [f, M] and residuals R [d, N].
///
/// # Errors
/// Where shapes do not fit.
pub fn projected(
    projection: &Matrix,
    l2: f64,
    keys: &Matrix,
    earlier: &Matrix,
    residuals: &Matrix,
) -> amend_engine::Result<Matrix> {
    let own = projection.times(keys)?;
    let mut system = own.times(&own.transposed())?;
    if earlier.columns() > 0 {
        let before = projection.times(earlier)?;
        let before = before.times(&before.transposed())?;
        system.values_mut().iter_mut().zip(before.values()).for_each(|(x, b)| *x += b);
    }
    (0..system.rows()).for_each(|i| system.row_mut(i)[i] += l2);
    Ok(residuals.times(&solve_spd(&system, &own)?.transposed())?)
}
