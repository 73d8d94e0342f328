//! Where adapters write, layer by layer.

use amend_run::in_short;
use amend_run::report::{Cell, Table};

use crate::outcome::{ArmResult, SeedResult};
use crate::r#where::LayerEnergy;

/// Layers shown.
const LAYERS: usize = 24;

/// The layers in which adapters write most where the retain set is, of the arms that can tell; `None` where none can.
pub(super) fn of_layers(seed: &SeedResult) -> Option<Table> {
    let arms: Vec<&ArmResult> = seed.arms.iter().filter(|arm| !arm.unlearned.energies.is_empty()).collect();
    let first = &arms.first()?.unlearned.energies;
    let mut layers: Vec<(&str, f64)> =
        first.iter().map(|[_, after]| (after.layer.as_str(), after.retain)).collect();
    layers.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut columns = vec!["layer".to_owned()];
    for arm in &arms {
        columns.extend(["forget energy", "retain energy"].map(|what| format!("{}: {what}", arm.name)));
    }
    let row = |&(layer, _): &(&str, f64)| {
        let cells = arms.iter().flat_map(|arm| {
            let found = arm.unlearned.energies.iter().find(|[before, _]| before.layer == layer);
            let shown = |of: fn(&LayerEnergy) -> f64| match found {
                Some([before, after]) => format!("{} → {}", in_short(of(before)), in_short(of(after))),
                None => "–".to_owned(),
            };
            [shown(|energy| energy.forget), shown(|energy| energy.retain)].map(Cell::from)
        });
        std::iter::once(Cell::from(layer)).chain(cells).collect()
    };
    Some(Table {
        caption: format!(
            "The share tr(BᵀCB)/tr C of the layers' outputs on both sets that lies where the adapter writes, to begin with \
             and at the end: the {} layers of {} with the most of the retain set's",
            layers.len().min(LAYERS),
            layers.len()
        ),
        columns,
        rows: layers.iter().take(LAYERS).map(row).collect(),
    })
}
