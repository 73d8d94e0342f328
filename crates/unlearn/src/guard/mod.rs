//! Slot `guard`: what stands around a step, so that what it does lasts.

mod curvature;
mod gradient_penalty;
mod mcu;
mod none;
mod sam;
mod smoothing;
mod sure;
mod walk;
mod weight_average;

use std::rc::Rc;

use amend_engine::{Error, Model, Result};
use amend_run::slot;
use serde_json::{Map, Value};

pub use curvature::CurvaturePenalty;
pub use gradient_penalty::GradientPenalty;
pub use mcu::{Mcu, Of};
pub use none::NoGuard;
pub use sam::Sam;
pub use smoothing::RandomisedSmoothing;
pub use sure::Sure;
pub use weight_average::WeightAverage;

use crate::context::Context;
use crate::memory::Memory;
use crate::minor::{MinorBasis, Projection};
use crate::objectives::{LossAndGradients, Objectives};
use crate::recipe::Slots;
use crate::r#where::Where;

/// The gradients of one step, as the combination gets them.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Of the forget objective.
    pub forget: LossAndGradients,
    /// Of the retain objective; `None` where there is none.
    pub retain: Option<LossAndGradients>,
}

/// Stands between the model and the combination: decides at which weights the two gradients of a step are taken,
/// and what is done to them before they are combined. It also has a word after the optimiser's step.
pub trait Safeguard {
    /// The two gradients of a step at `model`. What it has to say about the step goes into `row` of the metrics.
    fn gradients(
        &self,
        model: &Model,
        objectives: &Objectives<'_>,
        row: &mut Map<String, Value>,
    ) -> Result<Pair>;

    /// What follows once the optimiser has taken step number `step`, counted from 0. It may change the weights, and keeps
    /// in `memory` what it needs again.
    fn after_step(
        &self,
        _model: &mut Model,
        _context: &Context<'_>,
        _step: u64,
        _memory: &mut Memory,
    ) -> Result<()> {
        Ok(())
    }

    /// Dominant components that it leaves alone in `model`, kept with the run; `None` where it leaves none.
    fn bases(&self, _model: &Model, _context: &Context<'_>) -> Result<Option<Rc<Vec<MinorBasis>>>> {
        Ok(None)
    }

    /// The model that the steps so far have led to. It is what is looked at, stopped by and saved, where it is another one
    /// than that which takes the steps.
    fn outcome(&self, model: &Model, _memory: &Memory) -> Result<Model> {
        Ok(model.clone())
    }

    /// How many numbers it keeps for every weight that may change, for the size of checkpoints.
    fn remembers(&self) -> u64 {
        0
    }
}

/// The forget objective as a function of the weights.
type Forgetting<'f> = dyn Fn(&Model) -> Result<LossAndGradients> + 'f;

/// Refuses beside a guard what it could not keep its promise with.
pub fn check(slots: &Slots) -> Result<()> {
    let Guard::Mcu(mcu) = &slots.guard else { return Ok(()) };
    if mcu.minor.projection != Projection::Orthonormal {
        return Err(Error::invalid(
            "guard = \"mcu\" needs `projection = \"orthonormal\"`: components that are taken off one after the other leave \
             something of the first",
        ));
    }
    match &slots.r#where {
        place @ (Where::Reglu(_) | Where::Fila(_)) => Err(Error::invalid(format!(
            "guard = \"mcu\" holds what an adapter adds to nothing, and that of where = \"{}\" begins with something; use \
             where = \"lora\", or \"layers\" with modules = [\"down_proj\"]",
            place.name()
        ))),
        _ => Ok(()),
    }
}

slot! {
    /// What stands around the step.
    pub slot Guard("unlearn", "guard"): dyn Safeguard, default NoGuard {
        "none" => NoGuard,
        "sam" => Sam,
        "rs" => RandomisedSmoothing,
        "gp" => GradientPenalty,
        "cr" => CurvaturePenalty,
        "wa" => WeightAverage,
        "sure" => Sure,
        "mcu" => Mcu,
    }
}

#[cfg(test)]
mod tests;
