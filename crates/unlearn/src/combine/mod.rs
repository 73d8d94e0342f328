//! Slot `combine`: how the forget and the retain gradient become one update.

mod blur;
mod geometry;
mod gru;
mod pcgrad;
mod sago;
mod sum;

use amend_engine::{Error, Gradients, Result};
use amend_run::slot;

pub use blur::Blur;
pub use geometry::Geometry;
pub use gru::Gru;
pub use pcgrad::PcGrad;
pub use sago::Sago;
pub use sum::Sum;

use crate::memory::Memory;

/// Weights of the two gradients. They are applied in the combination and nowhere else: inside the
/// losses as well they would count twice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// γ, weight of the forget gradient.
    pub forget: f32,
    /// α, weight of the retain gradient.
    pub retain: f32,
}

/// A rule that makes one gradient of two. Clipping and the optimiser come after it.
pub trait Combine {
    /// The combined gradient of whole accumulation windows.
    fn combine(&self, forget: &Gradients, retain: &Gradients, weights: Weights) -> Result<Gradients>;

    /// The same for a rule that remembers earlier steps: what it keeps in `memory` is there at the next one.
    fn combine_next(
        &self,
        forget: &Gradients,
        retain: &Gradients,
        weights: Weights,
        _memory: &mut Memory,
    ) -> Result<Gradients> {
        self.combine(forget, retain, weights)
    }

    /// How many numbers it keeps for every weight that may change, for the size of checkpoints.
    fn remembers(&self) -> u64 {
        0
    }

    /// Whether the rule is defined without a retain gradient.
    fn allows_single_loss(&self) -> bool {
        false
    }
}

/// Refuses a combination rule that has nothing to combine.
pub fn check(rule: &Combination, has_retain: bool) -> Result<()> {
    if has_retain || rule.filler().allows_single_loss() {
        return Ok(());
    }
    let name = rule.name();
    Err(Error::invalid(format!(
        "combine = \"{name}\" weighs two gradients against each other, but retain = \"none\" leaves only one; \
         set retain = \"nll\" or \"kl\", or combine = \"sum\""
    )))
}

slot! {
    /// How the forget and the retain gradient become one update.
    pub slot Combination("unlearn", "combine"): dyn Combine, default Sago {
        "sum" => Sum,
        "pcgrad" => PcGrad,
        "blur" => Blur,
        "gru" => Gru,
        "sago" => Sago,
    }
}

#[cfg(test)]
mod tests;
