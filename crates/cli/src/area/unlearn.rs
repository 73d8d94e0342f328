//! Unlearning.

use std::path::Path;

use amend_run::{RecipePath, RecipeSource, Run, load, stored};
use amend_unlearn::{Outcome, UnlearnRecipe};
use serde_json::Value;

use super::{Area, Found, Plan};
use crate::error::{Error, Topic};

pub(super) const AREA: Area = Area {
    name: "unlearn",
    summary: "make a model forget, attack it, and report what happened",
    starter: amend_unlearn::STARTER,
    methods: || amend_unlearn::methods().collect(),
    schema: amend_run::recipe::schema_of::<UnlearnRecipe>,
    plan,
    read_results,
};

pub(super) const DEMO: &str = amend_unlearn::DEMO;

fn plan(source: RecipeSource, sets: &[String]) -> Result<Plan, Error> {
    let loaded = load::<UnlearnRecipe>(source, sets)?;
    let recipe = loaded.recipe;
    let given = |paths: &[&Option<RecipePath>]| paths.iter().filter_map(|path| (*path).clone()).collect();
    let (model, data) = (&recipe.model, &recipe.data);
    Ok(Plan {
        resolved: loaded.resolved,
        seed: recipe.seed,
        models: given(&[&model.path, &model.gold]),
        data: given(&[
            &data.forget,
            &data.retain,
            &data.forget_eval,
            &data.retain_eval,
            &data.real_authors,
            &data.world_facts,
        ]),
        work: Box::new(move |base, run| work(&recipe, base, run)),
    })
}

fn work(recipe: &UnlearnRecipe, base: &Path, run: &mut Run<'_>) -> Result<Found, Error> {
    let outcome = amend_unlearn::run(recipe, base, run)?;
    let results = stored::to_value(&outcome);
    let results = results.map_err(|e| Error::plain(format!("the results cannot be written: {e}")))?;
    found(&outcome, results, run.folder.path())
}

fn read_results(results: Value, dir: &Path) -> Result<Found, Error> {
    let outcome: Outcome = stored::from_value(results.clone()).map_err(|e| {
        Error::plain(format!("{}: {e}", dir.join("results.json").display())).about(Topic::Run)
    })?;
    found(&outcome, results, dir)
}

fn found(outcome: &Outcome, results: Value, dir: &Path) -> Result<Found, Error> {
    let report = amend_unlearn::report(outcome, dir)?;
    Ok(Found { passed: outcome.passed, results, report })
}
