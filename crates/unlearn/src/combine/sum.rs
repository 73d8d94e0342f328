//! The weighted sum.

use amend_engine::{Gradients, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Combine, Weights};

/// # What it does
/// g = α·g_r + γ·g_f: what adding the two losses amounts to.
///
/// # When to use it
/// As the baseline, and for objectives that are gentle by themselves.
///
/// # What it logs
/// `cos_forget_retain`, `cos_update_retain`, `cos_update_forget`, `conflict` (share of coordinates where
/// the two gradients have opposite signs), `norm_forget`, `norm_retain`.
///
/// # Source
/// Common practice (GradDiff, NPO+GD and others).
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// Forgets fastest, and takes the most retained knowledge with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sum {}

impl Combine for Sum {
    fn combine(&self, forget: &Gradients, retain: &Gradients, weights: Weights) -> Result<Gradients> {
        Ok(forget.zip_map(retain, |f, r| weights.retain * r + weights.forget * f))
    }

    fn allows_single_loss(&self) -> bool {
        true
    }
}
