//! What the two gradients look like to each other, for the log.

use std::iter::Sum;

use amend_engine::Gradients;
use amend_engine::kernels::dot;
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
        let parameters = Gradients::side_by_side([forget, retain, update], Sums::of);
        let Sums { ff, rr, uu, fr, ur, uf, conflict, opposed, forget_zero } =
            parameters.into_iter().map(|pieces| pieces.into_iter().sum::<Sums>()).sum();
        let [norm_forget, norm_retain, norm_update] = [ff, rr, uu].map(f64::sqrt);
        let cosine = |dot: f64, norms: f64| if norms > 0.0 { dot / norms } else { 0.0 };
        Geometry {
            norm_forget,
            norm_retain,
            cos_forget_retain: cosine(fr, norm_forget * norm_retain),
            cos_update_retain: cosine(ur, norm_update * norm_retain),
            cos_update_forget: cosine(uf, norm_update * norm_forget),
            conflict: share(conflict),
            opposed: share(opposed),
            forget_zero: share(forget_zero),
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

/// Inner products of g_f, g_r and the combined gradient u, and how many coordinates are what is counted.
#[derive(Default)]
struct Sums {
    ff: f64,
    rr: f64,
    uu: f64,
    fr: f64,
    ur: f64,
    uf: f64,
    conflict: usize,
    opposed: usize,
    forget_zero: usize,
}

impl Sums {
    /// Over some coordinates.
    fn of([f, r, u]: [&[f32]; 3]) -> Self {
        Sums {
            ff: dot(f, f),
            rr: dot(r, r),
            uu: dot(u, u),
            fr: dot(f, r),
            ur: dot(u, r),
            uf: dot(u, f),
            conflict: count(f, r, opposed),
            opposed: count(u, r, opposed),
            forget_zero: count(f, u, |f, _| f == 0.0),
        }
    }
}

impl Sum for Sums {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Sums::default(), |a, b| Sums {
            ff: a.ff + b.ff,
            rr: a.rr + b.rr,
            uu: a.uu + b.uu,
            fr: a.fr + b.fr,
            ur: a.ur + b.ur,
            uf: a.uf + b.uf,
            conflict: a.conflict + b.conflict,
            opposed: a.opposed + b.opposed,
            forget_zero: a.forget_zero + b.forget_zero,
        })
    }
}

/// Coordinates for which the rule holds, added up in the width of the numbers, which the compiler makes vectors of.
fn count(a: &[f32], b: &[f32], rule: impl Fn(f32, f32) -> bool) -> usize {
    a.iter().zip(b).map(|(&a, &b)| u32::from(rule(a, b))).sum::<u32>() as usize
}

/// Opposite signs, judged without a product, for two tiny numbers multiply to zero, and without a branch.
pub(super) fn opposed(a: f32, b: f32) -> bool {
    ((a > 0.0) & (b < 0.0)) | ((a < 0.0) & (b > 0.0))
}
