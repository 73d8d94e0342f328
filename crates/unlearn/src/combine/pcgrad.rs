//! One-directional gradient surgery.

use amend_engine::{Gradients, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Combine, Weights};

/// Added to the squared norm that the projection divides by.
pub(super) const EPSILON: f64 = 1e-10;

/// Over what the conflict is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Every parameter tensor by itself.
    #[default]
    Tensor,
    /// All parameters as one vector.
    Global,
}

/// # What it does
/// Where the forget gradient opposes the retain gradient (⟨g_f, g_r⟩ < 0), removes its component along it:
/// g̃_f = g_f − ⟨g_f, g_r⟩/(‖g_r‖² + 1e-10)·g_r; then g = α·g_r + γ·g̃_f. The retain gradient is never
/// projected, so its cosine with the update is not negative.
///
/// # When to use it
/// When whole tensors conflict. Fused tensors (one matrix for queries, keys and values) change what `tensor`
/// scope means; `global` does not care.
///
/// # What it logs
/// As `sum`.
///
/// # Source
/// Yu et al., "Gradient Surgery for Multi-Task Learning", arXiv 2001.06782, made one-directional in
/// "Modeling LLM Unlearning as an Asymmetric Two-Task Learning Problem", arXiv 2604.14808.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// At matched forgetting, retained knowledge between `sum` and `sago`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PcGrad {
    /// Over what the conflict is judged: `tensor` or `global`.
    pub scope: Scope,
}

impl Combine for PcGrad {
    fn combine(&self, forget: &Gradients, retain: &Gradients, weights: Weights) -> Result<Gradients> {
        without(self.scope, forget, retain, weights, |inner| inner < 0.0)
    }
}

/// `α·g_r + γ·g̃_f`, where g̃_f is the forget gradient without its component along the retain gradient, wherever `removes`
/// says so of their inner product.
pub(super) fn without(
    scope: Scope,
    forget: &Gradients,
    retain: &Gradients,
    weights: Weights,
    removes: impl Fn(f64) -> bool,
) -> Result<Gradients> {
    let factor = |inner: f64, square: f64| match removes(inner) {
        true => (inner / (square + EPSILON)) as f32,
        false => 0.0,
    };
    let global = (scope == Scope::Global).then(|| factor(forget.dot(retain), retain.dot(retain)));
    forget.zip_tensors(retain, |_, f, r| {
        let factor = global.unwrap_or_else(|| factor(f.dot(r), r.dot(r)));
        Ok(f.zip_map(r, |f, r| weights.retain * r + weights.forget * (f - factor * r)))
    })
}
