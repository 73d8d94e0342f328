//! What MEMIT and AlphaEdit have in common: what is missing at the last layer is spread over several.

use amend_engine::kernels::linalg::Matrix;
use amend_engine::taps::BlockSite;
use amend_engine::{Error, Model, Site};
use amend_learn::Result;
use serde_json::{Map, Value, json};

use super::{Bench, add, columns, mean};
use crate::reading::{key_site, means_at};
use crate::request::Request;
use crate::target::{Target, TargetSearch, norm};

/// Goes through the layers, first to last. At each, keys and states are read anew, what is still missing of the target at
/// the last layer is shared out among the layers that are left, and `solve` turns keys K [f, N] and residuals R [d, N] of the
/// layer into an update [d, f].
pub(super) fn over_layers(
    model: &mut Model,
    batch: &[&Request],
    bench: &Bench,
    search: &TargetSearch,
    mut solve: impl FnMut(usize, &[Vec<f32>], &Matrix) -> amend_engine::Result<Matrix>,
) -> Result<Map<String, Value>> {
    let Some(&last) = bench.layers.last() else {
        return Err(Error::invalid("there is no layer to change").into());
    };
    let stream = Site::Block(last, BlockSite::ResidPost);
    // All targets are found in the model as it was before the batch.
    let found = batch
        .iter()
        .map(|request| search.find(model, stream, request))
        .collect::<amend_engine::Result<Vec<_>>>()?;
    let mut change = Vec::new();
    for (done, &layer) in bench.layers.iter().enumerate() {
        let keys = means_at(model, key_site(layer), batch)?;
        let now = means_at(model, stream, batch)?;
        let left = (bench.layers.len() - done) as f32;
        let missing: Vec<Vec<f32>> =
            found.iter().zip(&now).map(|(target, now)| target.missing(now, left)).collect();
        let delta = solve(layer, &keys, &columns(&missing)?)?;
        change.push(add(model, layer, &delta)?);
    }
    let mut row = logged(&found);
    row.insert("change".into(), json!(mean(change.into_iter())));
    let now = means_at(model, stream, batch)?;
    let left = found.iter().zip(&now).map(|(target, now)| {
        f64::from(norm(&target.missing(now, 1.0)) / norm(&target.shift).max(f32::MIN_POSITIVE))
    });
    row.insert("missing".into(), json!(mean(left)));
    Ok(row)
}

impl Target {
    /// What is missing of it where there is `now`, shared out among `parts`.
    fn missing(&self, now: &[f32], parts: f32) -> Vec<f32> {
        let aim = self.start.iter().zip(&self.shift).map(|(start, shift)| start + shift);
        aim.zip(now).map(|(aim, now)| (aim - now) / parts).collect()
    }
}

/// What is logged of targets that were found.
pub(super) fn logged(found: &[Target]) -> Map<String, Value> {
    let of = |value: fn(&Target) -> f64| json!(mean(found.iter().map(value)));
    Map::from_iter([
        ("loss_target".to_owned(), of(|target| target.nll)),
        ("target_steps".to_owned(), of(|target| target.steps as f64)),
        ("target_length".to_owned(), of(|target| f64::from(norm(&target.shift) / norm(&target.start)))),
    ])
}
