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
/// Of the gradients g_f and g_r before the weights: `norm_forget` and `norm_retain`, their lengths; `cos_forget_retain`,
/// the cosine of the angle between them; `conflict`, the share of coordinates on which their signs are opposite;
/// `forget_zero`, the share on which g_f is exactly 0. Of the update g before it is clipped: `cos_update_retain` and
/// `cos_update_forget`, its cosines with both; `opposed`, the share of coordinates on which it opposes g_r.
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
