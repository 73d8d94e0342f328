//! What the two gradients look like to each other, for the log.

use amend_engine::Gradients;
use serde::Serialize;
use serde_json::{Map, Value};

/// Angles and conflicts of one step.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Geometry {
    /// ‖g_f‖.
    pub norm_forget: f64,
    /// ‖g_r‖.
    pub norm_retain: f64,
    /// cos(g_f, g_r).
    pub cos_forget_retain: f64,
    /// cos(g, g_r) of the combined gradient.
    pub cos_update_retain: f64,
    /// cos(g, g_f) of the combined gradient.
    pub cos_update_forget: f64,
    /// Share of coordinates on which g_f and g_r have opposite signs.
    pub conflict: f64,
    /// Share of coordinates on which the combined gradient opposes g_r.
    pub opposed: f64,
    /// Share of coordinates on which g_f is exactly 0, parameters that it did not reach included.
    pub forget_zero: f64,
}

impl Geometry {
    /// Measures a step.
    pub fn of(forget: &Gradients, retain: &Gradients, update: &Gradients) -> Self {
        let total: usize = update.iter().map(|(_, t)| t.len()).sum();
        let share = |count: usize| count as f64 / total.max(1) as f64;
        let [norm_forget, norm_retain, norm_update] = [forget, retain, update].map(Gradients::norm);
        let cosine = |dot: f64, norms: f64| if norms > 0.0 { dot / norms } else { 0.0 };
        Geometry {
            norm_forget,
            norm_retain,
            cos_forget_retain: cosine(forget.dot(retain), norm_forget * norm_retain),
            cos_update_retain: cosine(update.dot(retain), norm_update * norm_retain),
            cos_update_forget: cosine(update.dot(forget), norm_update * norm_forget),
            conflict: share(forget.count(retain, opposed)),
            opposed: share(update.count(retain, opposed)),
            forget_zero: share(update.count(forget, |_, f| f == 0.0)),
        }
    }

    /// The same, as values of a step's row.
    pub fn row(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(row)) => row,
            _ => Map::new(),
        }
    }
}

/// Opposite signs, judged without a product, for two tiny numbers multiply to zero, and without a branch.
pub(super) fn opposed(a: f32, b: f32) -> bool {
    ((a > 0.0) & (b < 0.0)) | ((a < 0.0) & (b > 0.0))
}
