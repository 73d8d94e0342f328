//! Models whose linear weights lie on a coarse grid.

use amend_engine::models::WeightGrid;

use crate::small_models::models;

#[test]
fn only_what_multiplies_inside_of_blocks_is_rounded() {
    for model in models() {
        let family = model.config()["model_type"].clone();
        let mut rounded = model.clone();
        let count = rounded.round_to_grid(WeightGrid::Int4, 8).unwrap();
        let changes = rounded.changes_since(&model).unwrap();
        let changed: Vec<_> = changes.iter().filter(|change| change.bytes > 0).collect();
        let tensor = |name: &str| rounded.params.get(rounded.params.find(name).unwrap()).tensor.clone();
        let in_changed: usize = changed.iter().map(|change| tensor(&change.name).len()).sum();
        assert!(
            count > 0 && in_changed == count,
            "{family}: {count} rounded, {in_changed} in changed tensors"
        );
        let names = rounded.spec().names;
        for change in changed {
            let outside =
                [names.embedding, names.head, names.final_norm].map(|module| format!("{module}.weight"));
            let is_router =
                change.name.ends_with("mlp.gate.weight") || change.name.ends_with("moe.gate.weight");
            let is_linear = tensor(&change.name).shape().len() == 2;
            assert!(is_linear && !is_router && !outside.contains(&change.name), "{family}: {}", change.name);
        }
        let mut again = rounded.clone();
        again.round_to_grid(WeightGrid::Int4, 8).unwrap();
        // A step made anew of its own outermost level may differ in its last bit.
        for change in again.changes_since(&rounded).unwrap() {
            assert!(change.relative < 1e-6, "{family}: {} changed a second time", change.name);
        }
        assert!(rounded.round_to_grid(WeightGrid::Int4, 0).is_err());
    }
}
