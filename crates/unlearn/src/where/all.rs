//! Everywhere.

use amend_engine::{Model, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Place;
use crate::context::Context;

/// # What it does
/// Every weight may change.
///
/// # When to use it
/// By default, when memory allows optimiser state for the whole model.
///
/// # What it logs
/// Nothing; the model-difference table of the report shows where the change went.
///
/// # Source
/// Common practice.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// The strongest forgetting per step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct All {}

impl Place for All {
    fn prepare(&self, model: &mut Model, _: &Context<'_>) -> Result<()> {
        model.params.set_trainable(|_| true);
        Ok(())
    }

    fn size(&self, model: &Model) -> Result<usize> {
        Ok(model.params.count().0)
    }
}
