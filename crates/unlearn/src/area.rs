//! Unlearning as the command line sees it.

use std::path::Path;

use amend_learn::area::{Area, Certified, Compared, Found, Input, Plan, Standings};
use amend_learn::{Error, Result};
use amend_run::comparison::FinishedRun;
use amend_run::method::Method;
use amend_run::recipe::schema_of;
use amend_run::{RecipeSource, Run, RunError, Stop, load, stored};
use serde_json::Value;

use crate::certificate::certified as certified_of;
use crate::forecast::forecast;
use crate::report::{cards, comparison, standings as standings_of};
use crate::revision::{revisable_stages, revise};
use crate::starter::STARTERS;
use crate::{Outcome, UnlearnRecipe, methods, report};

/// The area.
pub const AREA: Area = Area {
    name: "unlearn",
    summary: "make a model forget, attack it, and report what happened",
    starters: STARTERS,
    methods: all_methods,
    schema,
    plan,
    read_results,
    compare,
    standings,
    certified,
};

fn all_methods() -> Vec<&'static dyn Method> {
    methods().collect()
}

fn schema() -> Value {
    schema_of::<UnlearnRecipe>()
}

fn plan(source: RecipeSource, sets: &[String]) -> Result<Plan> {
    let loaded = load::<UnlearnRecipe>(source.clone(), sets)?;
    let recipe = loaded.recipe;
    let (model, data) = (&recipe.model, &recipe.data);
    let mut models = Vec::new();
    for (key, path) in [("model.path", &model.path), ("model.gold", &model.gold)] {
        models.extend(path.as_ref().map(|path| Input::model(key, path)));
    }
    models.extend(
        recipe.compare.models().map(|(arm, path)| Input::model(format!("compare.{arm}.model"), path)),
    );
    let files = [
        ("data.forget", &data.forget),
        ("data.retain", &data.retain),
        ("data.forget_eval", &data.forget_eval),
        ("data.retain_eval", &data.retain_eval),
        ("data.real_authors", &data.real_authors),
        ("data.world_facts", &data.world_facts),
        ("data.holdout", &data.holdout),
        ("data.unrelated", &data.unrelated),
        ("data.attack", &data.attack),
        ("data.attack_test", &data.attack_test),
    ];
    let data = files.iter().filter_map(|(key, chosen)| Some(Input::records(key, chosen.as_ref()?))).collect();
    let (looked_at, revisable, revised) = (recipe.clone(), recipe.clone(), recipe.clone());
    Ok(Plan {
        resolved: loaded.resolved,
        seed: recipe.seed,
        source,
        models,
        data,
        sets: sets.to_vec(),
        look: Box::new(move |base, progress| {
            forecast(&looked_at, base, progress, &Stop::default(), &|_| false)
        }),
        may_revise: Box::new(move |before, folder| {
            revisable_stages(&load::<UnlearnRecipe>(before, &[])?.recipe, &revisable, folder)
        }),
        revise: Box::new(move |before, folder| {
            revise(&load::<UnlearnRecipe>(before, &[])?.recipe, &revised, folder)
        }),
        work: Box::new(move |base, run| work(&recipe, base, run)),
    })
}

fn work(recipe: &UnlearnRecipe, base: &Path, run: &mut Run<'_>) -> Result<Found> {
    let mut outcome = crate::run(recipe, base, run)?;
    let dir = run.folder.path();
    let superfluous = recipe.save.superfluous(&mut outcome, dir);
    let results = stored::to_value(&outcome);
    let results = results.map_err(|e| Error::invalid(format!("the results cannot be written: {e}")))?;
    Ok(Found { superfluous, cards: cards(&outcome, dir)?, ..found(&outcome, results, dir)? })
}

fn read_results(results: Value, dir: &Path) -> Result<Found> {
    found(&outcome_of(&results, dir)?, results, dir)
}

fn outcome_of(results: &Value, dir: &Path) -> Result<Outcome> {
    stored::from_value(results.clone())
        .map_err(|e| RunError::Results { path: dir.join("results.json"), reason: e.to_string() }.into())
}

fn compare(runs: &[FinishedRun]) -> Result<Compared> {
    let outcomes = runs.iter().map(|run| outcome_of(&run.results, &run.dir)).collect::<Result<Vec<_>>>()?;
    let both: Vec<_> = runs.iter().zip(&outcomes).collect();
    comparison(&both)
}

fn standings(runs: &[FinishedRun]) -> Result<Standings> {
    let outcomes = runs.iter().map(|run| Ok((run, outcome_of(&run.results, &run.dir)?)));
    Ok(standings_of(&outcomes.collect::<Result<Vec<_>>>()?))
}

fn certified(runs: &[FinishedRun]) -> Result<Certified> {
    let outcomes = runs.iter().map(|run| Ok((run, outcome_of(&run.results, &run.dir)?)));
    certified_of(&outcomes.collect::<Result<Vec<_>>>()?)
}

fn found(outcome: &Outcome, results: Value, dir: &Path) -> Result<Found> {
    let report = report(outcome, dir)?;
    Ok(Found { passed: outcome.passed, results, report, cards: Vec::new(), superfluous: Vec::new() })
}
