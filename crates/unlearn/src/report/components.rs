//! What became of components of hidden states.

use amend_run::Figure;
use amend_run::report::{Cell, Table};

use super::Attacked;
use crate::minor::Component;
use crate::verdict::over_seeds;

/// Components shown.
const COMPONENTS: usize = 24;

/// How far forgetting moved the components of hidden states, and how much of that an attack undid, model by model; `None` where
/// the attack does not look at them.
pub(super) fn of_attack(attack: &Attacked<'_>) -> Option<Table> {
    let models: Vec<_> = attack
        .models
        .iter()
        .filter(|(_, seeds)| seeds.iter().all(|findings| !findings.components.is_empty()))
        .collect();
    let (_, seeds) = models.first()?;
    let shown = &seeds.first()?.components;
    let mut columns = vec!["component".to_owned(), "explained variance".to_owned()];
    for (name, _) in &models {
        columns.extend(["change", "recovery"].map(|what| format!("{name}: {what}")));
    }
    let row = |component: &Component| {
        let of_index = |of: &dyn Fn(&Component) -> Figure, model: usize| {
            let of_seed = |findings: &&crate::attack::Findings| {
                findings.components.iter().find(|c| c.index == component.index).map(of)
            };
            let figures: Option<Vec<Figure>> = models[model].1.iter().map(of_seed).collect();
            let figure = figures.map(over_seeds).filter(|figure| figure.value.is_finite());
            figure.map_or_else(|| Cell::from("–"), Cell::from)
        };
        let explained = component.explained.filter(|share| share.is_finite());
        let mut cells = vec![
            Cell::from(if component.index == 0 { "mean".to_owned() } else { component.index.to_string() }),
            explained.map_or_else(|| Cell::from("–"), |share| Cell::from(Figure::exact(share, 0))),
        ];
        for model in 0..models.len() {
            cells.push(of_index(&|c| c.change, model));
            cells.push(of_index(&|c| c.recovery, model));
        }
        cells
    };
    Some(Table {
        caption: "Components of the hidden states of what is watched, found on the forget set in the original model: how far \
                  forgetting moved them, for how far they are spread, and how much of that the attack undid"
            .into(),
        columns,
        rows: shown.iter().take(COMPONENTS).map(row).collect(),
    })
}
