//! Several runs side by side: their figures and claims, the differences to the first of them, their curves.

mod baseline;
mod pairs;

use amend_learn::area::Compared;
use amend_learn::{Error, Result};
use amend_run::comparison::FinishedRun;
use amend_run::report::{Cell, Section, Table};
use amend_run::step_log::{METRICS, StepLog};
use amend_run::{Figure, stored};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Attacked, Shown, curves, summary};
use crate::answers::{Row, of_arm};
use crate::outcome::{ArmFigures, ArmOutcome, Outcome};
use crate::verdict::Claim;
use pairs::Pairs;

/// A run among others.
struct Side<'a> {
    run: &'a FinishedRun,
    shown: &'a Shown<'a>,
    /// What its arms answered, arm by arm and seed by seed.
    answers: Vec<Vec<Vec<Row>>>,
}

/// An arm of a run, for programs.
#[derive(Serialize)]
struct ArmResults<'a> {
    run: &'a str,
    arm: &'a str,
    label: String,
    seeds: Vec<u64>,
    passed: Option<bool>,
    claims: &'a [Claim],
    figures: &'a ArmFigures,
}

/// Puts finished runs with their outcomes side by side. There are at least two, and the first is the baseline.
///
/// # Errors
/// Where the rows or answers that a run has logged cannot be read.
pub(crate) fn comparison(runs: &[(&FinishedRun, &Outcome)]) -> Result<Compared> {
    let names_arms = runs.iter().any(|(_, outcome)| outcome.arms.len() > 1);
    let mut shown = Vec::new();
    for (run, outcome) in runs {
        let rows = StepLog::read(&run.dir, METRICS)?;
        shown.push(Shown { outcome, name: Some(&run.name), names_arms, rows });
    }
    let mut sides = Vec::new();
    for ((run, outcome), shown) in runs.iter().zip(&shown) {
        let answers = outcome.arms.iter().map(|arm| of_arm(&run.dir, outcome, &arm.name));
        sides.push(Side { run, shown, answers: answers.collect::<Result<_>>()? });
    }
    let Some((baseline, others)) = sides.split_first() else {
        return Err(Error::invalid("there is no run to compare"));
    };
    let pairs: Vec<Pairs> = others.iter().map(|side| Pairs::of(side, baseline)).collect::<Result<_>>()?;
    let differences = baseline::differences(others, baseline, &pairs);
    let arms = || sides.iter().flat_map(|side| side.shown.arms().into_iter().map(move |arm| (side, arm)));

    let mut tables = vec![
        Section::Heading("Figures side by side".into()),
        Section::Prose(errors(&sides)),
        Section::Table(figures(&arms().map(|(_, arm)| arm).collect::<Vec<_>>())),
        Section::Heading(format!("Differences to {}", baseline.run.name)),
    ];
    tables.extend(differences.sections());
    let results = arms().map(|(side, (label, arm))| ArmResults {
        run: &side.run.name,
        arm: &arm.name,
        label,
        seeds: side.shown.outcome.seeds.iter().map(|seed| seed.seed).collect(),
        passed: arm.passed,
        claims: &arm.claims,
        figures: &arm.figures,
    });
    let results = json!({
        "arms": written(&results.collect::<Vec<_>>())?,
        "differences": written(&differences.rows)?,
        "unpaired": written(&differences.unpaired)?,
    });
    Ok(Compared { warnings: warnings(&sides, &pairs), tables, curves: overlaid(&shown), results })
}

fn written(value: &impl Serialize) -> Result<Value> {
    stored::to_value(value).map_err(|e| Error::invalid(format!("the comparison cannot be written: {e}")))
}

/// Every arm of every run, whether it passed, and its claims.
pub(super) fn figures(arms: &[(String, &ArmOutcome)]) -> Table {
    let counted = |figure: Figure| match figure.n {
        0 => Cell::from(figure),
        n => Cell::from(figure).noted(format!("n = {n}")),
    };
    let mut table = summary::claims_of(arms, counted);
    table.columns.insert(1, "verdict".into());
    for (row, (_, arm)) in table.rows.iter_mut().zip(arms) {
        row.insert(
            1,
            match arm.passed {
                None => Cell::from("nothing asked"),
                Some(true) => Cell::from("passed").good(),
                Some(false) => Cell::from("failed").bad(),
            },
        );
    }
    table
}

/// What the errors of the figures are over.
fn errors(sides: &[Side<'_>]) -> String {
    let seeds = |side: &Side<'_>| side.shown.outcome.seeds.len();
    let of = |several: bool| -> Vec<String> {
        let those = sides.iter().filter(|side| (seeds(side) > 1) == several);
        those.map(|side| format!("`{}`", side.run.name)).collect()
    };
    match (of(false), of(true)) {
        (_, several) if several.is_empty() => "One seed each: ± is the standard error over questions.".into(),
        (one, _) if one.is_empty() => "Several seeds each: ± is the standard error over seeds.".into(),
        (one, several) => format!(
            "± is the standard error over seeds for {}, and over questions for {}, which {} one seed.",
            summary::list(&several),
            summary::list(&one),
            if one.len() == 1 { "has" } else { "have" }
        ),
    }
}

/// What makes figures less comparable than they look.
fn warnings(sides: &[Side<'_>], pairs: &[Pairs]) -> Vec<String> {
    let Some((baseline, others)) = sides.split_first() else { return Vec::new() };
    let mut warnings = Vec::new();
    for (side, pairs) in others.iter().zip(pairs) {
        for (what, keys) in [("model", &pairs.other_models), ("data", &pairs.other_data)] {
            if !keys.is_empty() {
                warnings.push(format!(
                    "The {what} of `{}` is not that of `{}` ({}): their figures are not comparable item by item.",
                    side.run.name,
                    baseline.run.name,
                    keys.join(", ")
                ));
            }
        }
    }
    let arms: Vec<_> = sides.iter().flat_map(|side| side.shown.arms()).collect();
    let unmatched = summary::unmatched(arms.iter().map(|(label, arm)| (label.as_str(), *arm)));
    warnings.extend(unmatched.map(|unmatched| unmatched + "."));
    for side in sides {
        let of_run = |premise: &String| format!("`{}`: {premise}", side.run.name);
        warnings.extend(side.shown.outcome.premises.iter().map(of_run));
    }
    warnings
}

/// The curves of all arms in one plot each.
fn overlaid(runs: &[Shown<'_>]) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut progress = curves::progress(runs);
    progress.retain(|plot| !plot.series.is_empty());
    if !progress.is_empty() {
        sections.push(Section::Heading("While forgetting".into()));
        sections.extend(progress.into_iter().map(Section::Plot));
    }
    for attack in Attacked::all(runs) {
        sections.push(Section::Heading(format!("Attack: {}", attack.name)));
        sections.push(Section::Prose(attack.reading().to_owned()));
        sections.extend(curves::findings(&attack).into_iter().map(Section::Plot));
    }
    sections
}
