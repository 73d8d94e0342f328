//! Unlearning.

use std::path::Path;

use amend_run::comparison::FinishedRun;
use amend_run::{RecipePath, RecipeSource, Run, load, stored};
use amend_unlearn::{Comparison, Outcome, UnlearnRecipe};
use serde_json::Value;

use super::{Area, Compared, Found, Plan};
use crate::error::Error;

pub(super) const AREA: Area = Area {
    name: "unlearn",
    summary: "make a model forget, attack it, and report what happened",
    starter: amend_unlearn::STARTER,
    methods: || amend_unlearn::methods().collect(),
    schema: amend_run::recipe::schema_of::<UnlearnRecipe>,
    plan,
    read_results,
    compare,
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
    found(&outcome_of(&results, dir)?, results, dir)
}

fn outcome_of(results: &Value, dir: &Path) -> Result<Outcome, Error> {
    stored::from_value(results.clone()).map_err(|e| {
        Error::told(
            format!("{}: these are not the results of such a run: {e}", dir.join("results.json").display()),
            "another version of amend may have written them; run its recipe again",
        )
    })
}

fn compare(runs: &[FinishedRun]) -> Result<Compared, Error> {
    let outcomes =
        runs.iter().map(|run| outcome_of(&run.results, &run.dir)).collect::<Result<Vec<_>, _>>()?;
    let both: Vec<_> = runs.iter().zip(&outcomes).collect();
    let Comparison { warnings, tables, curves, results } = amend_unlearn::comparison(&both)?;
    Ok(Compared { warnings, tables, curves, results })
}

fn found(outcome: &Outcome, results: Value, dir: &Path) -> Result<Found, Error> {
    let report = amend_unlearn::report(outcome, dir)?;
    Ok(Found { passed: outcome.passed, results, report })
}
