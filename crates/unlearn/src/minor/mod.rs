//! Minor components of representations: what is left of hidden states away from their mean and from the directions in which
//! they vary most, on the forget set and under the model that is to forget.
//!
//! Dominant components are shared by all samples. What is moved along them is moved back by learning other samples again;
//! methods that move the rest alone ask for a [`MinorBasis`].

mod basis;
mod components;
#[cfg(test)]
mod tests;
mod tokens;

use amend_engine::taps::BlockSite;
use amend_engine::{Error, Model, Result, Site};
use amend_learn::work::{Work, mean_tokens};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;

pub use basis::MinorBasis;
pub(crate) use basis::{each_site, layer_of, length, minor_dir, rows_of, write_bases};
pub use components::Component;
pub(crate) use components::{Compared, compare};
pub use tokens::Tokens;

/// How the dominant components are taken off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Projection {
    /// At once, by an orthonormal basis of them all.
    #[default]
    Orthonormal,
    /// One after the other, as the official code does; for the mean is not orthogonal to the others, that is no projection.
    Sequential,
}

/// Which components of hidden states are left alone, and where they are found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Minor {
    /// K, how many dominant components are taken off: the mean, and the K − 1 directions in which states vary most. 0 takes
    /// nothing off.
    pub k: usize,
    /// The tokens of the forget set at which components are found: `text`, `answer` or `subject`.
    pub tokens: Tokens,
    /// First tokens of every sequence that are never looked at: the state of the first is the same in all texts, and so large
    /// that it would be the first component.
    pub cut_off_tokens: usize,
    /// Most sequences of the forget set that are looked at, drawn at random.
    #[schemars(range(min = 1))]
    pub sequences: usize,
    /// `orthonormal` or `sequential`.
    pub projection: Projection,
}

impl Default for Minor {
    fn default() -> Self {
        Minor {
            k: 8,
            tokens: Tokens::Text,
            cut_off_tokens: 1,
            sequences: 256,
            projection: Projection::Orthonormal,
        }
    }
}

impl Minor {
    /// What finding the components takes, which looks at every token `passes` times.
    pub(crate) fn work(&self, context: &Context<'_>, passes: usize) -> Work {
        let sequences = self.sequences.min(context.forget.len());
        Work { scored: passes * sequences * mean_tokens(&context.forget), ..Work::default() }
    }
}

/// The residual stream behind a block.
pub(crate) fn behind(layer: usize) -> Site {
    Site::Block(layer, BlockSite::ResidPost)
}

/// Refuses a layer that a model has not; `asked` is what was asked for, as a recipe says it.
pub(crate) fn check_layer(layer: usize, model: &Model, asked: &str) -> Result<()> {
    match model.spec().layers {
        layers if layer < layers => Ok(()),
        layers => Err(Error::invalid(format!("{asked} of a model whose layers are 0 to {}", layers - 1))),
    }
}
