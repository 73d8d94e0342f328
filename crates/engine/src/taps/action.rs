//! What a tap does to the part of a value that it selects.

use crate::gradients::LeafId;
use crate::tape::{Graph, Var};
use crate::{DType, Error, Result, Tensor};

use super::{Origin, TowerSite};

/// A function of the selected part x [rows, columns] of a site's value, which gives what comes in its
/// place, of the same shape. It computes on the graph that the model runs in, so gradients flow through it,
/// to the model's own parameters and to leaves and inputs among them. The origins say, row by row, which
/// token is seen.
///
/// With activation checkpointing it is called again in the backward pass, and has to give the same values. Where it fails
/// at several generated sequences together, it is called again for each alone.
pub type TapFunction = dyn for<'m> Fn(&mut Graph<'m>, &Var, &[Origin]) -> Result<Var> + Send + Sync;

/// What is done to the selected part of a site's value.
pub enum Action {
    /// Copy it out; fetch it with [`Taps::take`](super::Taps::take).
    Read,
    /// Keep the value itself, which the same graph can go on computing with; [`Taps::held`](super::Taps::held) has it.
    Hold,
    /// Put these values in its place. Shape: [selected rows, selected columns], or one row for all.
    Replace(Tensor),
    /// Add these values. Shape as for `Replace`.
    Add(Tensor),
    /// Multiply by a number.
    Scale(f32),
    /// Set to zero.
    Zero,
    /// Ask for its gradient; [`Gradients::leaves`](crate::Gradients::leaves) has it after the backward pass.
    Leaf(LeafId),
    /// Put what a function makes of it in its place.
    Function(Box<TapFunction>),
}

impl Action {
    /// An action that puts `function` of the selected part in its place.
    pub fn function(
        function: impl for<'m> Fn(&mut Graph<'m>, &Var, &[Origin]) -> Result<Var> + Send + Sync + 'static,
    ) -> Self {
        Action::Function(Box::new(function))
    }

    /// What comes in place of the selected part x [rows, columns].
    pub(super) fn on<'m>(
        &self,
        g: &mut Graph<'m>,
        site: TowerSite,
        x: &Var,
        origins: &[Origin],
    ) -> Result<Var> {
        match self {
            Action::Read | Action::Hold => Ok(x.clone()),
            Action::Replace(values) => Ok(Var::constant(rows_of(values, x, site)?)),
            Action::Add(values) => {
                let values = Var::constant(rows_of(values, x, site)?);
                g.add(x, &values)
            }
            Action::Scale(factor) => g.scale(x, *factor),
            Action::Zero => Ok(Var::constant(Tensor::zeros(x.shape(), DType::F32))),
            Action::Leaf(id) => Ok(g.leaf(x, *id)),
            Action::Function(function) => {
                let y = function(g, x, origins)?;
                match (y.shape() == x.shape(), y.value().dtype()) {
                    (true, DType::F32) => Ok(y),
                    (true, dtype) => {
                        Err(Error::invalid(format!("{site}: a function gave numbers in {dtype}; give f32")))
                    }
                    (false, _) => {
                        Err(Error::shape(format!("{site}: what a function gave"), x.shape(), y.shape()))
                    }
                }
            }
        }
    }
}

/// Values in the shape of x: as they are, or one row as often as it takes.
fn rows_of(values: &Tensor, x: &Var, site: TowerSite) -> Result<Tensor> {
    let values = values.to_f32();
    if values.len() == x.value().len() {
        return Ok(values.reshape(x.shape())?);
    }
    let columns = x.value().columns();
    if values.len() != columns {
        return Err(Error::shape(site.to_string(), x.shape(), values.shape()));
    }
    Ok(Tensor::build(x.shape(), |out| {
        out.chunks_exact_mut(columns.max(1)).for_each(|row| row.copy_from_slice(values.f32()));
    }))
}
