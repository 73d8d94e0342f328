//! Gradient rectified unlearning.

use amend_engine::{Gradients, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pcgrad::EPSILON;
use super::{Combine, Weights};
use crate::memory::Memory;

/// Under this name the memory has the smoothed retain gradient.
const SMOOTHED: &str = "gru.retain";

/// # What it does
/// Projects the forget gradient onto the half-space in which it does not oppose a smoothed retain gradient, all parameters
/// as one vector: with s ← ρ·g_r + (1 − ρ)·s, where ⟨g_f, s⟩ < 0 it becomes g̃_f = g_f − ⟨g_f, s⟩/(‖s‖² + 1e-10)·s; then
/// g = α·g_r + γ·g̃_f.
///
/// # When to use it
/// As `pcgrad`, where the retain gradient of a single batch is too noisy to say what opposes retention. With
/// `retain_weight = 0` it is the published form, in which retention only rectifies.
///
/// # What it logs
/// As `sum`. `cos_update_retain` is that with the gradient of the step, not with the smoothed one, and may be negative.
///
/// # Source
/// Wang et al., "GRU: Mitigating the Trade-off between Unlearning and Retention for Large Language Models",
/// arXiv 2503.09117; its code smooths with ρ = 0.8.
///
/// # Inferred parts
/// The smoothing begins with the first retain gradient. The source adds no retain gradient; here α says how much of it.
///
/// # Expected result
/// As `pcgrad` with scope `global`, and the same where ρ = 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gru {
    /// Share ρ of the step's own retain gradient in the smoothed one.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub share: f32,
}

impl Default for Gru {
    fn default() -> Self {
        Gru { share: 0.8 }
    }
}

impl Combine for Gru {
    fn combine(&self, forget: &Gradients, retain: &Gradients, weights: Weights) -> Result<Gradients> {
        Ok(rectified(forget, retain, retain, weights))
    }

    fn combine_next(
        &self,
        forget: &Gradients,
        retain: &Gradients,
        weights: Weights,
        memory: &mut Memory,
    ) -> Result<Gradients> {
        let smoothed = match memory.gradients(SMOOTHED) {
            Some(before) => retain.zip_map(before, |now, before| self.share.mul_add(now - before, before)),
            None => retain.clone(),
        };
        let update = rectified(forget, retain, &smoothed, weights);
        memory.keep_gradients(SMOOTHED, smoothed);
        Ok(update)
    }

    fn remembers(&self) -> u64 {
        1
    }
}

/// α·g_r + γ·g̃_f, where g̃_f does not oppose `smoothed`.
fn rectified(forget: &Gradients, retain: &Gradients, smoothed: &Gradients, weights: Weights) -> Gradients {
    let mut update = forget.zip_map(retain, |f, r| weights.retain * r + weights.forget * f);
    let inner = forget.dot(smoothed);
    if inner < 0.0 {
        let factor = inner / (smoothed.dot(smoothed) + EPSILON);
        update.axpy(-weights.forget * factor as f32, smoothed);
        // What neither gradient reached in this step sits it out.
        update.keep_only(|id| forget.get(id).is_some() || retain.get(id).is_some());
    }
    update
}
