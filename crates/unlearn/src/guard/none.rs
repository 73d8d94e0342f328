//! Nothing.

use amend_engine::{Model, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Pair, Safeguard};
use crate::objectives::Objectives;

/// # What it does
/// Takes both gradients where the model is.
///
/// # When to use it
/// By default.
///
/// # What it logs
/// Nothing.
///
/// # Source
/// Common practice.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// What the objectives and the combination do by themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NoGuard {}

impl Safeguard for NoGuard {
    fn gradients(
        &self,
        model: &Model,
        objectives: &Objectives<'_>,
        _: &mut Map<String, Value>,
    ) -> Result<Pair> {
        Ok(Pair { forget: objectives.forget(model)?, retain: objectives.retain(model)? })
    }
}
