//! Short walks away from where a model is.

use amend_engine::{Gradients, Model};

/// A copy of the model, `distance` away along `direction` (its norm taken over all weights together); where there is no
/// direction, the same model. Taking the walk back would not restore its bits, so the model itself stays where it is.
pub(super) fn walked(model: &Model, distance: f32, direction: &Gradients) -> Model {
    let norm = direction.norm();
    let factor = if norm > 0.0 { (f64::from(distance) / norm) as f32 } else { 0.0 };
    moved(model, factor, direction)
}

/// A copy of the model with `factor · change` added to its weights.
pub(super) fn moved(model: &Model, factor: f32, change: &Gradients) -> Model {
    let mut away = model.clone();
    if factor != 0.0 {
        for (id, change) in change.iter() {
            let weight = &mut away.params.get_mut(id).tensor;
            *weight = weight.zip_map(change, |w, c| factor.mul_add(c, w));
        }
    }
    away
}
