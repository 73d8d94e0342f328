//! Distances between hidden states, which both halves of RMU are made of.

use amend_engine::{Batch, Error, Model, Result, Var};

use super::Pass;

/// The layer that is asked for, or the usual one: a quarter of the way up, as 7 of 32, and not below 2 where there is
/// one. `slot` is where it was asked for.
pub(crate) fn layer(asked: Option<usize>, model: &Model, slot: &str) -> Result<usize> {
    let layers = model.spec().layers;
    match asked {
        Some(layer) if layer >= layers => Err(Error::invalid(format!(
            "{slot}: `layer = {layer}` of a model whose layers are 0 to {}",
            layers - 1
        ))),
        Some(layer) => Ok(layer),
        None => Ok(usual(layers)),
    }
}

/// The usual layer of so many.
pub(super) fn usual(layers: usize) -> usize {
    (layers / 4).saturating_sub(1).max(2.min(layers.saturating_sub(1)))
}

/// ‖x_t‖²/d of the rows x [T, d] of the scored tokens themselves, its mean over the tokens of every sequence and then over
/// sequences, so that long answers count no more than short ones.
pub(crate) fn mean_square(pass: &mut Pass<'_>, x: &Var, batch: &Batch) -> Result<Var> {
    // A token lies one row behind the one that predicts it.
    let rows: Vec<usize> = batch.rows.iter().map(|row| row + 1).collect();
    let scored = pass.g.gather_rows(x, &rows)?;
    let squares = pass.g.mul(&scored, &scored)?;
    let (width, lengths) = (x.value().columns(), batch.scored_lengths());
    let weight = |&sequence: &usize| {
        let weight = 1.0 / (batch.sequences() * lengths[sequence] * width) as f32;
        std::iter::repeat_n(weight, width)
    };
    let weights: Vec<f32> = batch.sequence.iter().flat_map(weight).collect();
    pass.g.weighted_sum(&squares, &weights)
}
