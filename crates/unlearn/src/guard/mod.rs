//! Slot `guard`: what stands around a step, so that what it does lasts.

mod none;
mod sam;

use amend_engine::{Model, Result};
use amend_run::slot;
use serde_json::{Map, Value};

pub use none::NoGuard;
pub use sam::Sam;

use crate::objectives::{LossAndGradients, Objectives};

/// The gradients of one step, as the combination gets them.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Of the forget objective.
    pub forget: LossAndGradients,
    /// Of the retain objective; `None` where there is none.
    pub retain: Option<LossAndGradients>,
}

/// Stands between the model and the combination: decides at which weights the two gradients of a step are taken,
/// and what is done to them before they are combined.
pub trait Safeguard {
    /// The two gradients of a step at `model`. What it has to say about the step goes into `row` of the metrics.
    fn gradients(
        &self,
        model: &Model,
        objectives: &Objectives<'_>,
        row: &mut Map<String, Value>,
    ) -> Result<Pair>;
}

slot! {
    /// What stands around the step.
    pub slot Guard("unlearn", "guard"): dyn Safeguard, default NoGuard {
        "none" => NoGuard,
        "sam" => Sam,
    }
}
