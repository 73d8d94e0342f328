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
pub(crate) fn usual(layers: usize) -> usize {
    (layers / 4).saturating_sub(1).max(2.min(layers.saturating_sub(1)))
}

/// Rows of a batch that a loss of hidden states looks at.
pub(crate) struct Looked {
    /// The rows, sequence by sequence.
    pub(crate) rows: Vec<usize>,
    /// The sequence of each.
    sequence: Vec<usize>,
    /// How many each sequence has.
    counts: Vec<usize>,
}

impl Looked {
    /// The rows at these positions of every sequence.
    ///
    /// # Errors
    /// Where a sequence has none.
    pub(crate) fn at(batch: &Batch, positions: &[Vec<usize>]) -> Result<Self> {
        let mut looked = Looked { rows: Vec::new(), sequence: Vec::new(), counts: Vec::new() };
        for (i, (own, at)) in batch.layout.sequences.iter().zip(positions).enumerate() {
            if at.is_empty() {
                return Err(Error::invalid("a record has no token whose hidden state could be looked at"));
            }
            looked.rows.extend(at.iter().map(|position| own.start + position));
            looked.sequence.extend(std::iter::repeat_n(i, at.len()));
            looked.counts.push(at.len());
        }
        Ok(looked)
    }
}

/// ‖x_t‖²/d of the rows of x [T, d] that are looked at, its mean over those of every sequence and then over sequences, so
/// that long answers count no more than short ones.
pub(crate) fn mean_square(pass: &mut Pass<'_>, x: &Var, looked: &Looked) -> Result<Var> {
    let seen = pass.g.gather_rows(x, &looked.rows)?;
    let squares = pass.g.mul(&seen, &seen)?;
    let (width, counts) = (x.value().columns(), &looked.counts);
    let weight = |&sequence: &usize| {
        let weight = 1.0 / (counts.len() * counts[sequence] * width) as f32;
        std::iter::repeat_n(weight, width)
    };
    let weights: Vec<f32> = looked.sequence.iter().flat_map(weight).collect();
    pass.g.weighted_sum(&squares, &weights)
}
