//! What fills each slot of each arm.

use std::path::Path;

use amend_learn::Result;
use amend_run::report::{Cell, Table};
use amend_run::{Figure, RecipeSource, load};
use serde::Serialize;
use serde_json::Value;

use crate::recipe::UnlearnRecipe;

/// The arms of the run in `dir`, with the fillers of their slots and what else they differ in, going by its recipe.
pub(super) fn of_arms(dir: &Path) -> Result<Table> {
    let path = dir.join("recipe.toml");
    let text =
        std::fs::read_to_string(&path).map_err(|e| amend_engine::Error::io(&path, "cannot read", e))?;
    let recipe = load::<UnlearnRecipe>(RecipeSource { path, text }, &[]).map_err(Box::new)?.recipe;
    let row = |arm: crate::compare::Arm| {
        if let Some(model) = &arm.model {
            let opened = Cell::from(format!("forgot elsewhere: {model}"));
            return vec![Cell::from(arm.name.as_str()), opened];
        }
        let slots = &arm.slots;
        let weights = slots.weights();
        vec![
            Cell::from(arm.name.as_str()),
            filler(&slots.forget),
            filler(&slots.retain),
            filler(&slots.combine),
            filler(&slots.r#where),
            filler(&slots.guard),
            Cell::from(format!("{} : {}", weights.forget, weights.retain)),
            Cell::from(format!("{:e}", arm.optimizer.lr)),
            Cell::from(Figure::exact(slots.batch_size as f64, 0)),
        ]
    };
    let columns = [
        "arm",
        "forget",
        "retain",
        "combine",
        "where",
        "guard",
        "forget\u{a0}:\u{a0}retain",
        "learning rate",
        "batch",
    ];
    Ok(Table {
        caption: "What fills each slot; `amend methods NAME` explains a filler".into(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: recipe.arms().into_iter().map(row).collect(),
    })
}

/// A filler by its name, with its options where it has any: `npo (beta 0.1)`.
fn filler(slot: &impl Serialize) -> Cell {
    let value = serde_json::to_value(slot).unwrap_or_default();
    match value {
        Value::String(name) => Cell::from(name),
        Value::Object(mut options) => {
            let name = options.shift_remove("name").and_then(|name| name.as_str().map(str::to_owned));
            let options: Vec<String> =
                options.iter().map(|(key, value)| format!("{key} {}", plain(value))).collect();
            let name = name.unwrap_or_default();
            if options.is_empty() { name.into() } else { format!("{name} ({})", options.join(", ")).into() }
        }
        other => Cell::from(other.to_string()),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "all".into(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        // Options in single precision: 0.1, not 0.10000000149011612.
        Value::Number(number) => match number.as_f64() {
            Some(x) if number.is_f64() && f64::from(x as f32) == x => (x as f32).to_string(),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}
