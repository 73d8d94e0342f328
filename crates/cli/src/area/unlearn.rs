//! Unlearning.

use std::path::Path;

use amend_run::comparison::FinishedRun;
use amend_run::{RecipeSource, Run, Stop, load, stored};
use amend_unlearn::{Comparison, Outcome, UnlearnRecipe};
use serde_json::Value;

use super::{Area, Compared, Found, Input, Plan};
use crate::error::{Error, Topic};

pub(super) const AREA: Area = Area {
    name: "unlearn",
    summary: "make a model forget, attack it, and report what happened",
    starters: amend_unlearn::STARTERS,
    methods: || amend_unlearn::methods().collect(),
    schema: amend_run::recipe::schema_of::<UnlearnRecipe>,
    plan,
    read_results,
    compare,
};

pub(super) const ATTACK: &str = amend_unlearn::ATTACK;

pub(super) const DEMO: &str = amend_unlearn::DEMO;

fn plan(source: RecipeSource, sets: &[String]) -> Result<Plan, Error> {
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
    ];
    let data = files.iter().filter_map(|(key, chosen)| Some(Input::records(key, chosen.as_ref()?))).collect();
    let (looked_at, revised) = (recipe.clone(), recipe.clone());
    Ok(Plan {
        resolved: loaded.resolved,
        seed: recipe.seed,
        source,
        models,
        data,
        forecast: Box::new(move |base, progress| {
            Ok(amend_unlearn::forecast(&looked_at, base, progress, &Stop::default(), &|_| false)?)
        }),
        revise: Box::new(move |before, folder| {
            let before = load::<UnlearnRecipe>(before, &[])?.recipe;
            Ok(amend_unlearn::revise(&before, &revised, folder)?)
        }),
        work: Box::new(move |base, run| work(&recipe, base, run)),
    })
}

fn work(recipe: &UnlearnRecipe, base: &Path, run: &mut Run<'_>) -> Result<Found, Error> {
    let mut outcome = amend_unlearn::run(recipe, base, run)?;
    let superfluous = recipe.save.superfluous(&mut outcome, run.folder.path());
    let results = stored::to_value(&outcome);
    let results = results.map_err(|e| Error::plain(format!("the results cannot be written: {e}")))?;
    let dir = run.folder.path();
    Ok(Found { superfluous, cards: amend_unlearn::cards(&outcome, dir)?, ..found(&outcome, results, dir)? })
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
        .about(Topic::Run)
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
    Ok(Found { passed: outcome.passed, results, report, cards: Vec::new(), superfluous: Vec::new() })
}
