//! ROME: one fact, one layer, one rank.

use amend_engine::kernels::linalg::Matrix;
use amend_engine::taps::BlockSite;
use amend_engine::{Error, Model, Site};
use amend_learn::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Bench, Editor, Memory, add, columns, mean};
use crate::reading::{key_site, means_at};
use crate::request::Request;
use crate::target::TargetSearch;

/// # What it does
/// Takes the last matrix W of one feed-forward for a memory of keys and values, and writes one more pair into it, with the
/// update of rank one that changes least of what other keys find: W ← W + (v* − W·k)·uᵀ/(kᵀ·u), u = C⁻¹·k. The key k is
/// what the matrix reads at the subject's last token, the value v* what it would have to give there for the new target to
/// follow.
///
/// # When to use it
/// For single facts. Several edits are made one after the other; after some hundred of them a model comes apart, and
/// `alpha-edit` lasts longer.
///
/// # What it logs
/// `loss_target`: loss of the new target with v* in its place, nats per token, mean over contexts and edits; `target_steps`:
/// steps to find it; `target_length`: ‖v* − v₀‖/‖v₀‖; `change`: ‖ΔW‖/‖W‖.
///
/// # Source
/// Meng et al. 2022, Locating and Editing Factual Associations in GPT, arXiv 2202.05262, §3; with the averaged key
/// everywhere, Gupta et al. 2024, Rebuilding ROME, arXiv 2403.07175.
///
/// # Inferred parts
/// v₀ is the mean over contexts, as k is. A ridge makes C invertible where the text was short (`statistics`).
///
/// # Expected result
/// W·k = v* to rounding. On CounterFact with a model of some billion parameters an efficacy near 1, a generalisation above
/// 0.9, and a locality around 0.8.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rome {
    /// The layer that is changed, counted from 0; absent: the one that causal tracing finds.
    pub layer: Option<usize>,
    /// How v* is looked for.
    pub target: TargetSearch,
}

impl Editor for Rome {
    fn layers(&self) -> Vec<usize> {
        self.layer.into_iter().collect()
    }

    fn edit(
        &self,
        model: &mut Model,
        batch: &[&Request],
        bench: &Bench,
        _memory: &mut Memory,
    ) -> Result<Map<String, Value>> {
        let [layer] = bench.layers[..] else {
            return Err(Error::invalid("ROME changes one layer").into());
        };
        let mut found = Vec::new();
        let mut change = Vec::new();
        for request in batch {
            let target = self.target.find(model, Site::Block(layer, BlockSite::MlpOut), request)?;
            let key = columns(&means_at(model, key_site(layer), &[request])?)?;
            let direction = bench.statistics(layer)?.whitened(&key)?;
            let shift = columns(std::slice::from_ref(&target.shift))?;
            change.push(add(model, layer, &rank_one(&shift, &key, &direction)?)?);
            found.push(target);
        }
        let mut row = super::spread::logged(&found);
        row.insert("change".into(), json!(mean(change.into_iter())));
        Ok(row)
    }
}

/// The update of rank one after which the key [f, 1] gives `shift` [d, 1] more than before, and every key at right angles to
/// `direction` [f, 1] what it gave: shift·uᵀ/(kᵀ·u).
///
/// # Errors
/// Where the key is at right angles to the direction itself, or vectors do not fit.
pub fn rank_one(shift: &Matrix, key: &Matrix, direction: &Matrix) -> amend_engine::Result<Matrix> {
    let along = key.transposed().times(direction)?.at(0, 0);
    if !along.is_finite() || along == 0.0 {
        return Err(Error::invalid(
            "the key of the edit vanishes in this layer; nothing can be written there, choose another `layer`",
        ));
    }
    let mut delta = shift.times(&direction.transposed())?;
    delta.values_mut().iter_mut().for_each(|x| *x /= along);
    Ok(delta)
}
