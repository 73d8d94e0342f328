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
    /// Share of coordinates on which g_f is exactly 0.
    pub forget_zero: f64,
}

impl Geometry {
    /// Measures a step.
    pub fn of(forget: &Gradients, retain: &Gradients, update: &Gradients) -> Self {
        let total: usize = update.iter().map(|(_, t)| t.len()).sum();
        let share = |count: usize| count as f64 / total.max(1) as f64;
        let differ = |a: f32, b: f32| (a > 0.0 && b < 0.0) || (a < 0.0 && b > 0.0);
        Geometry {
            norm_forget: forget.norm(),
            norm_retain: retain.norm(),
            cos_forget_retain: forget.cosine(retain),
            cos_update_retain: update.cosine(retain),
            cos_update_forget: update.cosine(forget),
            conflict: share(forget.count(retain, differ)),
            opposed: share(update.count(retain, differ)),
            forget_zero: share(forget.count(forget, |f, _| f == 0.0)),
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
