//! A recipe that is changed while its run is interrupted: allowed where it changes nothing that was done.

use std::collections::BTreeMap;

use amend_learn::{Error, Result};
use amend_run::{Checkpoints, RunFolder};
use serde_json::{Value, json};

use crate::answers;
use crate::compare::Arm;
use crate::recipe::UnlearnRecipe;
use crate::stages::Stages;

/// The stages that a run has not done under `old` and would do otherwise under `new`; some may have begun.
///
/// # Errors
/// Where a stage that is done would have been another one under `new`.
pub(crate) fn revisable_stages(
    old: &UnlearnRecipe,
    new: &UnlearnRecipe,
    folder: &RunFolder,
) -> Result<Vec<String>> {
    new.check(&new.arms())?;
    if (&old.model, &old.data) != (&new.model, &new.data) {
        return Err(Error::conflict("another model or other data make another run; start a new one"));
    }
    let (before, after) = (stages(old)?, stages(new)?);
    let differs = |name: &&String| before.get(*name) != after.get(*name);
    let (done, open): (Vec<&String>, Vec<&String>) =
        before.keys().filter(differs).partition(|name| folder.stage_done(name));
    if let Some(first) = done.first() {
        return Err(Error::conflict(format!(
            "the stage {first} is done and would have been another one; start a new run, or change only what comes \
             after it"
        )));
    }
    Ok(open.into_iter().cloned().collect())
}

/// Makes an interrupted run ready to go on with `new` instead of `old`: its [`revisable_stages`], which are returned, begin
/// anew.
///
/// # Errors
/// As of these; and where files cannot be removed.
pub(crate) fn revise(old: &UnlearnRecipe, new: &UnlearnRecipe, folder: &RunFolder) -> Result<Vec<String>> {
    let open = revisable_stages(old, new, folder)?;
    let checkpoints = Checkpoints::new(folder.path(), 1).map_err(amend_run::RunError::from)?;
    for stage in &open {
        checkpoints.clear(stage).map_err(amend_run::RunError::from)?;
        answers::forget(folder.path(), stage)?;
    }
    Ok(open)
}

/// The stages of a run by name, each with all of the recipe that has influence on it. Model and data are the same for
/// all.
fn stages(recipe: &UnlearnRecipe) -> Result<BTreeMap<String, Value>> {
    let seeds = recipe.seeds();
    let value = |part: Result<Value, serde_json::Error>| part.map_err(|e| Error::conflict(e.to_string()));
    let common = json!({ "dtype": recipe.engine.dtype });
    let eval = value(serde_json::to_value(&recipe.eval))?;
    let stop = value(serde_json::to_value(&recipe.stop))?;
    let mut all = BTreeMap::new();
    for seed in &seeds {
        let stages = Stages::of(*seed, seeds.len());
        for made in [stages.base(), stages.gold()] {
            all.insert(made, json!([seed, common]));
        }
        for model in ["base", "gold"] {
            all.insert(stages.eval(model), json!([seed, common, eval]));
        }
        all.insert(stages.watched(), json!([seed, common, recipe.stop.watch, eval]));
        for arm in recipe.arms() {
            // Where an arm stops may be the gold model's figure, which rests on how that is measured.
            let unlearns = json!([
                seed,
                common,
                eval,
                stop,
                slots(&arm)?,
                recipe.save_dtype,
                arm.model,
                recipe.is_single()
            ]);
            all.insert(stages.eval(&arm.name), unlearns.clone());
            for (name, attack) in recipe.unlearn.attacks() {
                all.insert(stages.attack(&arm.name, &name), json!([unlearns, attack]));
            }
            all.insert(stages.unlearn(&arm.name), unlearns);
        }
        for (name, attack) in recipe.unlearn.attacks() {
            all.insert(stages.attack("gold", &name), json!([seed, common, eval, attack]));
        }
    }
    Ok(all)
}

/// What an arm's unlearning is made of: not its attacks, nor what is asked of it.
fn slots(arm: &Arm) -> Result<Value> {
    let slots = serde_json::to_value(&arm.slots)
        .and_then(|slots| Ok(json!([slots, serde_json::to_value(&arm.optimizer)?])));
    let mut slots = slots.map_err(|e| Error::conflict(e.to_string()))?;
    if let Some(of_arm) = slots[0].as_object_mut() {
        of_arm.retain(|key, _| key != "attack" && key != "verdict");
    }
    Ok(slots)
}
