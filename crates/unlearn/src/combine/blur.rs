//! The forget gradient, always orthogonal to the retain gradient.

use amend_engine::{Gradients, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pcgrad::{Scope, without};
use super::{Combine, Weights};

/// # What it does
/// Removes from the forget gradient its component along the retain gradient, whether the two conflict or not:
/// g̃_f = g_f − ⟨g_f, g_r⟩/(‖g_r‖² + 1e-10)·g_r; then g = α·g_r + γ·g̃_f. So forgetting changes the retain loss neither way,
/// to first order.
///
/// # When to use it
/// Where even forgetting that helps retention is not wanted, since it counts the same facts twice; otherwise `pcgrad`.
///
/// # What it logs
/// As `sum`.
///
/// # Source
/// The variant `blur` in the code of "Modeling LLM Unlearning as an Asymmetric Two-Task Learning Problem",
/// arXiv 2604.14808.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// As `pcgrad` where gradients conflict, which they mostly do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Blur {
    /// Over what the component is taken: `tensor` or `global`.
    pub scope: Scope,
}

impl Combine for Blur {
    fn combine(&self, forget: &Gradients, retain: &Gradients, weights: Weights) -> Result<Gradients> {
        without(self.scope, forget, retain, weights, |_| true)
    }
}
