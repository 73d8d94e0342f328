//! Unlearning.

use std::path::Path;

use amend_learn::{Error as RunError, Run};
use amend_run::method::Method;
use amend_run::report::{Cell, Section, Table};
use amend_run::{RecipePath, RecipeSource, Report, load};
use amend_unlearn::{Outcome, UnlearnRecipe, Verdict};

use super::{Area, Found, Plan};
use crate::error::Error;

pub(super) const AREA: Area = Area {
    name: "unlearn",
    summary: "make a model forget, attack it, and report what happened",
    starter: amend_unlearn::STARTER,
    methods: || amend_unlearn::methods().collect::<Vec<&'static dyn Method>>(),
    schema: amend_run::recipe::schema_of::<UnlearnRecipe>,
    plan,
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

fn work(recipe: &UnlearnRecipe, base: &Path, run: &mut Run<'_>) -> amend_learn::Result<Found> {
    let outcome = amend_unlearn::run(recipe, base, run)?;
    // Through text and not `to_value`: an f32 of 0.1 stays 0.1.
    let results = serde_json::to_string(&outcome).and_then(|text| serde_json::from_str(&text));
    Ok(Found {
        positive: outcome.positive,
        results: results.map_err(|e| RunError::invalid(format!("the results cannot be written: {e}")))?,
        report: amend_unlearn::report(&outcome),
        summary: summary(&outcome),
    })
}

/// The comparison of the arms, and what was there before.
fn summary(outcome: &Outcome) -> Report {
    let mut report = Report::new("Unlearning");
    let accuracy = |name: &str, figure: &amend_run::Figure| (format!("{name} accuracy before"), figure.to_string());
    report.push(Section::KeyValues(vec![
        ("aim".into(), outcome.aim.clone()),
        accuracy("forget", &outcome.forget_accuracy_before),
        accuracy("retain", &outcome.retain_accuracy_before),
    ]));
    let columns = [
        "arm", "steps", "watched ↓", "forget accuracy ↓", "retain accuracy ↑", "retain kept ↑", "relearned ↓",
        "above gold ↓", "log10 p ↑", "utility ↑",
    ];
    report.push(Section::Table(Table {
        caption: "After unlearning, and after relearning".into(),
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        rows: outcome.verdicts.iter().map(row).collect(),
    }));
    report
}

fn row(verdict: &Verdict) -> Vec<Cell> {
    let judged = |cell: Cell, good: bool| if good { cell.good() } else { cell.bad() };
    let maybe = |figure: &Option<amend_run::Figure>| figure.clone().map_or_else(|| "–".into(), Cell::from);
    vec![
        verdict.name.as_str().into(),
        verdict.steps.clone().into(),
        judged(verdict.forget_watched.clone().into(), verdict.forgotten),
        verdict.forget_accuracy.clone().into(),
        verdict.retain_accuracy.clone().into(),
        judged(verdict.retain_kept.clone().into(), verdict.kept),
        maybe(&verdict.relearned_accuracy),
        maybe(&verdict.relearned_above_gold),
        maybe(&verdict.forget_quality_log10),
        maybe(&verdict.utility),
    ]
}
