//! Editing as the command line sees it.

use std::path::Path;

use amend_learn::area::{Area, Certified, Compared, Found, Input, Plan, Standings};
use amend_learn::{Error, Result};
use amend_run::comparison::FinishedRun;
use amend_run::frontier::Standing;
use amend_run::method::Method;
use amend_run::recipe::schema_of;
use amend_run::report::{Cell, Section, Table};
use amend_run::{Figure, RecipeSource, Run, RunError, load, stored};
use serde_json::{Value, json};

use crate::forecast::forecast;
use crate::recipe::Required;
use crate::report::{FIGURES, cards};
use crate::starter::STARTERS;
use crate::{EditRecipe, Outcome, methods, report};

/// The area.
pub const AREA: Area = Area {
    name: "edit",
    summary: "rewrite facts in a model, and measure what became of them and of everything else",
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
    schema_of::<EditRecipe>()
}

fn plan(source: RecipeSource, sets: &[String]) -> Result<Plan> {
    let loaded = load::<EditRecipe>(source.clone(), sets)?;
    let recipe = loaded.recipe;
    let models = recipe.model.path.iter().map(|path| Input::model("model.path", path)).collect();
    let records = [("data.text", &recipe.data.text), ("data.learn", &recipe.data.learn)];
    let mut data: Vec<Input> =
        recipe.data.edits.iter().map(|edits| Input::rows("data.edits", edits)).collect();
    data.extend(records.iter().filter_map(|(key, chosen)| Some(Input::records(key, chosen.as_ref()?))));
    let (looked_at, allowed, revised) = (recipe.clone(), recipe.clone(), recipe.clone());
    Ok(Plan {
        resolved: loaded.resolved,
        seed: recipe.seed,
        source,
        models,
        data,
        sets: sets.to_vec(),
        look: Box::new(move |base, progress| forecast(&looked_at, base, progress)),
        may_revise: Box::new(move |before, _| revisable(&load::<EditRecipe>(before, &[])?.recipe, &allowed)),
        revise: Box::new(move |before, _| revisable(&load::<EditRecipe>(before, &[])?.recipe, &revised)),
        work: Box::new(move |base, run| work(&recipe, base, run)),
    })
}

/// What an interrupted run would do otherwise: only what is asked of it may change, which no stage depends on.
fn revisable(old: &EditRecipe, new: &EditRecipe) -> Result<Vec<String>> {
    let rest = |recipe: &EditRecipe| EditRecipe { require: Required::default(), ..recipe.clone() };
    if rest(old) == rest(new) {
        return Ok(Vec::new());
    }
    Err(Error::conflict("of an interrupted run of edits only [require] can be changed; start a new run"))
}

fn work(recipe: &EditRecipe, base: &Path, run: &mut Run<'_>) -> Result<Found> {
    let outcome = crate::run(recipe, base, run)?;
    let results = stored::to_value(&outcome);
    let results = results.map_err(|e| Error::invalid(format!("the results cannot be written: {e}")))?;
    Ok(Found { cards: cards(&outcome), ..found(&outcome, results, run.folder.path())? })
}

fn read_results(results: Value, dir: &Path) -> Result<Found> {
    found(&outcome_of(&results, dir)?, results, dir)
}

fn outcome_of(results: &Value, dir: &Path) -> Result<Outcome> {
    stored::from_value(results.clone())
        .map_err(|e| RunError::Results { path: dir.join("results.json"), reason: e.to_string() }.into())
}

fn found(outcome: &Outcome, results: Value, dir: &Path) -> Result<Found> {
    let report = report(outcome, dir)?;
    Ok(Found { passed: outcome.passed, results, report, cards: Vec::new(), superfluous: Vec::new() })
}

fn outcomes_of(runs: &[FinishedRun]) -> Result<Vec<Outcome>> {
    runs.iter().map(|run| outcome_of(&run.results, &run.dir)).collect()
}

/// Every figure after the edits, run by run.
fn figures(runs: &[FinishedRun], outcomes: &[Outcome]) -> Table {
    let there =
        |(name, _): &&(&str, &str)| outcomes.iter().any(|outcome| outcome.after.figure(name).is_some());
    let row = |(name, words): &(&str, &str)| {
        let cell = |outcome: &Outcome| outcome.after.figure(name).map_or_else(|| Cell::from("–"), Cell::from);
        std::iter::once(Cell::from(*words)).chain(outcomes.iter().map(cell)).collect()
    };
    Table {
        caption: "What the edits are worth; more is better".into(),
        columns: std::iter::once(String::new()).chain(runs.iter().map(|run| run.name.clone())).collect(),
        rows: FIGURES.iter().filter(there).map(row).collect(),
    }
}

/// The same, a row for each run, with its verdict.
fn by_run(runs: &[FinishedRun], outcomes: &[Outcome]) -> Table {
    let turned = figures(runs, outcomes);
    let row = |(index, (run, outcome)): (usize, (&FinishedRun, &Outcome))| {
        let verdict = match outcome.passed {
            None => Cell::from("nothing asked"),
            Some(true) => Cell::from("passed").good(),
            Some(false) => Cell::from("failed").bad(),
        };
        let cells = turned.rows.iter().filter_map(|row| row.get(index + 1).cloned());
        [Cell::from(run.name.as_str()), verdict].into_iter().chain(cells).collect()
    };
    let names = turned.rows.iter().filter_map(|row| Some(row.first()?.text.clone()));
    Table {
        caption: turned.caption.clone(),
        columns: ["run".to_owned(), "verdict".to_owned()].into_iter().chain(names).collect(),
        rows: runs.iter().zip(outcomes).enumerate().map(row).collect(),
    }
}

fn compare(runs: &[FinishedRun]) -> Result<Compared> {
    let outcomes = outcomes_of(runs)?;
    let of_run = |(run, outcome): (&FinishedRun, &Outcome)| json!({ "name": run.name, "editor": outcome.editor, "after": outcome.after.to_json() });
    Ok(Compared {
        warnings: Vec::new(),
        tables: vec![Section::Table(figures(runs, &outcomes))],
        curves: Vec::new(),
        results: json!({ "runs": runs.iter().zip(&outcomes).map(of_run).collect::<Vec<_>>() }),
    })
}

/// What is still said otherwise against what stayed, both running free.
fn standings(runs: &[FinishedRun]) -> Result<Standings> {
    let outcomes = outcomes_of(runs)?;
    let unknown = Figure::exact(f64::NAN, 0);
    let standing = |(run, (finished, outcome)): (usize, (&FinishedRun, &Outcome))| {
        let said = outcome.after.figure("efficacy").unwrap_or(unknown);
        Standing {
            name: finished.name.clone(),
            run,
            group: outcome.editor.clone(),
            passed: outcome.passed,
            reached: outcome.require.efficacy.is_none_or(|least| said.value >= least),
            changed: Figure { value: 1.0 - said.value, ..said },
            kept: outcome.after.figure("locality").unwrap_or(unknown),
        }
    };
    Ok(Standings {
        changed: "new targets not said".into(),
        aim: None,
        kept: "locality, running free".into(),
        incomparable: None,
        all: runs.iter().zip(&outcomes).enumerate().map(standing).collect(),
        table: by_run(runs, &outcomes),
    })
}

fn certified(runs: &[FinishedRun]) -> Result<Certified> {
    let run = runs.first().map_or_else(String::new, |run| format!("{}: ", run.dir.display()));
    Err(Error::invalid(format!("{run}runs of edits cannot be certified; those of unlearning can")))
}
