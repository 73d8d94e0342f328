//! No retain objective.

use amend_engine::{Model, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RetainBatch, RetainObjective};
use crate::objectives::LossAndGradients;

/// # What it does
/// Nothing: only the forget objective acts.
///
/// # When to use it
/// To see what an objective does alone. Combinations of two gradients (PCGrad, SAGO) refuse it.
///
/// # What it logs
/// Nothing.
///
/// # Source
/// Jang et al., arXiv 2210.01504, use gradient ascent this way.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// With gradient ascent, a model that has forgotten everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NoRetain {}

impl RetainObjective for NoRetain {
    fn gradients(&self, _: &Model, _: &RetainBatch<'_>) -> Result<Option<LossAndGradients>> {
        Ok(None)
    }

    fn is_active(&self) -> bool {
        false
    }
}
