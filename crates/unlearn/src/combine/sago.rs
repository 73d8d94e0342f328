//! Sign-aligned gradient synthesis.

use amend_engine::{Gradients, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::geometry::opposed;
use super::{Combine, Weights};

/// # What it does
/// Decides coordinate by coordinate: where the two gradients have opposite signs the update is α·g_r,
/// everywhere else γ·g_f. No coordinate of the update opposes the retain gradient.
///
/// # When to use it
/// When retained knowledge must not suffer. It takes more steps to the same forgetting than `sum`.
///
/// # What it logs
/// As `sum`. The coordinates of `forget_zero` (unused embedding rows, for instance) count as aligned and receive no
/// retain gradient either; `opposed` is 0.
///
/// # Source
/// "Modeling LLM Unlearning as an Asymmetric Two-Task Learning Problem" (SAGO), arXiv 2604.14808.
///
/// # Inferred parts
/// None. The claim that its cosine with the retain gradient is above PCGrad's holds for typical gradients,
/// not always (g_r = (10, 1, 1), g_f = (0.01, −20, 5) is a counterexample), and concerns the gradient rather
/// than AdamW's step.
///
/// # Expected result
/// At matched forgetting, retain accuracy at least PCGrad's, which is at least the sum's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sago {}

impl Combine for Sago {
    fn combine(&self, forget: &Gradients, retain: &Gradients, weights: Weights) -> Result<Gradients> {
        // Where the two tasks disagree about a coordinate's sign, retention decides.
        Ok(forget.zip_map(retain, |f, r| if opposed(f, r) { weights.retain * r } else { weights.forget * f }))
    }
}
